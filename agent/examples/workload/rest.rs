//! One loop by any of the seven calls, which ends in a wait for stdin: what a test stops, kills, or leaves waiting.
//!
//! Must make its waits in a thread of its own: Rust's runtime polls in the first one before main.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{calls, say, sets, tally};

/// A thread's waits by one of the calls.
enum Waiter {
    Epoll(tally::Waiter),
    Sets(sets::Waiter),
}

impl Waiter {
    /// By the `call`th call: those of epoll first, then those of poll and select. On stdin alone.
    fn new(call: u64) -> Result<Self> {
        let call = usize::try_from(call)?;
        let Some(epoll) = calls::Call::ALL.get(call) else {
            let sets = sets::Call::ALL.get(call - calls::Call::ALL.len()).context("no such call")?;
            return Ok(Waiter::Sets(sets::Waiter::new(*sets)));
        };
        let epfd = calls::create()?;
        calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_ADD, 0, Some(libc::EPOLLIN))?;
        let waiter = tally::Waiter::new(&epfd, *epoll);
        std::mem::forget(epfd);
        Ok(Waiter::Epoll(waiter))
    }

    /// One wait for stdin: for ever, not at all, or for so many ms. What it returned is in the counts.
    fn wait(&mut self, millis: Option<u16>) {
        use {calls::Limit as Epoll, sets::Limit as Sets};
        match self {
            Waiter::Epoll(waiter) => {
                let limit = match millis {
                    None => Epoll::Infinite,
                    Some(0) => Epoll::Zero,
                    Some(millis) => Epoll::Millis(millis),
                };
                let _ = waiter.wait(8, limit);
            }
            Waiter::Sets(waiter) => {
                let limit = match millis {
                    None => Sets::Infinite,
                    Some(0) => Sets::Zero,
                    Some(millis) => Sets::Millis(millis),
                };
                let _ = waiter.wait(&[0], limit);
            }
        }
    }

    fn done(&self) -> Value {
        match self {
            Waiter::Epoll(waiter) => waiter.done(),
            Waiter::Sets(waiter) => waiter.done("rest"),
        }
    }
}

/// `waits` waits that find nothing by the `call`th call, said; then one for stdin, for so many ms or, if 0, for ever,
/// said too.
pub fn run(call: u64, waits: u64, millis: u64) -> Result<Value> {
    calls::alarm_every(0)?;
    let last = (millis > 0).then(|| u16::try_from(millis)).transpose()?;
    sets::alone(|| {
        let mut waiter = Waiter::new(call)?;
        (0..waits).for_each(|_| waiter.wait(Some(0)));
        say(&json!({ "rows": [waiter.done()] }))?;
        waiter.wait(last);
        Ok(json!({ "rows": [waiter.done()] }))
    })
}
