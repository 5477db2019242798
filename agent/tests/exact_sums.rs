//! What waits and busy times add up to: a loop's whole span, but for what is no busy time; each wait against its bracket;
//! and thousands of loops at once.
//!
//! Tolerances stand beside what they are for; no count has one.
#![cfg(test)]

mod common;

use std::{collections::BTreeMap, thread, time::Duration};

use common::{
    Report, Workload,
    compare::{
        CLOCK_SLACK, assert_counts, assert_no_busy, assert_nothing_lost, assert_state, count, list, number,
        rows_of, seconds, sum,
    },
    observe, require_bpf,
};
use serde_json::{Value, json};

/// Waits that make poll and select calls a loop.
const LOOP_WAITS: u64 = 16;
/// From a reading of the clock to the entry of a call, and from its exit to a reading, together, seconds: in half of
/// the cases, and where a thread lost its CPU right there. Before the first entry the thread's record is made too.
const EDGES: f64 = 20e-6;
const MAKING: f64 = 200e-6;
const EDGES_MOST: f64 = 5e-3;
/// Median difference of a wait as the kernel saw it and its bracket at most, seconds.
const DIFFERENCE: f64 = 20e-6;

/// The rows of a process by thread and mechanism; none has two of one.
fn by_thread(report: &Value, pid: u32) -> BTreeMap<(u64, &str), &Value> {
    let mut rows = BTreeMap::new();
    for row in list(&report["loops"]).iter().filter(|row| row["pid"] == pid) {
        let key = (count(&row["tid"]), row["mechanism"].as_str().unwrap());
        assert!(rows.insert(key, row).is_none(), "two rows: {row}");
    }
    rows
}

/// The row of a thread by what a workload says of it.
fn of<'a>(rows: &BTreeMap<(u64, &str), &'a Value>, done: &Value) -> &'a Value {
    let key = (count(&done["tid"]), done["mechanism"].as_str().unwrap());
    rows.get(&key).unwrap_or_else(|| panic!("no row for {done}"))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn waits_and_busy_times_add_up_to_a_loops_whole_span() {
    if !require_bpf() {
        return;
    }
    let (report, said, workload) = observe("sums 9 60");
    let rows = by_thread(&report, workload.pid());
    let mut left: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for done in list(&said["rows"]) {
        let row = of(&rows, done);
        let (waited, busy) = (&row["wait_seconds"], &row["busy_seconds"]);
        let first = if row["mechanism"] == "epoll" { 1 } else { LOOP_WAITS };
        assert_eq!((&waited["count"], &busy["count"]), (&json!(60), &json!(60 - first)), "{row}");
        // What lies between the first waits by poll and select is no busy time yet.
        let early = done["early"].as_u64().unwrap_or(0) as f64 / 1e9;
        let span = seconds(&done["last_after"]) - seconds(&done["first_before"]);
        let rest = span - number(&waited["sum"]) - number(&busy["sum"]) - early;
        // The first reading to the first entry, the last exit to the last reading; early gaps have two such edges each.
        let edges = if early > 0.0 { LOOP_WAITS as f64 } else { 1.0 };
        assert!(rest >= -CLOCK_SLACK && rest < edges * EDGES_MOST, "{rest} s of {span} are nowhere: {row}");
        left.entry(row["mechanism"].as_str().unwrap()).or_default().push(rest - edges * EDGES);
    }
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), ["epoll", "poll", "select"]);
    for (mechanism, rests) in &mut left {
        let median = median(rests);
        println!("{mechanism}: {:.1} us beside what the edges may take", median * 1e6);
        assert!(median < MAKING, "{mechanism}: {rests:?}");
    }
    workload.finish();
}

