//! Interest sets whose every entry is known, and waits that count which entry delivered each event: what `inspect`
//! shows is compared with it.
//!
//! Each scenario prints what it has set up, waits for a line, delivers, and prints what it has seen.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    os::unix::net::{UnixListener, UnixStream},
};

use anyhow::{Result, ensure};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use serde_json::{Value, json};

use crate::{calls, hear, say};

/// Room for the events of a wait: more than the probes look at.
const ROOM: usize = 128;
/// Events of the one wait that fills it further than the probes look.
const CROWD: usize = 100;

/// An instance, and the events that each user data word delivered.
struct Watcher {
    epfd: OwnedFd,
    seen: BTreeMap<u64, u64>,
}

impl Watcher {
    fn new() -> Result<Watcher> {
        Ok(Watcher { epfd: calls::create()?, seen: BTreeMap::new() })
    }

    fn control(&self, op: i32, fd: &impl AsRawFd, events: i32, data: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: data };
        // SAFETY: the event lives through the call.
        let result = unsafe { libc::epoll_ctl(self.epfd.as_raw_fd(), op, fd.as_raw_fd(), &mut event) };
        ensure!(result == 0, "epoll_ctl: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Adds a descriptor with its number as user data.
    fn add(&self, fd: &impl AsRawFd, events: i32) -> Result<()> {
        self.add_as(fd, events, fd.as_raw_fd().cast_unsigned().into())
    }

    fn add_as(&self, fd: &impl AsRawFd, events: i32, data: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, data)
    }

    /// One wait without waiting, counted by user data; how many events it delivered.
    fn wait(&mut self) -> Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; ROOM];
        // SAFETY: the buffer has room for as many events.
        let found = unsafe { libc::epoll_wait(self.epfd.as_raw_fd(), events.as_mut_ptr(), ROOM as i32, 0) };
        let found = usize::try_from(found)?;
        for event in events.iter().take(found) {
            *self.seen.entry(event.u64).or_default() += 1;
        }
        Ok(found)
    }

    /// Makes an eventfd ready `times` times, and drains it after each wait.
    fn deliver(&mut self, event: &OwnedFd, times: u64) -> Result<()> {
        for _ in 0..times {
            rustix::io::write(event, &1_u64.to_ne_bytes())?;
            ensure!(self.wait()? == 1, "one entry is ready");
            rustix::io::read(event, &mut [0; 8])?;
        }
        Ok(())
    }

    fn sum(&self) -> u64 {
        self.seen.values().sum()
    }
}

fn number(fd: &impl AsRawFd) -> i32 {
    fd.as_raw_fd()
}

