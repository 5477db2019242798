//! Loops whose times are known: how long they wait, how long they are busy.
//!
//! Must not do anything slow between the last wait and the end: the loop is busy until its thread ends.

use std::{
    io,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    say,
    tally::Waiter,
};

/// `waits` waits of 5 ms and, between them, `millis` ms of work: by turns on the CPU and asleep.
pub fn busy(waits: u64, millis: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for i in 0..waits {
        if i > 0 {
            work(Duration::from_millis(millis), i % 2 == 0);
        }
        waiter.wait(8, Limit::Millis(5))?;
    }
    // It is open until the process ends, or what lies behind the last wait would be nobody's time.
    std::mem::forget(epfd);
    Ok(json!({ "rows": [waiter.done()], "now": calls::now() }))
}

/// Passes time, on the CPU or off it.
fn work(time: Duration, on_cpu: bool) {
    let start = Instant::now();
    if !on_cpu {
        return thread::sleep(time);
    }
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// One thread on two instances: a wait on the first that returns at once, 10 ms on the second, 5 ms of work.
pub fn two(rounds: u64) -> Result<Value> {
    let (first, second, ready) = (calls::create()?, calls::create()?, calls::event(1)?);
    calls::add(&first, &ready)?;
    let (mut quick, mut slow) = (Waiter::new(&first, Call::Wait), Waiter::new(&second, Call::Pwait));
    for _ in 0..rounds {
        quick.wait(8, Limit::Millis(100))?;
        slow.wait(8, Limit::Millis(10))?;
        work(Duration::from_millis(5), true);
    }
    std::mem::forget((first, second, ready));
    Ok(json!({ "rows": [quick.done(), slow.done()], "now": calls::now() }))
}

/// Waits for ever for stdin; prints what it did so far after each line; ends with stdin.
pub fn echo() -> Result<()> {
    let epfd = calls::create()?;
    let stdin = io::stdin();
    let stdin = stdin.as_fd().try_clone_to_owned()?;
    calls::add(&epfd, &stdin)?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    loop {
        waiter.wait(8, Limit::Infinite)?;
        let mut bytes = [0; 64];
        if rustix::io::read(&stdin, &mut bytes)? == 0 {
            return Ok(());
        }
        say(&json!({ "rows": [waiter.done()] }))?;
    }
}
