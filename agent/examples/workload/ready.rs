//! Ready lists of a known length: descriptors are made ready while the loop is busy, in two sets that take turns, and
//! drained after each wait.
//!
//! A level-triggered wait finds what became ready, and what the wait before delivered: the kernel puts that back, and
//! only sees at the next wait that it was drained. An edge-triggered one finds the former alone.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit, ROOM},
    tally::Waiter,
};

/// Makes `waits` waits, each of which finds `count` descriptors newly ready; `edge` 1: edge-triggered.
pub fn run(edge: u64, count: u64, waits: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let flags = if edge == 1 { libc::EPOLLIN | libc::EPOLLET } else { libc::EPOLLIN };
    let mut sets: [Vec<OwnedFd>; 2] = Default::default();
    for set in &mut sets {
        for _ in 0..count {
            let event = calls::event(0)?;
            calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_ADD, event.as_raw_fd(), Some(flags))?;
            set.push(event);
        }
    }
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for i in 0..waits {
        let [even, odd] = &sets;
        let ready = if i % 2 == 0 { even } else { odd };
        for event in ready {
            rustix::io::write(event, &1_u64.to_ne_bytes())?;
        }
        let mut left = count;
        while left > 0 {
            let found = waiter.wait(ROOM as i32, Limit::Zero)?;
            ensure!(found > 0, "{left} descriptors did not become ready");
            left -= found as u64;
        }
        for event in ready {
            rustix::io::read(event, &mut [0; 8])?;
        }
    }
    let done = waiter.done();
    std::mem::forget((epfd, sets));
    Ok(json!({ "rows": [done], "count": count, "waits": waits }))
}
