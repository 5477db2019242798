"""Servers that wait by poll, by select and by epoll, one process each, and clients that keep them at work.

What `cargo xtask dashboards --verify` looks at beside real servers: every result of a wait, every kind of time-out,
large sets, a callback that blocks, and epoll_ctl calls that fail. Ends when its standard input does.
"""

import os
import select
import socket
import sys
import time


def name(comm):
    with open("/proc/self/comm", "w") as file:
        file.write(comm)


def work(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def answer(fd):
    if not os.read(fd, 64):
        # The clients have ended.
        os._exit(0)
    os.write(fd, b"answer")


def poll_server(fds):
    name("poll-server")
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    turn = 0
    while True:
        turn += 1
        # Now and then a glance without waiting, as programs do that have other work.
        for fd, _ in poll.poll(0 if turn % 5 == 0 else 20):
            answer(fd)
        work(0.02 if turn % 200 == 0 else 0.0002)


def select_server(fds):
    name("select-server")
    # High descriptors make large sets.
    fds = [os.dup2(fd, 700 + i) for i, fd in enumerate(fds)]
    while True:
        ready, _, _ = select.select(fds, [], [], 0.03)
        for fd in ready:
            answer(fd)
        work(0.0005)


def epoll_server(fds):
    name("epoll-server")
    epoll = select.epoll()
    for fd in fds:
        epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
    turn = 0
    while True:
        turn += 1
        for fd, _ in epoll.poll(0.05, 4):
            answer(fd)
            epoll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
        if turn % 50 == 0:
            try:
                epoll.register(fds[0], select.EPOLLIN)
            except FileExistsError:
                pass
        # A callback that blocks for long.
        time.sleep(0.25 if turn % 400 == 0 else 0.0003)


def client(fds):
    name("set-clients")
    turn = 0
    parent = os.getppid()
    while os.getppid() == parent:
        turn += 1
        for fd in fds[: 1 + turn % len(fds)]:
            os.write(fd, b"question")
        for fd in fds[: 1 + turn % len(fds)]:
            os.read(fd, 64)
        # Slow and fast by turns, so that a picture shows something.
        time.sleep(0.002 + 0.01 * (int(time.monotonic() / 10) % 3))


def main():
    children = []
    for server in [poll_server, select_server, epoll_server]:
        pairs = [socket.socketpair() for _ in range(40)]
        for end, run in enumerate([server, client]):
            child = os.fork()
            if child == 0:
                for pair in pairs:
                    pair[1 - end].close()
                try:
                    run([pair[end].fileno() for pair in pairs])
                finally:
                    os._exit(0)
            children.append(child)
        for pair in pairs:
            pair[0].close()
            pair[1].close()
    print("ready", flush=True)
    sys.stdin.read()
    for child in children:
        os.kill(child, 15)


main()