#[test]
fn each_wait_lies_in_its_bracket_and_half_of_them_within_20_us_of_it() {
    if !require_bpf() {
        return;
    }
    let (report, said, workload) = observe("singles 301");
    let rows = by_thread(&report, workload.pid());
    let mut differences = Vec::new();
    for done in list(&said["rows"]) {
        let row = of(&rows, done);
        assert_counts(row, done);
        assert_eq!((&row["waits"], &row["ended"]), (&json!(2), &json!(true)), "{row}");
        // The longer of two, which is the second: the first makes the thread's record, before its entry is timed.
        let wait = number(&row["wait_seconds"]["max"]);
        assert!(wait >= 0.002, "a wait of 2 ms took {wait} s: {row}");
        let difference = seconds(&done["bracket_max"]) - wait;
        assert!(difference >= -CLOCK_SLACK, "{difference} s: {row}\nagainst {done}");
        differences.push(difference);
    }
    assert_eq!(differences.len(), 301);
    let median = median(&mut differences);
    println!("median difference {:.1} us", median * 1e6);
    assert!(median <= DIFFERENCE, "{median} s");
    workload.finish();
}

#[test]
fn two_thousand_loops_at_once_are_all_there_with_their_counts() {
    if !require_bpf() {
        return;
    }
    let (report, said, workload) = observe("many 2000");
    let rows = by_thread(&report, workload.pid());
    let dones = list(&said["rows"]);
    for done in dones {
        let row = of(&rows, done);
        assert_counts(row, done);
        assert_eq!(
            (&row["epfd"], &row["ended"], &row["is_loop"]),
            (&done["epfd"], &json!(false), &json!(true))
        );
        // Some are on their way to the wait in which they stay.
        let began = u64::from(row["state"] == "wait");
        assert_eq!(row["busy_seconds"]["count"], count(&done["waits"]) - 1 + began, "{row}");
    }
    let epoll = rows_of(&report, workload.pid());
    assert_eq!((dones.len(), epoll.len()), (2000, 2000));
    let waits: u64 = dones.iter().map(|done| count(&done["waits"])).sum();
    assert_eq!(sum(&epoll, "waits"), waits);
    let calls: BTreeMap<u64, u64> = list(&report["instances"])
        .iter()
        .map(|row| (count(&row["instance"]), count(&row["ctl"]["add"]) + count(&row["ctl"]["del"])))
        .collect();
    for row in &epoll {
        assert_eq!(calls[&count(&row["instance"])], count(&row["waits"]), "{row}");
    }
    workload.kill();
}

#[test]
fn a_gap_of_more_than_10_s_ends_a_poll_or_select_loop_and_is_no_busy_time() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("sets-gaps");
    let said = workload.said();
    // Less than the gap that ends a loop, and long enough for a pass.
    thread::sleep(Duration::from_millis(500));
    let report = report.stop();
    assert_nothing_lost(&report);
    let rows = by_thread(&report, workload.pid());
    let dones = list(&said["rows"]);
    assert_eq!(dones.len(), 14);
    for done in dones {
        assert_gap(of(&rows, &done["waits"]), done);
    }
    workload.finish();
}

/// A row of a thread that made waits, paused, and made more.
fn assert_gap(row: &Value, done: &Value) {
    let what = format!("{}: {row}\nagainst {done}", done["name"]);
    for key in ["waits", "results", "timeouts"] {
        assert_eq!(row[key], done["waits"][key], "{key}, {what}");
    }
    let [before, after] = ["before", "after"].map(|key| count(&done[key]));
    let pause = seconds(&done["pause"]);
    let goes_on = pause < 10.0;
    let streak = if goes_on { before + after } else { after };
    assert_eq!(row["is_loop"], streak >= LOOP_WAITS, "{what}");
    if streak < LOOP_WAITS {
        return assert_no_busy(row);
    }
    assert_state(row, "busy");
    // A busy time begins at each exit from the 16th wait of a streak on.
    let of_streak = |waits: u64| waits.saturating_sub(LOOP_WAITS);
    let times = if goes_on { of_streak(before + after) } else { of_streak(before) + of_streak(after) };
    let busy = &row["busy_seconds"];
    assert_eq!(busy["count"], times, "{what}");
    let (sum, max) = (number(&busy["sum"]), busy["max"].as_f64().unwrap_or(0.0));
    let open = number(&row["state_seconds"]);
    if goes_on {
        assert!(max >= pause && max < pause + 0.1 && sum >= pause, "{what}");
    } else {
        assert!(sum < 5.0 && max < 5.0, "a gap is in {sum} s: {what}");
    }
    let shown = number(&row["time"]["busy"]);
    assert!((shown - sum - open).abs() < 1e-6, "{shown} is not {sum} and {open}: {what}");
}