/// Entries of every sort, and what each delivered.
pub fn run() -> Result<()> {
    let (mut main, mut crowd) = (Watcher::new()?, Watcher::new()?);
    let level: Vec<OwnedFd> = (0..5).map(|_| calls::event(0)).collect::<Result<_, _>>()?;
    for event in &level {
        main.add(event, libc::EPOLLIN)?;
    }
    let edge = calls::event(0)?;
    main.add(&edge, libc::EPOLLIN | libc::EPOLLET)?;
    let twins = [calls::event(0)?, calls::event(0)?];
    for twin in &twins {
        main.add_as(twin, libc::EPOLLIN | libc::EPOLLPRI, 1 << 40)?;
    }
    let leaver = calls::event(0)?;
    main.add(&leaver, libc::EPOLLIN)?;
    let changer = calls::event(0)?;
    main.add(&changer, libc::EPOLLIN)?;
    let closed = calls::event(0)?;
    main.add(&closed, libc::EPOLLIN | libc::EPOLLONESHOT)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    main.add(&timer, libc::EPOLLIN)?;
    let busy: Vec<OwnedFd> = (0..CROWD).map(|_| calls::event(1)).collect::<Result<_, _>>()?;
    for event in &busy {
        crowd.add(event, libc::EPOLLIN)?;
    }
    let newcomer = calls::event(0)?;
    let (stale, kept) = (number(&closed), rustix::io::dup(&closed)?);
    drop(closed);
    say(&json!({
        "pid": std::process::id(), "main": number(&main.epfd), "crowd": number(&crowd.epfd), "stale": stale,
        "twins": twins.iter().map(number).collect::<Vec<_>>(), "edge": number(&edge), "timer": number(&timer),
        "changer": number(&changer),
    }))?;
    hear();
    for (event, times) in level.iter().zip(1..) {
        main.deliver(event, times)?;
    }
    main.deliver(&edge, 3)?;
    for twin in &twins {
        main.deliver(twin, 2)?;
    }
    main.deliver(&leaver, 4)?;
    main.control(libc::EPOLL_CTL_DEL, &leaver, 0, 0)?;
    main.deliver(&changer, 5)?;
    main.control(libc::EPOLL_CTL_MOD, &changer, libc::EPOLLIN, 1 << 41)?;
    main.deliver(&changer, 6)?;
    main.deliver(&kept, 1)?;
    let soon = Timespec { tv_sec: 0, tv_nsec: 1 };
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let setting = Itimerspec { it_interval: never, it_value: soon };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
    while main.wait()? == 0 {}
    rustix::io::read(&timer, &mut [0; 8])?;
    ensure!(crowd.wait()? == CROWD, "all of the crowd are ready");
    main.add(&newcomer, libc::EPOLLIN)?;
    main.deliver(&newcomer, 7)?;
    say(&json!({
        "level": level.iter().map(number).collect::<Vec<_>>(), "newcomer": number(&newcomer), "sum": main.sum(),
        "gone": 4 + 5 + 6, "crowd": CROWD,
    }))?;
    std::mem::forget((
        main.epfd, crowd.epfd, level, edge, twins, leaver, changer, kept, timer, busy, newcomer,
    ));
    Ok(())
}

/// Watches one descriptor of each kind; four instances, each of which watches the next.
pub fn kinds() -> Result<Value> {
    let main = Watcher::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, pid) = (listener.local_addr()?, std::process::id());
    let (stream, waiting) = (TcpStream::connect(address)?, TcpStream::connect(address)?);
    let (mut accepted, _) = listener.accept()?;
    accepted.write_all(b"eleven byte")?;
    let datagrams = UdpSocket::bind("127.0.0.1:0")?;
    // A path and an abstract name, which a socket has by a zero byte.
    let path = std::env::temp_dir().join(format!("loopscope-watching-{pid}"));
    let unix = UnixListener::bind(&path)?;
    let (client, _) = (UnixStream::connect(&path)?, std::fs::remove_file(&path)?);
    let (served, _) = unix.accept()?;
    let (reader, writer) = std::io::pipe()?;
    let event = calls::event(0)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let inotify = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::NONBLOCK)?;
    let mounts = std::fs::File::open("/proc/self/mounts")?;
    let all = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP;
    main.add(&listener, libc::EPOLLIN | libc::EPOLLEXCLUSIVE)?;
    main.add(&stream, all)?;
    main.add(&unix, libc::EPOLLIN)?;
    let fds: [(&str, i32); 8] = [
        ("udp", number(&datagrams)),
        ("pipe", number(&reader)),
        ("eventfd", number(&event)),
        ("timerfd", number(&timer)),
        ("inotify", number(&inotify)),
        ("file", number(&mounts)),
        ("unix", number(&served)),
        ("unix", number(&client)),
    ];
    for (_, fd) in &fds {
        calls::control(main.epfd.as_raw_fd(), libc::EPOLL_CTL_ADD, *fd, Some(libc::EPOLLIN))?;
    }
    let nests = [Watcher::new()?, Watcher::new()?, Watcher::new()?];
    main.add(&nests[0].epfd, libc::EPOLLIN)?;
    nests[0].add(&nests[1].epfd, libc::EPOLLIN)?;
    nests[1].add(&nests[2].epfd, libc::EPOLLIN)?;
    nests[2].add(&event, libc::EPOLLIN)?;
    let done = json!({
        "main": number(&main.epfd), "nests": nests.iter().map(|nest| number(&nest.epfd)).collect::<Vec<_>>(),
        "fds": fds, "listener": number(&listener), "address": address.to_string(),
        "stream": number(&stream), "local": stream.local_addr()?.to_string(), "unread": 11,
        "unix": number(&unix), "client": number(&client), "served": number(&served), "path": path,
        "datagrams": datagrams.local_addr()?.to_string(),
    });
    std::mem::forget((main, nests, listener, stream, waiting, accepted, datagrams, unix, client, served));
    std::mem::forget((reader, writer, event, timer, inotify, mounts));
    Ok(done)
}

