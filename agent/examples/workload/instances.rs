//! Several instances under one thread, several threads on one instance, and one descriptor that means a thousand
//! instances in turn.
//!
//! Must leave open what it says it left open: the report is made while this process is alive.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    thread,
};

use anyhow::{Result, anyhow};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    tally::Waiter,
};

/// One thread on `count` instances in turn, `rounds` times.
pub fn several(count: u64, rounds: u64) -> Result<Value> {
    let ready = calls::event(1)?;
    let mut instances = Vec::new();
    for i in 0..count {
        let epfd = calls::create()?;
        calls::add(&epfd, &ready)?;
        let call = if i % 2 == 0 { Call::Wait } else { Call::Pwait };
        instances.push((Waiter::new(&epfd, call), epfd));
    }
    for _ in 0..rounds {
        for (waiter, _) in &mut instances {
            waiter.wait(8, Limit::Millis(100))?;
        }
    }
    let rows: Vec<Value> = instances.iter().map(|(waiter, _)| waiter.done()).collect();
    std::mem::forget((instances, ready));
    Ok(json!({ "rows": rows }))
}

/// As [`several`], and then it closes them.
pub fn several_closed(count: u64, rounds: u64) -> Result<Value> {
    let mut instances = Vec::new();
    for _ in 0..count {
        let epfd = calls::create()?;
        instances.push((Waiter::new(&epfd, Call::Wait), epfd));
    }
    for _ in 0..rounds {
        for (waiter, _) in &mut instances {
            waiter.wait(8, Limit::Zero)?;
        }
    }
    let rows: Vec<Value> = instances.iter().map(|(waiter, _)| waiter.done()).collect();
    Ok(json!({ "rows": rows }))
}

/// One thread on twelve instances in turn, as fast as it can for `rounds` rounds: every other round finds an event.
pub fn rush(rounds: u64) -> Result<Value> {
    let ready = calls::event(0)?;
    let mut instances = Vec::new();
    for _ in 0..12 {
        let epfd = calls::create()?;
        calls::add(&epfd, &ready)?;
        instances.push((Waiter::new(&epfd, Call::Wait), epfd));
    }
    for round in 0..rounds {
        if round % 2 == 0 {
            rustix::io::write(&ready, &1_u64.to_ne_bytes())?;
        } else {
            rustix::io::read(&ready, &mut [0; 8])?;
        }
        for (waiter, _) in &mut instances {
            waiter.wait(8, Limit::Zero)?;
        }
    }
    let rows: Vec<Value> = instances.iter().map(|(waiter, _)| waiter.done()).collect();
    std::mem::forget((instances, ready));
    Ok(json!({ "rows": rows }))
}

/// `count` threads, one after the other, each with a wait that returns at once and one of 2 ms on an instance
/// of its own, which closes with it.
pub fn singles(count: u64) -> Result<Value> {
    let single = || {
        let epfd = calls::create()?;
        let mut waiter = Waiter::new(&epfd, Call::Wait);
        waiter.wait(8, Limit::Zero)?;
        waiter.wait(8, Limit::Millis(2))?;
        Ok::<Value, Errno>(waiter.done())
    };
    let rows: Result<Vec<Value>> = (0..count)
        .map(|_| Ok(thread::spawn(single).join().map_err(|_| anyhow!("a thread panicked"))??))
        .collect();
    Ok(json!({ "rows": rows? }))
}

/// `count` threads at once, each on an instance of its own: a few waits, each thread another number of them, and then
/// one for ever.
pub fn many(count: u64) -> Result<Value> {
    let (sender, receiver) = std::sync::mpsc::channel();
    for i in 0..count {
        let sender = sender.clone();
        let body = move || {
            let result = a_few(2 + i % 11);
            let epfd = result.as_ref().map_or(-1, |(epfd, _)| epfd.as_raw_fd());
            // A receiver that is gone has failed already.
            let _ = sender.send(result.map(|(epfd, done)| {
                std::mem::forget(epfd);
                done
            }));
            Waiter::on(epfd, Call::Wait).wait(8, Limit::Infinite)
        };
        thread::Builder::new().stack_size(64 << 10).spawn(body)?;
    }
    let rows: Result<Vec<Value>, Errno> = receiver.iter().take(usize::try_from(count)?).collect();
    Ok(json!({ "rows": rows? }))
}

/// A new instance and `waits` waits on it, of which every other one is ready.
fn a_few(waits: u64) -> Result<(OwnedFd, Value), Errno> {
    let (epfd, ready) = (calls::create()?, calls::event(1)?);
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for i in 0..waits {
        let op = if i % 2 == 0 { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_DEL };
        calls::control(epfd.as_raw_fd(), op, ready.as_raw_fd(), Some(libc::EPOLLIN))?;
        waiter.wait(8, if i % 3 == 0 { Limit::Millis(1) } else { Limit::Zero })?;
    }
    // Nothing is ready for the wait that follows.
    drop(ready);
    Ok((epfd, waiter.done()))
}

/// `count` threads on one instance, `rounds` waits each; the threads stay.
pub fn shared(count: u64, rounds: u64) -> Result<Value> {
    let (epfd, ready) = (calls::create()?, calls::event(1)?);
    calls::add(&epfd, &ready)?;
    let epfd = Arc::new(epfd);
    let (sender, receiver) = std::sync::mpsc::channel();
    for _ in 0..count {
        let (epfd, sender) = (Arc::clone(&epfd), sender.clone());
        thread::spawn(move || {
            let mut waiter = Waiter::new(&epfd, Call::Wait);
            let result = (0..rounds).try_for_each(|_| waiter.wait(8, Limit::Zero).map(drop));
            // A receiver that is gone has failed already.
            let _ = sender.send(result.map(|()| waiter.done()));
            loop {
                thread::park();
            }
        });
    }
    let rows: Result<Vec<Value>, Errno> = receiver.iter().take(usize::try_from(count)?).collect();
    std::mem::forget((epfd, ready));
    Ok(json!({ "rows": rows? }))
}

/// `count` times: a new instance, one add, one wait, close. Then one more that stays open.
pub fn generations(count: u64) -> Result<Value> {
    let ready = calls::event(1)?;
    let mut fds = std::collections::BTreeSet::new();
    for _ in 0..count {
        fds.insert(generation(&ready)?.as_raw_fd());
    }
    let kept = generation(&ready)?;
    let done = json!({ "cycles": count, "descriptors": fds.len(), "kept": kept.as_raw_fd() });
    std::mem::forget((kept, ready));
    Ok(done)
}

/// A new instance with one add and one wait.
fn generation(ready: &OwnedFd) -> Result<OwnedFd> {
    let epfd = calls::create()?;
    calls::add(&epfd, ready)?;
    let events = Waiter::new(&epfd, Call::Wait).wait(8, Limit::Zero)?;
    if events == 1 { Ok(epfd) } else { Err(anyhow!("{events} events instead of one")) }
}
