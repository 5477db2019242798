//! Waiters that do not stay: threads, processes, programs and instances that end.
//!
//! Must not let an end pass uncounted: whoever ends has said before what it did, or did what it was told.

use std::{
    env,
    io::{self, Read as _},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
    thread,
};

use anyhow::{Context, Result, anyhow};
use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, waitpid},
};
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    say,
    tally::Waiter,
};

/// A thread's or process's whole life: an instance of its own, one add, three waits: ready, timeout, empty.
fn life() -> Result<(), Errno> {
    let (epfd, ready) = (calls::create()?, calls::event(1)?);
    calls::add(&epfd, &ready)?;
    let mut waiter = Waiter::new(&epfd, Call::Pwait);
    waiter.wait(8, Limit::Infinite)?;
    calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_DEL, ready.as_raw_fd(), None)?;
    waiter.wait(8, Limit::Millis(1))?;
    waiter.wait(8, Limit::Zero).map(drop)
}

/// `count` threads, each for one [`life`], at most `together` at a time.
pub fn threads(count: u64, together: u64) -> Result<Value> {
    let mut left = count;
    while left > 0 {
        let batch = left.min(together);
        left -= batch;
        let spawn = || thread::Builder::new().stack_size(64 << 10).spawn(life);
        let threads = (0..batch).map(|_| spawn()).collect::<io::Result<Vec<_>>>()?;
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
    }
    Ok(json!({ "threads": count, "waits": count * 3 }))
}

/// `count` threads that each make one [`life`]'s calls and then wait for ever, on another instance of their own.
pub fn crowd(count: u64) -> Result<Value> {
    let (sender, receiver) = std::sync::mpsc::channel();
    for _ in 0..count {
        let sender = sender.clone();
        let body = move || {
            let epfd = life().and_then(|()| calls::create());
            // A receiver that is gone has failed already.
            let _ = sender.send(epfd.as_ref().map(drop).map_err(|error| *error));
            epfd.and_then(|epfd| Waiter::new(&epfd, Call::Pwait).wait(8, Limit::Infinite))
        };
        thread::Builder::new().stack_size(64 << 10).spawn(body)?;
    }
    receiver.iter().take(usize::try_from(count)?).collect::<Result<(), Errno>>()?;
    Ok(json!({ "threads": count }))
}

/// `count` processes, each for one [`life`], at most `together` at a time.
pub fn processes(count: u64, together: u64) -> Result<Value> {
    let mut pids = Vec::new();
    let mut living = 0;
    for _ in 0..count {
        if living == together {
            reap()?;
            living -= 1;
        }
        match calls::fork()? {
            Some(child) => pids.push(child),
            None => {
                let _ = life();
                calls::leave();
            }
        }
        living += 1;
    }
    for _ in 0..living {
        reap()?;
    }
    Ok(json!({ "pids": pids, "waits": count * 3 }))
}

/// Waits for a child to end.
fn reap() -> Result<()> {
    waitpid(None, WaitOptions::empty())?.context("no child ended").map(drop)
}

/// `waits` waits, then the same process executes this program anew, as "new-program", for `then` waits.
pub fn exec(waits: u64, then: u64) -> Result<Option<Value>> {
    let epfd = calls::create()?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for _ in 0..waits {
        waiter.wait(8, Limit::Millis(1))?;
    }
    say(&json!({ "rows": [waiter.done()] }))?;
    // It stays open at exec, so that the new program's first instance has another descriptor.
    std::mem::forget(epfd);
    Err(become_new(then).into())
}

/// As [`exec`], but a second thread, "old-thread", waits and executes; it takes over the process's id.
pub fn exec_from_thread(waits: u64, then: u64) -> Result<Option<Value>> {
    let second = thread::Builder::new().name("old-thread".to_owned()).spawn(move || exec(waits, then))?;
    second.join().map_err(|_| anyhow!("the thread panicked"))?
}

/// Executes this program anew.
fn become_new(waits: u64) -> io::Error {
    match env::current_exe() {
        Ok(program) => {
            Command::new(program).args(["--name", "new-program", "plain", &waits.to_string()]).exec()
        }
        Err(error) => error,
    }
}

/// A child inherits an instance; parent and child wait on it `waits` times each, and say so each.
pub fn fork(waits: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let child = calls::fork()?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for _ in 0..waits {
        waiter.wait(8, Limit::Millis(1))?;
    }
    let done = json!({ "rows": [waiter.done()] });
    let Some(child) = child else {
        say(&done)?;
        stay();
        calls::leave();
    };
    say(&done)?;
    stay();
    waitpid(Pid::from_raw(child), WaitOptions::empty())?;
    Ok(json!({ "ended": true }))
}

/// Stays until stdin ends, without a lock that a fork could have copied.
fn stay() {
    while io::stdin().read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
}

/// `waits` waits, then the instance is closed and the thread lives on for half a second.
pub fn closed(waits: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for _ in 0..waits {
        waiter.wait(8, Limit::Millis(1))?;
    }
    drop(epfd);
    let done = waiter.done();
    thread::sleep(std::time::Duration::from_millis(1500));
    Ok(json!({ "rows": [done] }))
}
