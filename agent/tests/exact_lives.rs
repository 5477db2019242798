//! Counts for equality where nothing stays: a thousand instances behind one descriptor, thousands of short threads
//! and processes, a process that is killed. What died within the window keeps every count.
//!
//! One report over all workloads; each test looks at one.
#![cfg(test)]

mod common;

use std::{collections::BTreeSet, sync::LazyLock, thread, time::Duration};

use common::{
    Report, Workload,
    compare::{
        CLOCK_SLACK, assert_busy, assert_counts, assert_nothing_lost, assert_state, count, instance, list,
        number, row, rows_of, seconds, sum,
    },
    require_bpf,
    run::Run,
    until_waiting,
};
use serde_json::{Value, json};

const GENERATIONS: &str = "generations 1000";
const THREADS: &str = "threads 3000 64";
const PROCESSES: &str = "processes 300 16";
const QUIT: &str = "--quit results 10";

/// All workloads, observed; None where the probes cannot be loaded.
fn run() -> Option<&'static Run> {
    static RUN: LazyLock<Run> =
        LazyLock::new(|| Run::of(&[(GENERATIONS, 1), (THREADS, 1), (PROCESSES, 1), (QUIT, 1)]));
    require_bpf().then(|| &*RUN)
}

fn distinct(rows: &[&Value], key: &str) -> usize {
    rows.iter().map(|row| row[key].to_string()).collect::<BTreeSet<_>>().len()
}

/// Every row is of one life: an instance of its own with one add and one del; a wait that was ready, one that ran
/// out, one that found nothing.
fn assert_lives(report: &Value, rows: &[&Value], lives: usize) {
    assert_eq!(rows.len(), lives);
    assert_eq!((distinct(rows, "tid"), distinct(rows, "instance")), (lives, lives));
    assert_eq!(sum(rows, "waits"), 3 * lives as u64);
    for row in rows {
        let results = json!({ "ready": 1, "timeout": 1, "empty": 1, "interrupted": 0, "error": 0 });
        assert_eq!((&row["results"], &row["ended"]), (&results, &json!(true)), "{row}");
        let timeouts = json!({ "infinite": 1, "zero": 1, "finite": 1, "unknown": 0 });
        assert_eq!((&row["timeouts"], &row["events"]), (&timeouts, &json!(1)), "{row}");
        assert_eq!((&row["busy_seconds"]["count"], &row["state"]), (&json!(2), &json!("none")), "{row}");
        let instance = instance(report, &row["instance"]);
        let calls = ["add", "del", "mod"].map(|key| count(&instance["ctl"][key]));
        assert_eq!((calls, count(&instance["waiters"])), ([1, 1, 0], 1), "{instance}");
    }
}

#[test]
fn nothing_is_lost() {
    let Some(run) = run() else { return };
    assert_nothing_lost(&run.report);
}

#[test]
fn each_reopened_instance_is_one_of_its_own() {
    let Some(run) = run() else { return };
    let seen = run.seen(GENERATIONS);
    let rows = rows_of(&run.report, seen.pid);
    // A thousand that were closed, and one that was kept.
    assert_eq!((rows.len(), distinct(&rows, "instance"), sum(&rows, "waits")), (1001, 1001, 1001));
    for row in &rows {
        assert_eq!((&row["waits"], &row["events"]), (&json!(1), &json!(1)), "{row}");
        assert_eq!(instance(&run.report, &row["instance"])["ctl"]["add"], 1);
    }
}

#[test]
fn an_instance_that_was_closed_has_ended_and_nobody_holds_it() {
    let Some(run) = run() else { return };
    let seen = run.seen(GENERATIONS);
    let rows = rows_of(&run.report, seen.pid);
    let open: Vec<&&Value> = rows.iter().filter(|row| row["ended"] == false).collect();
    assert_eq!(open.len(), 1, "{} of {} rows have not ended", open.len(), rows.len());
    assert_state(open[0], "busy");
    let holder = json!({ "pid": seen.pid, "fd": seen.done()["kept"] });
    let held = list(&run.report["instances"]).iter().filter(|row| list(&row["holders"]).contains(&holder));
    let held: Vec<&Value> = held.map(|row| &row["instance"]).collect();
    assert_eq!(held, [&open[0]["instance"]], "instances held by {holder}");
}

#[test]
fn every_wait_of_short_threads_is_counted() {
    let Some(run) = run() else { return };
    let seen = run.seen(THREADS);
    assert_lives(&run.report, &rows_of(&run.report, seen.pid), 3000);
}

