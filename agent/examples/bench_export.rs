//! What the export costs: CPU time of folding loops into groups, of the text, and of its gzip.
//!
//! `bench_export [LOOPS] [GROUPS]` (10000 and 200) makes the records of so many threads by hand, so it needs no root, and
//! prints JSON. Two thousand scrapes follow, with the memory before and after.

use std::{env, fs, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use hyper::{
    HeaderMap,
    body::Bytes,
    header::{ACCEPT_ENCODING, HeaderValue},
};
use loopscope::{
    confine::Confined,
    decode::Record,
    export::{Figures, Own, families, grouping::Grouping, groups::Groups, server::Gzip},
    identity::Process,
    model::Model,
};
use loopscope_probe::{Counters, Head, Loop, histogram::time_bucket, result, timeout};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// CPU time of this process.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// The least CPU time of several runs, in ns.
fn least<T>(runs: usize, mut run: impl FnMut() -> T) -> (f64, Option<T>) {
    let mut last = None;
    let times = (0..runs).map(|_| {
        let start = cpu();
        last = Some(run());
        (cpu() - start).as_nanos() as f64
    });
    (times.fold(f64::INFINITY, f64::min), last)
}

/// A thread's loop after `waits` waits, some of which took long.
fn looped(number: u64, waits: u32) -> Loop {
    let mut looped = Loop { waitable: 0xffff_8880_0000_0000 + number * 256, fd: 5, asked: 64, ..Loop::EMPTY };
    for i in 0..waits {
        let ns = 1_000 << (i % 20);
        looped.wait_ns += ns;
        looped.busy_ns += ns / 2;
        for buckets in [&mut looped.wait, &mut looped.busy] {
            if let Some(bucket) = buckets.get_mut(time_bucket(ns)) {
                *bucket += 1;
            }
        }
        looped.results[result::READY] += 1;
        looped.timeouts[timeout::FINITE] += 1;
        looped.events += 3;
    }
    looped.last_exit_ns = 1 + u64::from(waits);
    looped
}

/// What a pass over so many threads of so many programs gives.
fn records(loops: u32, comms: u32, round: u32) -> Vec<Record> {
    let now_ns = u64::from(round) * 1_000_000_000;
    let mut records: Vec<Record> = (0..loops)
        .map(|i| {
            let mut comm = [0; 16];
            let name = format!("server-{}", i % comms);
            comm.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
            let (tid, born_ns) = (i + 1, u64::from(i) + 1);
            let head = Head { now_ns, born_ns, tgid: tid, tid, comm, thread: comm, ..Head::default() };
            Record::Loops(head, vec![looped(u64::from(i), 20 * round)])
        })
        .collect();
    records.push(Record::Counters(Head { now_ns, ..Head::default() }, Box::default()));
    records
}

fn text(groups: &Groups) -> String {
    let counters = Counters::default();
    let figures = Figures {
        groups,
        probes: &[],
        counters: &counters,
        costs: None,
        missed: 0,
        damaged: 0,
        sample: Duration::ZERO,
        own: Own::default(),
        confined: &Confined::default(),
    };
    families::text(&figures, |_| true).unwrap_or_default()
}

fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("no number")?.parse::<u64>()? * 1024)
}

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let mut number = |default: u32| args.next().map_or(Ok(default), |arg| arg.parse());
    let (loops, most) = (number(10_000)?, number(200)?);
    let mut model = Model::default();
    let mut groups = Groups::new(Grouping { most: most as usize, ..Grouping::default() });
    let (mut windows, mut folds) = (f64::INFINITY, f64::INFINITY);
    for round in 1..6 {
        // Twice as many programs as there is room for.
        model.apply(records(loops, 2 * most, round), &mut |_| Arc::new(Process::default()));
        let (took, window) = least(1, || model.window());
        windows = windows.min(took);
        let start = cpu();
        groups.add(window.context("a window")?);
        folds = folds.min((cpu() - start).as_nanos() as f64);
        model.begin();
    }
    let (text_ns, made) = least(20, || text(&groups));
    let made = made.context("a text")?;
    let lines = made.lines().count();
    let asks = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
    let packed = |text: String| Gzip::default().compress(&asks, &Bytes::from(text));
    let (gzip_ns, bytes) = least(20, || packed(made.clone()));
    let before = resident()?;
    for _ in 0..2_000 {
        std::hint::black_box(packed(text(&groups)));
    }
    let document = json!({
        "loops": loops, "groups": groups.shown(), "folded": groups.folded(),
        "window_ms": windows / 1e6, "fold_ms": folds / 1e6,
        "lines": lines, "bytes": made.len(), "gzip_bytes": bytes.flatten().map(|bytes| bytes.len()),
        "text_ns_per_line": text_ns / lines as f64, "gzip_ns_per_line": gzip_ns / lines as f64,
        "resident_before": before, "resident_after_2000_scrapes": resident()?,
    });
    println!("{document:#}");
    Ok(())
}
