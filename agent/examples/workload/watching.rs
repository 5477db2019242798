//! Interest sets of a known content, for comparison with /proc/PID/fdinfo: many entries, closed ones, inherited ones,
//! nested instances, and one that another thread changes without pause.
//!
//! Must leave open what it says that it left open.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::calls;

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
    std::mem::forget((epfd, watched, extra));
    Ok(json!({ "calls": calls, "longest_ns": u64::try_from(longest.as_nanos())? }))
}