/// An instance that a child inherits: the child alone has one of its entries still. One of the two waits.
pub fn inherited(parent_waits: bool) -> Result<()> {
    let mut main = Watcher::new()?;
    let (kept, left) = (calls::event(0)?, calls::event(0)?);
    main.add(&kept, libc::EPOLLIN)?;
    main.add(&left, libc::EPOLLIN)?;
    let (mut told, tell) = std::io::pipe()?;
    let Some(child) = calls::fork()? else {
        // Both waits and closes happen when the parent says so.
        let mut line = [0; 1];
        drop(tell);
        if std::io::Read::read(&mut told, &mut line).is_ok_and(|read| read == 1) && !parent_waits {
            main.deliver(&kept, 9)?;
            main.deliver(&left, 2)?;
            say(&json!({ "seen": main.sum() }))?;
        }
        let _ = std::io::Read::read(&mut told, &mut line);
        calls::leave();
    };
    let (main_fd, kept_fd, left_fd) = (number(&main.epfd), number(&kept), number(&left));
    drop(left);
    say(&json!({ "child": child, "main": main_fd, "kept": kept_fd, "left": left_fd }))?;
    hear();
    rustix::io::write(&tell, b"g")?;
    if parent_waits {
        main.deliver(&kept, 9)?;
        say(&json!({ "seen": main.sum() }))?;
    }
    std::mem::forget((main.epfd, kept, tell));
    Ok(())
}

/// Loops that share a listening socket: as many processes as are asked for, each of which has its own instance and takes
/// as many connections as its number says.
pub fn shared(processes: u64) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let mut turns = Vec::new();
    let mut children = Vec::new();
    let (mut answers, answer) = std::io::pipe()?;
    for turn in 1..=processes {
        let (mut told, tell) = std::io::pipe()?;
        let Some(child) = calls::fork()? else {
            drop((tell, turns));
            let mut main = Watcher::new()?;
            main.add(&listener, libc::EPOLLIN | libc::EPOLLEXCLUSIVE)?;
            let mut line = [0; 1];
            for _ in 0..=turn {
                (&answer).write_all(b"x")?;
                if std::io::Read::read(&mut told, &mut line)? == 0 {
                    break;
                }
                ensure!(main.wait()? == 1, "the listener is ready");
                listener.accept()?;
            }
            let _ = std::io::Read::read(&mut told, &mut line);
            calls::leave();
        };
        turns.push(tell);
        children.push(child);
        std::io::Read::read(&mut answers, &mut [0; 1])?;
    }
    say(&json!({ "children": children, "address": address.to_string(), "listener": number(&listener) }))?;
    hear();
    let mut streams = Vec::new();
    for (tell, turn) in turns.iter().zip(1..) {
        for _ in 0..turn {
            streams.push(TcpStream::connect(address)?);
            let mut tell = tell;
            tell.write_all(b"g")?;
            std::io::Read::read(&mut answers, &mut [0; 1])?;
        }
    }
    say(&json!({ "turns": processes }))?;
    std::mem::forget((listener, turns, streams));
    Ok(())
}
