//! What a report says against what a workload counted: counts for equality, times within the workload's brackets.
//!
//! Must not allow a difference of one in any count.

use serde_json::{Value, json};

/// How far two clocks that are the same may seem apart: the kernel's fast reading of CLOCK_MONOTONIC and the one of
/// user space, seconds.
pub const CLOCK_SLACK: f64 = 5e-6;

/// Wait times lie within the workload's brackets of them.
pub fn assert_brackets(row: &Value, done: &Value) {
    let waited = &row["wait_seconds"];
    for (figure, bracket) in [("sum", "bracket_sum"), ("max", "bracket_max")] {
        let most = seconds(&done[bracket]) + CLOCK_SLACK;
        assert!(number(&waited[figure]) <= most, "{figure} of {row}\nagainst {done}");
    }
}

/// A number.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// A count.
pub fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no count: {value}"))
}

/// ns of the workload as seconds.
pub fn seconds(ns: &Value) -> f64 {
    number(ns) / 1e9
}

/// The rows of a report's list, or the objects of a workload's.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// The epoll rows of a process. (Before main, a Rust program polls its standard descriptors once.)
pub fn rows_of(report: &Value, pid: u32) -> Vec<&Value> {
    list(&report["loops"]).iter().filter(|row| row["pid"] == pid && row["mechanism"] == "epoll").collect()
}

/// The row of a thread on a descriptor, as the workload names them; there is exactly one.
pub fn row<'a>(report: &'a Value, done: &Value) -> &'a Value {
    let own = ["pid", "tid", "epfd"];
    let pid = u32::try_from(count(&done["pid"])).unwrap();
    let mut rows = rows_of(report, pid);
    rows.retain(|row| own.iter().all(|key| row[*key] == done[*key]));
    assert_eq!(rows.len(), 1, "rows for {done}: {}", json!(rows));
    rows[0]
}

/// The instance with a number of ours.
pub fn instance<'a>(report: &'a Value, number: &Value) -> &'a Value {
    let found = list(&report["instances"]).iter().find(|instance| instance["instance"] == *number);
    found.unwrap_or_else(|| panic!("no instance {number}"))
}

/// The instance that a process holds by a descriptor.
pub fn held<'a>(report: &'a Value, pid: u32, fd: &Value) -> &'a Value {
    let holder = json!({ "pid": pid, "fd": fd });
    let held = list(&report["instances"]).iter().filter(|row| list(&row["holders"]).contains(&holder));
    let held: Vec<&Value> = held.collect();
    assert_eq!(held.len(), 1, "instances held by {holder}: {}", json!(held));
    held[0]
}

/// The sum of a count over rows.
pub fn sum(rows: &[&Value], key: &str) -> u64 {
    rows.iter().map(|row| count(&row[key])).sum()
}

/// Whether a note is of what the way of attaching never sees, rather than of this report.
pub fn is_standing(note: &Value) -> bool {
    note.as_str().is_some_and(|note| note.starts_with("waits of 32-bit processes"))
}

/// Nothing may be lost, or no count can be trusted.
pub fn assert_nothing_lost(report: &Value) {
    assert_only_lost(report, "records", 0);
    // That the tracepoints of single calls miss 32-bit processes is so wherever they are used.
    let notes = list(&report["notes"]).iter().filter(|note| !is_standing(note));
    assert_eq!(notes.collect::<Vec<_>>(), Vec::<&Value>::new());
}

/// `lost`, of which one reason alone may have a count, and has this one.
pub fn assert_only_lost(report: &Value, reason: &str, expected: u64) {
    let mut lost =
        json!({ "records": 0, "events": 0, "missed": 0, "unpaired": 0, "clamped": 0, "unseen": 0 });
    lost[reason] = json!(expected);
    assert_eq!(report["lost"], lost, "{expected} {reason} and nothing else may be lost");
}

/// A row counts what the workload counted, and its wait times lie within the brackets.
pub fn assert_counts(row: &Value, done: &Value) {
    for key in ["waits", "events", "results", "timeouts", "saturated", "maxevents"] {
        assert_eq!(row[key], done[key], "{key} of {row}\nagainst {done}");
    }
    let waits = count(&done["waits"]);
    let failed = count(&done["results"]["interrupted"]) + count(&done["results"]["error"]);
    let (waited, events) = (&row["wait_seconds"], &row["events_per_wait"]);
    assert_eq!(waited["count"], waits, "{row}");
    assert_eq!(events["count"], waits - failed, "{row}");
    assert_eq!(events["sum"], done["events"], "{row}");
    if waits > failed {
        assert_eq!(events["max"], done["events_max"], "{row}");
    }
    assert_brackets(row, done);
    assert!(number(&row["time"]["wait"]) >= number(&waited["sum"]) - CLOCK_SLACK, "{row}");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(row["copied_bytes"], json!({ "in": 0, "out": 12 * count(&done["events"]) }));
    }
}

/// A loop's busy times are those between its waits, and lie between what the workload knows them to be at least and
/// at most.
pub fn assert_busy(row: &Value, done: &Value) {
    assert_eq!(row["is_loop"], true, "{row}");
    let busy = &row["busy_seconds"];
    assert_eq!(busy["count"], count(&done["waits"]) - 1, "{row}");
    if busy["count"] == 0 {
        assert_eq!(
            *busy,
            json!({ "count": 0, "sum": 0.0, "p50": null, "p90": null, "p99": null, "max": null })
        );
        return;
    }
    // From the first entry to the last exit there are only waits and busy times.
    let whole = seconds(&done["last_after"]) - seconds(&done["first_before"]);
    let (least, most) = (seconds(&done["between_sum"]), whole - number(&row["wait_seconds"]["sum"]));
    let sum = number(&busy["sum"]);
    assert!(sum >= least - CLOCK_SLACK && sum <= most + CLOCK_SLACK, "busy {sum}: {least} to {most}\n{row}");
    let (least, most) = (seconds(&done["between_max"]), seconds(&done["around_max"]));
    let max = number(&busy["max"]);
    assert!(max >= least - CLOCK_SLACK && max <= most + CLOCK_SLACK, "max {max}: {least} to {most}\n{row}");
    let quantiles = ["p50", "p90", "p99", "max"].map(|key| number(&busy[key]));
    assert!(quantiles.is_sorted(), "{busy}");
}

/// Where several threads wait, and where nobody comes back, nothing is said of busy time.
pub fn assert_no_busy(row: &Value) {
    for value in [&row["busy_seconds"], &row["utilization"], &row["time"]["busy"], &row["time"]["other_wait"]]
    {
        assert!(value.is_null(), "{row}");
    }
    assert_eq!((&row["state"], &row["state_seconds"]), (&json!("none"), &Value::Null), "{row}");
}

/// What the state is, and that a length is given just where there is a state.
pub fn assert_state(row: &Value, state: &str) {
    assert_eq!(row["state"], state, "{row}");
    assert_eq!(row["state_seconds"].is_null(), state == "none", "{row}");
}
