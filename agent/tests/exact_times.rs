//! Times of loops whose times are known, and waits that are in progress when watching begins or ends.
//!
//! What the kernel can have measured is bounded by the workload's own clock readings; utilisation alone has a
//! tolerance, of 3 %.
#![cfg(test)]

mod common;

use std::{thread, time::Duration};

use common::{
    Report, Workload,
    compare::{
        CLOCK_SLACK, assert_busy, assert_counts, assert_nothing_lost, assert_state, count, held, list,
        number, row, rows_of, seconds,
    },
    require_bpf, until_waiting,
};
use serde_json::{Value, json};

/// Time that an ended process may have taken from its last reading of the clock to its end, seconds.
const ENDING: f64 = 0.02;
/// How long the reports on waits in progress watch.
const WINDOW: Duration = Duration::from_millis(1200);

/// Runs one workload to its end under a report; what both say.
fn observe(words: &str) -> (Value, Value) {
    let report = Report::start(&[]);
    let workload = Workload::start(words);
    let said = workload.said();
    workload.finish();
    let report = report.stop();
    assert_nothing_lost(&report);
    (report, said)
}

/// A row's `time` as wait, busy, other wait.
fn times(row: &Value) -> [f64; 3] {
    ["wait", "busy", "other_wait"].map(|key| number(&row["time"][key]))
}

/// From a loop's first entry on, its thread is in one of three states until it ends.
fn assert_times_add_up(row: &Value, done: &Value, now: &Value) {
    let [wait, busy, other] = times(row);
    let sum = wait + busy + other;
    // The first reading is before the first entry, by less than that wait's bracket.
    let most = seconds(now) - seconds(&done["first_before"]) + ENDING;
    let least = seconds(&done["last_after"]) - seconds(&done["first_before"]) - seconds(&done["bracket_max"]);
    assert!(sum >= least && sum <= most, "{sum} s: {least} to {most}\n{row}");
    let utilization = busy / (wait + busy);
    assert!((number(&row["utilization"]) - utilization).abs() < 1e-9, "{row}");
}

#[test]
fn busy_times_are_what_lies_between_the_waits() {
    if !require_bpf() {
        return;
    }
    let (report, said) = observe("--quit busy 40 20");
    let done = &said["rows"][0];
    let row = row(&report, done);
    assert_counts(row, done);
    assert_busy(row, done);
    assert_times_add_up(row, done, &said["now"]);
    assert_eq!(row["ended"], true);
    let [_, _, other] = times(row);
    assert!(other == 0.0, "{row}");
    let (busy, whole) = (&row["busy_seconds"], seconds(&done["last_after"]) - seconds(&done["first_before"]));
    // Each of them is a sleep or a spin of 20 ms.
    assert!(number(&busy["sum"]) >= 39.0 * 0.02 && number(&busy["p50"]) >= 0.02, "{row}");
    assert!(number(&row["wait_seconds"]["sum"]) >= 40.0 * 0.005, "{row}");
    let expected = seconds(&done["between_sum"]) / whole;
    let utilization = number(&row["utilization"]);
    assert!((utilization - expected).abs() < 0.03, "{utilization} instead of {expected}");
}

#[test]
fn waits_on_another_instance_are_no_busy_time() {
    if !require_bpf() {
        return;
    }
    let (report, said) = observe("--quit two 60");
    let [quick_done, slow_done] = [&said["rows"][0], &said["rows"][1]];
    let [quick, slow] = [quick_done, slow_done].map(|done| row(&report, done));
    for (row, done) in [(quick, quick_done), (slow, slow_done)] {
        assert_counts(row, done);
        assert_eq!(row["busy_seconds"]["count"], 59, "{row}");
        assert_times_add_up(row, done, &said["now"]);
        // Both see the same 59 pieces of work of 5 ms, and nothing of each other's waits.
        let (least, most) =
            (seconds(&done["between_sum"]), seconds(&done["between_sum"]) + 0.05 * 0.3 + ENDING);
        let busy = number(&row["busy_seconds"]["sum"]);
        assert!(busy >= least - CLOCK_SLACK && busy <= most, "busy {busy}: {least} to {most}\n{row}");
        assert!(number(&row["busy_seconds"]["p50"]) >= 0.005, "{row}");
    }
    let waited = [quick, slow].map(|row| number(&row["wait_seconds"]["sum"]));
    let [_, _, quick_other] = times(quick);
    let [_, _, slow_other] = times(slow);
    // All of the slow waits lie after the first quick one; all but the first quick wait lie after the first slow one.
    assert!((quick_other - waited[1]).abs() < CLOCK_SLACK, "{quick_other} of {}", waited[1]);
    assert!(
        slow_other <= waited[0] + CLOCK_SLACK && slow_other >= 0.5 * waited[0],
        "{slow_other} of {}",
        waited[0]
    );
    let share = |row: &Value, busy: f64, whole: f64| {
        let found = number(&row["utilization"]);
        assert!((found - busy / whole).abs() < 0.03, "{found} instead of {busy} / {whole}: {row}");
    };
    // The quick loop hardly waits itself; the slow one waits two thirds of its time.
    share(quick, 1.0, 1.0);
    let busy = seconds(&slow_done["between_sum"]) + seconds(&slow_done["between_max"]);
    share(slow, busy, busy + seconds(&slow_done["bracket_sum"]));
}