#[test]
fn every_wait_of_short_processes_is_counted() {
    let Some(run) = run() else { return };
    let pids: BTreeSet<u64> = list(&run.seen(PROCESSES).done()["pids"]).iter().map(count).collect();
    let rows = list(&run.report["loops"]).iter().filter(|row| pids.contains(&count(&row["pid"])));
    let rows: Vec<&Value> = rows.filter(|row| row["mechanism"] == "epoll").collect();
    assert_lives(&run.report, &rows, 300);
    assert_eq!(distinct(&rows, "pid"), 300);
}

#[test]
fn a_process_that_ended_keeps_its_counts() {
    let Some(run) = run() else { return };
    for done in list(&run.seen(QUIT).done()["rows"]) {
        let row = row(&run.report, done);
        assert_counts(row, done);
        assert_busy(row, done);
        assert_state(row, "none");
        assert_eq!(row["ended"], true);
    }
}

#[test]
fn a_wait_that_is_killed_was_interrupted() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let mut workload = Workload::start("echo");
    for _ in 0..3 {
        workload.tell();
        workload.said();
    }
    let pid = workload.pid();
    until_waiting(pid);
    workload.kill();
    let report = report.stop();
    assert_nothing_lost(&report);
    let rows = rows_of(&report, pid);
    assert_eq!(rows.len(), 1, "{}", json!(rows));
    let results = json!({ "ready": 3, "timeout": 0, "empty": 0, "interrupted": 1, "error": 0 });
    assert_eq!((&rows[0]["waits"], &rows[0]["results"]), (&json!(4), &results));
    assert_eq!((&rows[0]["ended"], &rows[0]["busy_seconds"]["count"]), (&json!(true), &json!(3)));
    assert_state(rows[0], "none");
}

#[test]
fn a_loop_whose_instance_is_closed_is_not_busy_until_its_thread_ends() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("--quit closed 20");
    let said = workload.said();
    workload.finish();
    let report = report.stop();
    let done = &said["rows"][0];
    let row = row(&report, done);
    assert_counts(row, done);
    assert_busy(row, done);
    assert_eq!(row["ended"], true);
    // It was closed at once, and the thread did something else for 1.5 s.
    let whole = seconds(&done["last_after"]) - seconds(&done["first_before"]) + CLOCK_SLACK;
    let busy = number(&row["time"]["busy"]);
    assert!(busy <= whole - number(&row["wait_seconds"]["sum"]), "busy for {busy} of {whole} s: {row}");
}

#[test]
fn what_is_missing_was_lost_and_nothing_is_invented() {
    if !require_bpf() {
        return;
    }
    // Twelve instances are more than a thread has room for, and an agent that sleeps does not read the records that
    // make room.
    let report = Report::start(&[]);
    let workload = Workload::start("rush 20000");
    let mut said = None;
    while said.is_none() {
        report.asleep(|| thread::sleep(Duration::from_millis(250)));
        said = workload.said_within(Duration::from_millis(100));
    }
    let said = said.unwrap();
    let report = report.stop();
    let rows = rows_of(&report, workload.pid());
    let mut missing = 0;
    for done in list(&said["rows"]) {
        let row = row(&report, done);
        let made = count(&done["waits"]);
        missing +=
            made.checked_sub(count(&row["waits"])).unwrap_or_else(|| panic!("more than {made}: {row}"));
        for result in ["ready", "timeout", "empty", "interrupted", "error"] {
            assert!(count(&row["results"][result]) <= count(&done["results"][result]), "{result} of {row}");
        }
        assert!(count(&row["events"]) <= count(&done["events"]), "{row}");
    }
    assert_eq!(rows.len(), 12);
    // A record that makes room has at most eight loops, each with a wait or two here.
    let lost = count(&report["lost"]["events"]);
    assert!(lost > 0, "the agent was asleep and lost nothing");
    println!("{missing} waits are missing, with {lost} records lost");
    assert!(missing <= lost * 8, "{missing} waits are missing, with {lost} records lost");
    workload.finish();
}

#[test]
fn a_thread_whose_end_was_lost_has_ended_all_the_same() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("crowd 2000");
    workload.said();
    let pid = workload.pid();
    // A pass has seen them all; then the agent sleeps while they end, which is more than the ring buffer holds.
    thread::sleep(Duration::from_millis(1500));
    report.asleep(|| workload.kill());
    thread::sleep(Duration::from_millis(1500));
    let report = report.stop();
    assert!(count(&report["lost"]["events"]) > 0, "the agent was asleep and lost nothing");
    let rows = rows_of(&report, pid);
    assert_eq!((rows.len(), distinct(&rows, "tid")), (4000, 2000));
    let living = rows.iter().filter(|row| row["ended"] == false).count();
    assert_eq!(living, 0, "rows of {living} loops have not ended, of a process that is gone");
    assert!(rows.iter().all(|row| row["state"] == "none"));
}
