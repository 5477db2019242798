//! Snapshots in a tight loop of loops that never rest: none contradicts itself, and together they say what was done.
//!
//! The loops' waits follow a pattern, so that a record that was copied half written would show. The agent's parts run
//! in this process, which is the only way to sample as often.
#![cfg(test)]

mod common;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use common::{Workload, compare::count, compare::list, require_bpf};
use loopscope::{
    kernel::{Options, Ways},
    reactor::{Reactor, Watch},
    report::{
        build,
        document::{Distribution, LoopRow, Lost, Mechanism, State},
    },
};

/// How many, for how long at least, so that on a busy host the loops get their turn too, and for how long at most.
const SNAPSHOTS: u32 = 1000;
const TIME: Duration = Duration::from_secs(3);
const TIME_MOST: Duration = Duration::from_secs(10);
/// Events of every wait.
const EVENTS: u64 = 2;
/// nfds of select: all that a set holds.
const SET: u64 = 1024;

/// As the tests' other agents, which are processes.
fn options() -> Options {
    let ways = match std::env::var("LOOPSCOPE_TEST_BACKEND").as_deref() {
        Ok("fentry") => Ways { fentry: true, ..Ways::NONE },
        Ok("tracepoint") => Ways { tracepoint: true, ..Ways::NONE },
        Ok("raw") => Ways { raw: true, ..Ways::NONE },
        _ => Ways::default(),
    };
    Options { ways, ..Options::default() }
}

/// The quantiles of a distribution rise, and it has them if it saw something.
fn assert_ordered<T: PartialOrd + Copy + std::fmt::Debug>(what: &str, distribution: &Distribution<T>) {
    let Distribution { count, p50, p90, p99, max, .. } = distribution;
    let quantiles: Vec<T> = [p50, p90, p99, max].into_iter().flatten().copied().collect();
    assert_eq!(quantiles.len(), if *count == 0 { 0 } else { 4 }, "{what}: {distribution:?}");
    assert!(quantiles.is_sorted(), "{what}: {distribution:?}");
}

