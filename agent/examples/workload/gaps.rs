//! Poll and select loops with pauses between their waits, and loops of which every gap is known.
//!
//! Must not wait by any other call in these threads.

use std::{os::fd::AsRawFd, sync::mpsc, thread, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    calls,
    sets::{self, Call, Limit, Waiter},
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
    /// Then it waits for ever, unsaid.
    stays: bool,
}

const CASES: [Case; 7] = [
    Case { name: "short", before: 20, pause: SHORT, after: 5, stays: false },
    Case { name: "long", before: 20, pause: LONG, after: 5, stays: false },
    Case { name: "long, and a loop again", before: 20, pause: LONG, after: 20, stays: false },
    Case { name: "long, to the end", before: 20, pause: LONG, after: 0, stays: false },
    Case { name: "long, then a wait", before: 20, pause: LONG, after: 0, stays: true },
    Case { name: "long, never a loop", before: 15, pause: LONG, after: 15, stays: false },
    Case { name: "long, a loop at last", before: 10, pause: LONG, after: 16, stays: false },
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
        thread::spawn(move || one(call, case, &sender));
    }
    let rows: Result<Vec<Value>> = receiver.iter().take(count).collect();
    Ok(json!({ "rows": rows? }))
}

/// Makes a case's waits and sends what came of them; stays.
fn one(call: Call, case: &Case, sender: &mpsc::Sender<Result<Value>>) -> Result<()> {
    let idle = calls::event(0)?;
    let fds = [idle.as_raw_fd()];
    let mut waiter = Waiter::new(call);
    let pause = waits(&mut waiter, &fds, case);
    let done = pause.map(|pause| {
        json!({
            "name": case.name, "before": case.before, "after": case.after, "pause": pause,
            "waits": waiter.done(case.name),
        })
    });
    // A receiver that is gone has failed already.
    let _ = sender.send(done);
    if case.stays {
        waiter.wait(&fds, Limit::Infinite)?;
    }
    loop {
        thread::park();
    }
}

/// A case's waits; how long the pause was, ns.
fn waits(waiter: &mut Waiter, fds: &[i32], case: &Case) -> Result<u64> {
    for _ in 0..case.before {
        waiter.wait(fds, Limit::Millis(1))?;
    }
    let start = calls::now();
    thread::sleep(case.pause);
    let pause = calls::now() - start;
    for _ in 0..case.after {
        waiter.wait(fds, Limit::Millis(1))?;
    }
    Ok(pause)
}

/// `count` threads of `waits` waits of 1 ms by epoll, then as many by poll and by select, one thread after the other.
pub fn sums(count: u64, waits: u64) -> Result<Value> {
    let mut rows = Vec::new();
    for _ in 0..count {
        let (epfd, idle) = (calls::create()?, calls::event(0)?);
        let fds = [idle.as_raw_fd()];
        rows.push(sets::alone(|| {
            let mut waiter = tally::Waiter::new(&epfd, calls::Call::Wait);
            (0..waits).try_for_each(|_| waiter.wait(8, calls::Limit::Millis(1)).map(drop))?;
            Ok(waiter.done())
        })?);
        for call in [Call::Poll, Call::Select] {
            rows.push(sets::alone(|| {
                let mut waiter = Waiter::new(call);
                (0..waits).try_for_each(|_| waiter.wait(&fds, Limit::Millis(1)).map(drop))?;
                Ok(waiter.done("sums"))
            })?);
        }
        std::mem::forget((epfd, idle));
    }
    Ok(json!({ "rows": rows }))
}