#[test]
fn a_wait_in_progress_at_attach_shows_as_waiting_and_is_in_no_count() {
    if !require_bpf() {
        return;
    }
    let workload = Workload::start("echo");
    until_waiting(workload.pid());
    let report = Report::start(&[]);
    thread::sleep(WINDOW);
    let report = report.stop();
    let rows = rows_of(&report, workload.pid());
    assert_eq!(rows.len(), 1, "{}", json!(rows));
    let row = rows[0];
    assert_state(row, "wait");
    assert_eq!((&row["waits"], &row["is_loop"], &row["ended"]), (&json!(0), &json!(true), &json!(false)));
    assert_eq!(
        (&row["wait_seconds"]["count"], &row["busy_seconds"]["count"]),
        (&json!(0), &json!(0)),
        "{row}"
    );
    assert_eq!((&row["maxevents"], &row["timeouts"]["infinite"]), (&json!(8), &json!(0)), "{row}");
    let window = number(&report["duration_seconds"]);
    let [wait, busy, other] = times(row);
    assert!(window >= WINDOW.as_secs_f64() && (wait - window).abs() < 0.01, "{wait} of {window}: {row}");
    assert!(number(&row["state_seconds"]) >= wait && busy == 0.0 && other == 0.0, "{row}");
    assert_eq!(row["utilization"], 0.0);
    let instance = held(&report, workload.pid(), &row["epfd"]);
    assert_eq!((&instance["instance"], &instance["waiters"]), (&row["instance"], &json!(1)));
    workload.finish();
    assert_nothing_lost(&report);
}

#[test]
fn a_wait_that_began_before_the_probes_is_not_counted_when_it_completes() {
    if !require_bpf() {
        return;
    }
    let mut workload = Workload::start("echo");
    until_waiting(workload.pid());
    let report = Report::start(&[]);
    thread::sleep(WINDOW / 4);
    for _ in 0..6 {
        workload.tell();
        workload.said();
        until_waiting(workload.pid());
    }
    thread::sleep(WINDOW / 4);
    let report = report.stop();
    let rows = rows_of(&report, workload.pid());
    let row = rows[0];
    // The first of six waits began before the probes; a seventh is in progress.
    let results = json!({ "ready": 5, "timeout": 0, "empty": 0, "interrupted": 0, "error": 0 });
    assert_eq!((rows.len(), &row["waits"], &row["results"]), (1, &json!(5), &results), "{row}");
    assert_eq!((&row["events"], &row["timeouts"]["infinite"]), (&json!(5), &json!(5)), "{row}");
    // Before each of those five and before the seventh there was a busy time.
    assert_eq!(
        (&row["wait_seconds"]["count"], &row["busy_seconds"]["count"]),
        (&json!(5), &json!(6)),
        "{row}"
    );
    assert_state(row, "wait");
    let window = number(&report["duration_seconds"]);
    let [wait, busy, other] = times(row);
    // The counted waits are a few ms; the time of the others is in `time` alone.
    let open = number(&row["state_seconds"]);
    assert!(open >= WINDOW.as_secs_f64() / 4.0 && open < window / 2.0 + 0.1, "{row}");
    let counted = number(&row["wait_seconds"]["sum"]);
    assert!(wait >= counted + open + WINDOW.as_secs_f64() / 4.0, "{row}");
    assert!((wait + busy + other - window).abs() < 0.01, "{wait} + {busy} of {window}: {row}");
    assert!((busy - number(&row["busy_seconds"]["sum"])).abs() < 1e-6, "{row}");
    workload.finish();
    assert_nothing_lost(&report);
}

#[test]
fn a_wait_in_progress_at_the_end_shows_as_waiting() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let mut workload = Workload::start("echo");
    let mut said = Value::Null;
    for _ in 0..4 {
        workload.tell();
        said = workload.said();
    }
    until_waiting(workload.pid());
    thread::sleep(WINDOW / 4);
    let report = report.stop();
    let done = &said["rows"][0];
    let row = row(&report, done);
    assert_counts(row, done);
    assert_state(row, "wait");
    // The wait that is in progress has ended a busy time.
    assert_eq!(row["busy_seconds"]["count"], count(&done["waits"]), "{row}");
    let open = number(&row["state_seconds"]);
    let [wait, _, _] = times(row);
    assert!(open >= WINDOW.as_secs_f64() / 4.0 - 0.01 && wait >= open, "{row}");
    assert!((wait - open - number(&row["wait_seconds"]["sum"])).abs() < 1e-6, "{row}");
    assert_eq!(list(&report["loops"]).iter().filter(|other| other["instance"] == row["instance"]).count(), 1);
    workload.finish();
    assert_nothing_lost(&report);
}
