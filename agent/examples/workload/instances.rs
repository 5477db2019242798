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