/// What is true of each window on these loops, whatever its length.
fn assert_fits(row: &LoopRow) {
    let (waits, results, timeouts) = (row.waits, &row.results, &row.timeouts);
    assert_eq!((results.ready, row.events), (waits, EVENTS * waits), "{row:?}");
    // Zero and finite time-outs by turns.
    assert_eq!(timeouts.zero + timeouts.finite, waits, "{row:?}");
    assert!(timeouts.zero.abs_diff(timeouts.finite) <= 1, "{row:?}");
    assert_eq!((row.wait_seconds.count, row.events_per_wait.count), (waits, waits), "{row:?}");
    assert_eq!(row.events_per_wait.sum, row.events, "{row:?}");
    let epoll = row.mechanism == Mechanism::Epoll;
    assert_eq!(row.saturated, if epoll { timeouts.zero } else { 0 }, "{row:?}");
    let overrun = row.overrun_seconds.as_ref().unwrap();
    assert_eq!((overrun.count, overrun.sum), (0, 0.0), "{row:?}");
    if let Some(nfds) = &row.nfds {
        let each = if row.mechanism == Mechanism::Poll { EVENTS } else { SET };
        assert_eq!((nfds.count, nfds.sum), (waits, each * waits), "{row:?}");
        assert_ordered("nfds", nfds);
    }
    if row.mechanism == Mechanism::Poll {
        let bytes = (row.copied_bytes.r#in, row.copied_bytes.out);
        assert_eq!(bytes, (8 * EVENTS * waits, 2 * EVENTS * waits), "{row:?}");
    } else if !epoll {
        assert_eq!(row.copied_bytes.r#in, row.copied_bytes.out, "{row:?}");
    }
    assert_ordered("wait", &row.wait_seconds);
    assert_ordered("events", &row.events_per_wait);
    assert_times(row);
}

/// What is true of its times.
fn assert_times(row: &LoopRow) {
    // Nothing is said of `time` against these sums: a wait that ends here may have begun in an earlier window.
    let waited = &row.wait_seconds;
    assert!(waited.max.unwrap_or(0.0) <= waited.sum + 1e-9, "{row:?}");
    let Some(busy) = &row.busy_seconds else {
        // A poll or select loop before its 16th wait.
        return assert!(!row.is_loop, "{row:?}");
    };
    assert!(busy.count.abs_diff(row.waits) <= 16, "{row:?}");
    assert!(busy.max.unwrap_or(0.0) <= busy.sum + 1e-9, "{row:?}");
    assert_ordered("busy", busy);
    let state = row.state_seconds.unwrap();
    assert!(row.state != State::None && state >= 0.0, "{row:?}");
}

/// Sums over the windows of one loop.
#[derive(Default)]
struct Sums {
    waits: u64,
    events: u64,
    busy: u64,
    /// Seconds: of completed waits and busy times, and in the states.
    spans: [f64; 2],
    times: [f64; 2],
    windows: u64,
}

#[test]
fn snapshots_in_a_tight_loop_never_contradict_themselves() {
    if !require_bpf() {
        return;
    }
    // Whatever else this host does must not keep the loops from their CPU, nor they the snapshots for a slice of time
    // each. Without the right to it, it takes longer.
    let _ = rustix::process::nice(-15);
    let mut workload = Workload::start("--go hot");
    let _ = rustix::process::nice(-5);
    let reactor = Reactor::new().unwrap();
    let mut watch = Watch::start(&options(), &reactor).unwrap();
    workload.tell();
    let (mut sums, mut seconds) = (BTreeMap::new(), 0.0);
    let mut snapshots = 0;
    let started = Instant::now();
    while (snapshots < SNAPSHOTS && started.elapsed() < TIME_MOST) || started.elapsed() < TIME {
        watch.sample().unwrap();
        seconds += take(&mut watch, workload.pid(), &mut sums);
        snapshots += 1;
    }
    workload.tell();
    let said = workload.said();
    watch.sample().unwrap();
    let last = watch.window();
    assert_eq!((build::lost(&last.counters, watch.missed()), watch.damaged()), (Lost::default(), 0));
    seconds += take(&mut watch, workload.pid(), &mut sums);
    for done in list(&said["rows"]) {
        let key =
            (u32::try_from(count(&done["tid"])).unwrap(), done["mechanism"].as_str().unwrap().to_owned());
        let sums = &sums[&key];
        let waits = count(&done["waits"]);
        println!("{} waits in {} of {snapshots} windows of {key:?}", sums.waits, sums.windows);
        assert_eq!((sums.waits, sums.events), (waits, EVENTS * waits), "{done}");
        let first = if key.1 == "epoll" { 1 } else { 16 };
        assert_eq!(sums.busy, waits - first, "{done}");
        let Sums { spans, times, windows, .. } = sums;
        assert!(times.iter().sum::<f64>() <= seconds + 0.01, "{times:?} of {seconds} s: {done}");
        // The states have what has completed, and what was open at the end.
        assert!((0..2).all(|i| times[i] >= spans[i] - 1e-6), "{times:?} against {spans:?}: {done}");
        assert!(*windows > 10, "seen in {windows} of {snapshots} windows");
    }
    workload.finish();
}

/// Looks at the window and begins the next; its length in seconds.
fn take(watch: &mut Watch, pid: u32, sums: &mut BTreeMap<(u32, String), Sums>) -> f64 {
    let window = watch.window();
    for looped in window.loops.iter().filter(|looped| looped.thread.tgid == pid) {
        let row = build::loop_row(looped);
        // The thread that started the others.
        if row.tid == pid {
            continue;
        }
        assert_fits(&row);
        let sums = sums.entry((row.tid, row.mechanism.name().to_owned())).or_default();
        sums.waits += row.waits;
        sums.events += row.events;
        sums.busy += row.busy_seconds.as_ref().map_or(0, |busy| busy.count);
        let busy = row.busy_seconds.as_ref().map_or(0.0, |busy| busy.sum);
        let more = |sums: &mut [f64; 2], values: [f64; 2]| (0..2).for_each(|i| sums[i] += values[i]);
        more(&mut sums.spans, [row.wait_seconds.sum, busy]);
        more(&mut sums.times, [row.time.wait, row.time.busy.unwrap_or(0.0)]);
        sums.windows += u64::from(row.waits > 0);
    }
    watch.begin();
    window.duration_ns as f64 / 1e9
}
