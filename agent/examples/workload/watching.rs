//! Interest sets of a known content, for comparison with /proc/PID/fdinfo: many entries, closed ones, inherited ones,
//! nested instances, and one that another thread changes without pause.
//!
//! Must leave open what it says that it left open.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    tally::Waiter,
};

/// Lets this process open as many descriptors as it may.
fn raise_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// Adds `count` eventfds to an instance, every other one edge-triggered.
fn fill(epfd: &OwnedFd, count: u64) -> Result<Vec<OwnedFd>> {
    raise_limit()?;
    let mut watched = Vec::new();
    for i in 0..count {
        let event = calls::event(0)?;
        let flags = if i % 2 == 1 { libc::EPOLLIN | libc::EPOLLET } else { libc::EPOLLIN };
        calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_ADD, event.as_raw_fd(), Some(flags))?;
        watched.push(event);
    }
    Ok(watched)
}

/// `count` entries; the first `gone` closed for good, the next `kept` closed with a dup that keeps them watched.
pub fn many(count: u64, gone: u64, kept: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let watched = fill(&epfd, count)?;
    let mut left = Vec::new();
    for (i, event) in (0..).zip(watched) {
        if i < gone {
            drop(event);
        } else if i < gone + kept {
            left.push(rustix::io::dup(&event)?);
        } else {
            left.push(event);
        }
    }
    let fd = epfd.as_raw_fd();
    std::mem::forget((epfd, left));
    Ok(json!({ "epfd": fd, "total": count - gone, "stale": kept }))
}

/// `count` entries; a forked child that holds the instance closes nothing, and the parent closes `closed` of them.
pub fn inherited(count: u64, closed: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let mut watched = fill(&epfd, count)?;
    let Some(child) = calls::fork()? else {
        thread::sleep(Duration::from_secs(60));
        calls::leave();
    };
    watched.drain(..usize::try_from(closed)?);
    let fd = epfd.as_raw_fd();
    std::mem::forget((epfd, watched));
    Ok(json!({ "epfd": fd, "total": count, "closed": closed, "child": child }))
}

/// An instance that is passed to a child over a socket. Each of the two processes adds entries of its own, which the other
/// has no descriptors of; then the parent waits.
pub fn passed(own: u64, theirs: u64) -> Result<()> {
    let (parent_end, child_end) = UnixStream::pair()?;
    let Some(child) = calls::fork()? else {
        drop(parent_end);
        let epfd = receive(&child_end)?;
        // Descriptors that mean something else in the parent, if anything.
        let watched = fill(&epfd, theirs)?;
        (&child_end).write_all(&epfd.as_raw_fd().to_ne_bytes())?;
        let _ = (&child_end).read(&mut [0]);
        drop((epfd, watched));
        calls::leave();
    };
    drop(child_end);
    // So that the two have it by different numbers.
    let between = calls::event(0)?;
    let epfd = calls::create()?;
    let watched = fill(&epfd, own)?;
    pass(&parent_end, &epfd)?;
    let mut number = [0; 4];
    (&parent_end).read_exact(&mut number)?;
    Waiter::new(&epfd, Call::Wait).wait(8, Limit::Zero)?;
    let fd = epfd.as_raw_fd();
    std::mem::forget((epfd, watched, parent_end, between));
    crate::say(&json!({
        "epfd": fd, "child": child, "child_epfd": i32::from_ne_bytes(number), "own": own, "theirs": theirs,
    }))
}

/// Room for one descriptor in a message's ancillary data: a header, and a number padded to eight bytes.
type Ancillary = [u64; 4];

/// A message of one byte, with room for a descriptor; it points into what it is given.
fn message(byte: &mut libc::iovec, room: &mut Ancillary) -> libc::msghdr {
    // SAFETY: zero is a value of msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (byte, 1);
    message.msg_control = room.as_mut_ptr().cast();
    // SAFETY: the macro computes a number.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<i32>() as u32) } as _;
    message
}

