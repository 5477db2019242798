//! Waits that count themselves, on both sides of the call, and the limits that the clock readings set for what
//! the kernel can have seen.
//!
//! A wait lies within its **bracket**: from a reading of the clock before the call to one after it. What lies
//! between two brackets is busy time for certain, so the sum of those is the least that the busy time can be.

use std::{
    cell::Cell,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::calls::{self, Call, Events, Limit, ROOM};

thread_local! {
    /// Sum of the brackets of all waits of this thread, ns.
    static WAITED: Cell<u64> = const { Cell::new(0) };
}

/// A thread's waits on one descriptor, and what came of them.
pub struct Waiter {
    epfd: i32,
    call: Call,
    maxevents: i32,
    results: [u64; 5],
    timeouts: [u64; 4],
    saturated: u64,
    events: u64,
    events_max: u64,
    first_before: u64,
    last_after: u64,
    /// [`WAITED`] at that moment.
    waited: u64,
    bracket_last: u64,
    bracket_sum: u64,
    bracket_max: u64,
    between_sum: u64,
    between_max: u64,
    around_max: u64,
}

impl Waiter {
    /// The calling thread on `epfd`.
    pub fn new(epfd: &OwnedFd, call: Call) -> Self {
        Self::on(epfd.as_raw_fd(), call)
    }

    /// As [`Waiter::new`], on a number that need not be a descriptor.
    pub fn on(epfd: i32, call: Call) -> Self {
        Waiter {
            epfd,
            call,
            maxevents: 0,
            results: [0; 5],
            timeouts: [0; 4],
            saturated: 0,
            events: 0,
            events_max: 0,
            first_before: 0,
            last_after: 0,
            waited: 0,
            bracket_last: 0,
            bracket_sum: 0,
            bracket_max: 0,
            between_sum: 0,
            between_max: 0,
            around_max: 0,
        }
    }

    /// One wait.
    pub fn wait(&mut self, max: i32, limit: Limit) -> Result<usize, Errno> {
        let mut events: Events = [libc::epoll_event { events: 0, u64: 0 }; ROOM];
        self.wait_into(Some(&mut events), max, limit)
    }

    /// One wait with a buffer that the kernel refuses.
    pub fn wait_nowhere(&mut self, max: i32, limit: Limit) -> Result<usize, Errno> {
        self.wait_into(None, max, limit)
    }

    fn wait_into(&mut self, events: Option<&mut Events>, max: i32, limit: Limit) -> Result<usize, Errno> {
        let (call, epfd) = (self.call, self.epfd);
        self.around(max, limit, || calls::wait(call, epfd, events, max, limit))
    }

    /// One wait by another call, which returns how many events it delivered.
    pub fn around(
        &mut self,
        max: i32,
        limit: Limit,
        wait: impl FnOnce() -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let before = calls::now();
        let result = wait();
        self.clock(before, calls::now());
        self.count(max, limit, result);
        result
    }

    /// Takes in the bracket of a wait.
    fn clock(&mut self, before: u64, after: u64) {
        let bracket = after - before;
        let elsewhere = WAITED.get() - self.waited;
        if self.last_after == 0 {
            self.first_before = before;
        } else {
            let between = before - self.last_after - elsewhere;
            self.between_sum += between;
            self.between_max = self.between_max.max(between);
            self.around_max = self.around_max.max(between + elsewhere + self.bracket_last + bracket);
        }
        WAITED.set(WAITED.get() + bracket);
        self.waited = WAITED.get();
        self.last_after = after;
        self.bracket_last = bracket;
        self.bracket_sum += bracket;
        self.bracket_max = self.bracket_max.max(bracket);
    }

    /// Takes in what a wait returned.
    fn count(&mut self, max: i32, limit: Limit, result: Result<usize, Errno>) {
        self.maxevents = max;
        let kind = match limit {
            Limit::Infinite => 0,
            Limit::Zero => 1,
            Limit::Millis(_) => 2,
            Limit::Unreadable => 3,
        };
        let outcome = match result {
            Ok(0) if limit == Limit::Zero => 2,
            Ok(0) => 1,
            Ok(_) => 0,
            Err(Errno::INTR) => 3,
            Err(_) => 4,
        };
        increase(&mut self.timeouts, kind);
        increase(&mut self.results, outcome);
        let events = result.unwrap_or(0) as u64;
        self.events += events;
        self.events_max = self.events_max.max(events);
        self.saturated += u64::from(events > 0 && Ok(events) == u64::try_from(max));
    }

    /// What was counted, from the thread that waited.
    pub fn done(&self) -> Value {
        let [ready, timeout, empty, interrupted, error] = self.results;
        let [infinite, zero, finite, unknown] = self.timeouts;
        json!({
            "pid": std::process::id(),
            "tid": rustix::thread::gettid().as_raw_nonzero().get(),
            "epfd": self.epfd,
            "mechanism": "epoll",
            "call": self.call.name(),
            "maxevents": self.maxevents,
            "waits": self.results.iter().sum::<u64>(),
            "events": self.events,
            "events_max": self.events_max,
            "saturated": self.saturated,
            "results": {
                "ready": ready, "timeout": timeout, "empty": empty, "interrupted": interrupted, "error": error
            },
            "timeouts": { "infinite": infinite, "zero": zero, "finite": finite, "unknown": unknown },
            // ns: first reading before a wait and last one after; brackets; between brackets, other waits' brackets
            // left out; and the most that one busy time with the waits around it took.
            "first_before": self.first_before,
            "last_after": self.last_after,
            "bracket_sum": self.bracket_sum,
            "bracket_max": self.bracket_max,
            "between_sum": self.between_sum,
            "between_max": self.between_max,
            "around_max": self.around_max,
        })
    }
}

/// Adds one to an element that is there.
fn increase(counts: &mut [u64], i: usize) {
    if let Some(count) = counts.get_mut(i) {
        *count += 1;
    }
}
