//! epoll_ctl calls of every kind, on one instance, by a thread that also waits and by one that never does.
//!
//! Must reach each flag, and each errno that can be had without exhausting a limit of the host.

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd, OwnedFd},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, ensure};
use libc::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLEXCLUSIVE, EPOLLIN, EPOLLONESHOT, EPOLLWAKEUP,
};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    tally::Waiter,
};

/// Calls that count themselves.
#[derive(Default)]
struct Calls {
    add: u64,
    change: u64,
    del: u64,
    errors: BTreeMap<&'static str, u64>,
    edge: u64,
    oneshot: u64,
    exclusive: u64,
    wakeup: u64,
}

impl Calls {
    /// One call that succeeds.
    fn make(&mut self, epfd: i32, op: i32, fd: i32, flags: i32) -> Result<()> {
        calls::control(epfd, op, fd, Some(flags)).with_context(|| format!("epoll_ctl {op} {flags:#x}"))?;
        match op {
            EPOLL_CTL_ADD => self.add += 1,
            EPOLL_CTL_MOD => self.change += 1,
            _ => self.del += 1,
        }
        if op != EPOLL_CTL_DEL {
            self.edge += u64::from(flags & EPOLLET != 0);
            self.oneshot += u64::from(flags & EPOLLONESHOT != 0);
            self.exclusive += u64::from(flags & EPOLLEXCLUSIVE != 0);
            self.wakeup += u64::from(flags & EPOLLWAKEUP != 0);
        }
        Ok(())
    }

    /// One call that fails, as it should.
    fn fail(&mut self, epfd: i32, op: i32, fd: i32, flags: Option<i32>, with: Errno) -> Result<()> {
        let name = match with {
            Errno::BADF => "EBADF",
            Errno::EXIST => "EEXIST",
            Errno::FAULT => "EFAULT",
            Errno::INVAL => "EINVAL",
            Errno::LOOP => "ELOOP",
            Errno::NOENT => "ENOENT",
            Errno::PERM => "EPERM",
            _ => "other",
        };
        let result = calls::control(epfd, op, fd, flags);
        ensure!(result == Err(with), "epoll_ctl {op}: {result:?} instead of {name}");
        *self.errors.entry(name).or_default() += 1;
        Ok(())
    }

    fn done(&self, epfd: i32) -> Value {
        json!({
            "epfd": epfd, "add": self.add, "mod": self.change, "del": self.del, "errors": self.errors,
            "flags": {
                "edge": self.edge, "oneshot": self.oneshot, "exclusive": self.exclusive, "wakeup": self.wakeup
            },
        })
    }
}

/// Everything on one instance, which is waited on once; then a second instance that only a thread without waits
/// ever touches.
pub fn run() -> Result<Value> {
    let (epfd, silent) = (calls::create()?, calls::create()?);
    let mut calls = Calls::default();
    successes(&mut calls, &epfd)?;
    failures(&mut calls, &epfd)?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    waiter.wait(8, Limit::Zero)?;
    let aside = aside(&epfd, &silent)?;
    calls.add += 2;
    calls.del += 1;
    calls.edge += 2;
    let done = json!({
        "rows": [waiter.done()],
        "ctl": [calls.done(epfd.as_raw_fd()), aside],
    });
    std::mem::forget((epfd, silent));
    Ok(done)
}

/// Adds, mods and dels that succeed, with every flag.
fn successes(calls: &mut Calls, epfd: &OwnedFd) -> Result<()> {
    let epfd = epfd.as_raw_fd();
    let kinds = [0, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT, EPOLLWAKEUP];
    for flags in kinds.into_iter().cycle().take(20) {
        let event = calls::event(0)?;
        let fd = event.as_raw_fd();
        calls.make(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | flags)?;
        calls.make(epfd, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET)?;
        calls.make(epfd, EPOLL_CTL_MOD, fd, EPOLLIN)?;
        calls.make(epfd, EPOLL_CTL_DEL, fd, EPOLLIN | EPOLLET)?;
        calls.make(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE)?;
        // It leaves the interest set without a call.
        drop(event);
    }
    Ok(())
}

/// Each errno, a different number of times.
fn failures(calls: &mut Calls, epfd: &OwnedFd) -> Result<()> {
    let outer = epfd.as_raw_fd();
    let (event, inner) = (calls::event(0)?, calls::create()?);
    let file = std::fs::File::open(std::env::current_exe()?)?;
    let (fd, inner_fd, file) = (event.as_raw_fd(), inner.as_raw_fd(), file.as_raw_fd());
    let some = Some(EPOLLIN | EPOLLET);
    for _ in 0..2 {
        calls.fail(outer, EPOLL_CTL_DEL, fd, some, Errno::NOENT)?;
        calls.fail(outer, EPOLL_CTL_MOD, fd, some, Errno::NOENT)?;
    }
    calls.make(outer, EPOLL_CTL_ADD, fd, EPOLLIN)?;
    for _ in 0..3 {
        calls.fail(outer, EPOLL_CTL_ADD, fd, some, Errno::EXIST)?;
        calls.fail(outer, EPOLL_CTL_ADD, file, some, Errno::PERM)?;
        // Which descriptor is meant to be bad does not matter: the instance is a good one.
        calls.fail(outer, EPOLL_CTL_ADD, -1, some, Errno::BADF)?;
        calls.fail(outer, EPOLL_CTL_DEL, 1 << 20, some, Errno::BADF)?;
    }
    calls.fail(outer, EPOLL_CTL_ADD, outer, some, Errno::INVAL)?;
    calls.fail(outer, 77, fd, some, Errno::INVAL)?;
    calls.fail(outer, EPOLL_CTL_MOD, fd, Some(EPOLLIN | EPOLLEXCLUSIVE), Errno::INVAL)?;
    calls.fail(outer, EPOLL_CTL_ADD, file, None, Errno::FAULT)?;
    calls.make(outer, EPOLL_CTL_ADD, inner_fd, EPOLLIN)?;
    // Counts for the inner one, on which nobody ever waits.
    calls::control(inner_fd, EPOLL_CTL_ADD, outer, some).err().context("a cycle was accepted")?;
    calls.make(outer, EPOLL_CTL_DEL, inner_fd, EPOLLIN)
}

/// A thread that never waits, and stays, changes both instances: two adds (ET) and a del on the first, five adds (LT)
/// on the second, which are returned.
fn aside(epfd: &OwnedFd, silent: &OwnedFd) -> Result<Value> {
    let (first, second) = (epfd.as_raw_fd(), silent.as_raw_fd());
    let work = move || -> Result<Value> {
        let mut calls = Calls::default();
        for i in 0..2 {
            let event = calls::event(0)?;
            Calls::default().make(first, EPOLL_CTL_ADD, event.as_raw_fd(), EPOLLIN | EPOLLET)?;
            if i == 0 {
                Calls::default().make(first, EPOLL_CTL_DEL, event.as_raw_fd(), 0)?;
            }
        }
        for _ in 0..5 {
            let event = calls::event(0)?;
            calls.make(second, EPOLL_CTL_ADD, event.as_raw_fd(), EPOLLIN)?;
        }
        calls.fail(second, EPOLL_CTL_ADD, second, Some(EPOLLIN), Errno::INVAL)?;
        Ok(calls.done(second))
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // A receiver that is gone has failed already.
        let _ = sender.send(work());
        loop {
            thread::park();
        }
    });
    receiver.recv()?
}