/// Sends a descriptor (unix(7): SCM_RIGHTS).
fn pass(socket: &UnixStream, fd: &OwnedFd) -> Result<()> {
    let (mut byte, mut room) = (0_u8, Ancillary::default());
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let message = message(&mut part, &mut room);
    // SAFETY: the room is aligned and large enough for one header and one descriptor, and outlives the call.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd.as_raw_fd());
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    ensure!(sent == 1, "sendmsg: {}", io::Error::last_os_error());
    Ok(())
}

/// Receives a descriptor.
fn receive(socket: &UnixStream) -> Result<OwnedFd> {
    let (mut byte, mut room) = (0_u8, Ancillary::default());
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut message = message(&mut part, &mut room);
    // SAFETY: as in `pass`; the kernel has put a descriptor there where the header says so, and it is nobody else's.
    unsafe {
        let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        ensure!(received == 1 && !header.is_null(), "recvmsg: {}", io::Error::last_os_error());
        ensure!((*header).cmsg_type == libc::SCM_RIGHTS, "no descriptor came");
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned()))
    }
}

/// An instance that `children` processes inherit; each waits on it as often as its number says, and so does the parent,
/// once.
pub fn waited(children: u64) -> Result<()> {
    let (epfd, ready) = (calls::create()?, calls::event(1)?);
    calls::add(&epfd, &ready)?;
    let (mut answers, answer) = io::pipe()?;
    let (mut stay, keep) = io::pipe()?;
    let mut rows = Vec::new();
    for number in 1..=children {
        let Some(child) = calls::fork()? else {
            drop((answers, keep));
            let mut waiter = Waiter::new(&epfd, Call::Wait);
            for _ in 0..=number {
                waiter.wait(8, Limit::Zero)?;
            }
            (&answer).write_all(b"x")?;
            // Until the parent ends.
            let _ = stay.read(&mut [0]);
            calls::leave();
        };
        answers.read_exact(&mut [0])?;
        rows.push(json!({ "pid": child, "waits": number + 1 }));
    }
    Waiter::new(&epfd, Call::Wait).wait(8, Limit::Zero)?;
    rows.push(json!({ "pid": std::process::id(), "waits": 1 }));
    let fd = epfd.as_raw_fd();
    std::mem::forget((epfd, ready, keep));
    crate::say(&json!({ "epfd": fd, "rows": rows }))
}

/// An instance that watches one that watches one.
pub fn nested() -> Result<Value> {
    let chain = [calls::create()?, calls::create()?, calls::create()?];
    let event = calls::event(0)?;
    for pair in chain.windows(2) {
        let [outer, inner] = pair else { continue };
        calls::add(outer, inner)?;
    }
    calls::add(chain.last().context("three instances")?, &event)?;
    let fds: Vec<i32> = chain.iter().map(AsRawFd::as_raw_fd).collect();
    std::mem::forget((chain, event));
    Ok(json!({ "epfds": fds }))
}

/// `count` entries that stay, while a thread adds and removes another one for `millis` ms, as fast as it can.
pub fn moving(count: u64, millis: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let watched = fill(&epfd, count)?;
    let extra = calls::event(0)?;
    let (instance, event) = (epfd.as_raw_fd(), extra.as_raw_fd());
    crate::say(&json!({ "epfd": instance }))?;
    let cpu_before = clock_gettime(ClockId::ThreadCPUTime);
    let end = Instant::now() + Duration::from_millis(millis);
    let mut longest = Duration::ZERO;
    let mut calls = 0_u64;
    while Instant::now() < end {
        for op in [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_DEL] {
            let start = Instant::now();
            calls::control(instance, op, event, Some(libc::EPOLLIN))?;
            longest = longest.max(start.elapsed());
            calls += 1;
        }
    }
    let cpu = clock_gettime(ClockId::ThreadCPUTime) - cpu_before;
    let cpu_ns = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
    std::mem::forget((epfd, watched, extra));
    Ok(json!({ "calls": calls, "cpu_ns": cpu_ns, "longest_ns": u64::try_from(longest.as_nanos())? }))
}
