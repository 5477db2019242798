//! Every way in which a wait can end, by every call that waits.
//!
//! Must reach each result and each kind of timeout at least once.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    tally::Waiter,
};

/// `n` waits of each result with each call, each call on an instance of its own; errors without an instance
/// beside them.
pub fn run(n: u64) -> Result<Value> {
    let mut rows = Vec::new();
    for call in Call::ALL {
        rows.push(each_result(call, n).with_context(|| call.name())?);
    }
    Ok(json!({ "rows": rows, "without_instance": without_instance(n)? }))
}

/// `n` waits by epoll_wait: every other one with an event.
pub fn plain(n: u64) -> Result<Value> {
    let (epfd, idle, ready) = (calls::create()?, calls::event(0)?, calls::event(1)?);
    calls::add(&epfd, &idle)?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for i in 0..n {
        if i % 2 == 0 {
            calls::add(&epfd, &ready)?;
        } else {
            calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_DEL, ready.as_raw_fd(), None)?;
        }
        waiter.wait(8, Limit::Zero)?;
    }
    let done = json!({ "rows": [waiter.done()] });
    std::mem::forget((epfd, idle, ready));
    Ok(done)
}

/// All results on one instance, with three descriptors that are ready and one that never is.
fn each_result(call: Call, n: u64) -> Result<Value> {
    let (busy, idle) = (calls::create()?, calls::event(0)?);
    let ready = [calls::event(1)?, calls::event(1)?, calls::event(1)?];
    calls::add(&busy, &idle)?;
    let mut waiter = Waiter::new(&busy, call);
    for _ in 0..n {
        ensure!(waiter.wait(8, Limit::Zero) == Ok(0), "nothing is ready");
        ensure!(waiter.wait(8, Limit::Millis(1)) == Ok(0), "nothing is ready for 1 ms");
        ensure!(waiter.wait(0, Limit::Zero) == Err(Errno::INVAL), "maxevents 0");
        ensure!(waiter.wait_nowhere(8, Limit::Zero) == Err(Errno::FAULT), "a buffer in kernel space");
        if call == Call::Pwait2 {
            ensure!(waiter.wait(8, Limit::Unreadable) == Err(Errno::FAULT), "a timeout that cannot be read");
        }
    }
    calls::alarm_every(1)?;
    for _ in 0..n {
        ensure!(waiter.wait(8, Limit::Infinite) == Err(Errno::INTR), "a signal ends it");
    }
    calls::alarm_every(0)?;
    for fd in &ready {
        calls::add(&busy, fd)?;
    }
    for _ in 0..n {
        ensure!(waiter.wait(8, Limit::Infinite) == Ok(3), "three are ready");
        ensure!(waiter.wait(8, Limit::Zero) == Ok(3), "three are ready, no wait");
        ensure!(waiter.wait(3, Limit::Millis(500)) == Ok(3), "as many as asked for");
        ensure!(waiter.wait(2, Limit::Millis(500)) == Ok(2), "fewer than are ready");
        ensure!(waiter.wait(1, Limit::Infinite) == Ok(1), "one at a time");
    }
    let done = waiter.done();
    // It stays open while the report is made.
    std::mem::forget((busy, idle, ready));
    Ok(done)
}

/// Waits on a number that is no descriptor, and on a descriptor that is no epoll instance.
fn without_instance(n: u64) -> Result<Value> {
    let file = calls::event(0)?;
    let mut none = Waiter::on(-1, Call::Wait);
    let mut other = Waiter::new(&file, Call::Wait);
    for _ in 0..n {
        ensure!(other.wait(8, Limit::Zero) == Err(Errno::INVAL), "an eventfd is no epoll instance");
        ensure!(none.wait(8, Limit::Zero) == Err(Errno::BADF), "-1 is no descriptor");
    }
    Ok(json!([none.done(), other.done()]))
}
