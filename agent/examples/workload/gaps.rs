//! Poll and select loops with pauses between their waits, and loops of which every gap is known.
//!
//! Must not wait by any other call in these threads.

use std::{sync::mpsc, thread, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    calls,
    sets::{Call, Limit, Waiter},
    tally,
};

/// Below the 10 s that end a loop, and above.
const SHORT: Duration = Duration::from_millis(8_500);
const LONG: Duration = Duration::from_millis(10_500);

/// A thread: waits, a pause, and waits again.
struct Case {
    name: &'static str,
    before: u64,
    pause: Duration,
    after: u64,
}

const CASES: [Case; 6] = [
    Case { name: "short", before: 20, pause: SHORT, after: 5 },
    Case { name: "long", before: 20, pause: LONG, after: 5 },
    Case { name: "long, and a loop again", before: 20, pause: LONG, after: 20 },
    Case { name: "long, to the end", before: 20, pause: LONG, after: 0 },
    Case { name: "long, never a loop", before: 15, pause: LONG, after: 15 },
    Case { name: "long, a loop at last", before: 10, pause: LONG, after: 16 },
];

/// Each case by poll and by select, all at once; the threads stay.
pub fn run() -> Result<Value> {
    let (sender, receiver) = mpsc::channel();
    let all =
        [Call::Poll, Call::Select].into_iter().flat_map(|call| CASES.iter().map(move |case| (call, case)));
    let mut count = 0;
    for (call, case) in all {
        let sender = sender.clone();
        count += 1;
        thread::spawn(move || {
            // A receiver that is gone has failed already.
            let _ = sender.send(one(call, case));
            loop {
                thread::park();
            }
        });
    }
    let rows: Result<Vec<Value>> = receiver.iter().take(count).collect();
    Ok(json!({ "rows": rows? }))
}

fn one(call: Call, case: &Case) -> Result<Value> {
    let idle = calls::event(0)?;
    let fds = [std::os::fd::AsRawFd::as_raw_fd(&idle)];
    let (mut waiter, mut before, mut after) = (Waiter::new(call), 0, 0);
    for i in 0..case.before + case.after {
        if i == case.before {
            before = calls::now();
            thread::sleep(case.pause);
            after = calls::now();
        }
        waiter.wait(&fds, Limit::Millis(1))?;
    }
    if case.after == 0 {
        thread::sleep(case.pause);
    }
    let mut done = waiter.done(case.name);
    if let Some(done) = done.as_object_mut() {
        done.extend([
            ("name".to_owned(), json!(case.name)),
            ("before".to_owned(), json!(case.before)),
            ("after".to_owned(), json!(case.after)),
            ("pause".to_owned(), json!(after - before)),
        ]);
    }
    Ok(done)
}

/// `count` threads of `waits` waits of 1 ms by epoll, then as many by poll and by select, one thread after the other.
pub fn sums(count: u64, waits: u64) -> Result<Value> {
    let mut rows = Vec::new();
    for _ in 0..count {
        let (epfd, idle) = (calls::create()?, calls::event(0)?);
        let fds = [std::os::fd::AsRawFd::as_raw_fd(&idle)];
        rows.push(crate::sets::alone(|| {
            let mut waiter = tally::Waiter::new(&epfd, calls::Call::Wait);
            (0..waits).try_for_each(|_| waiter.wait(8, calls::Limit::Millis(1)).map(drop))?;
            Ok(waiter.done())
        })?);
        for call in [Call::Poll, Call::Select] {
            rows.push(crate::sets::alone(|| {
                let mut waiter = Waiter::new(call);
                (0..waits).try_for_each(|_| waiter.wait(&fds, Limit::Millis(1)).map(drop))?;
                Ok(waiter.done("sums"))
            })?);
        }
        std::mem::forget((epfd, idle));
    }
    Ok(json!({ "rows": rows }))
}
