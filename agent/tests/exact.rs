//! Counts for equality: a workload that counts its own waits and epoll_ctl calls, against the report on it.
//!
//! One report over all workloads; each test looks at one. Nothing here may depend on how fast this machine is.
#![cfg(test)]

mod common;

use std::{collections::BTreeSet, sync::LazyLock};

use common::{
    compare::{
        assert_busy, assert_counts, assert_no_busy, assert_nothing_lost, assert_state, count, held, instance,
        list, row, rows_of, sum,
    },
    require_bpf,
    run::Run,
};
use serde_json::{Value, json};

const RESULTS: &str = "results 40";
const CTL: &str = "ctl";
const SEVERAL: [&str; 3] = ["instances 2 500", "instances 6 500", "instances 8 500"];
const TWELVE: &str = "instances 12 100";
const SHARED: &str = "shared 4 5000";
const EXEC: &str = "old-program= exec 20 30";
const EXEC_THREAD: &str = "old-program= exec-thread 20 30";
const FORK: &str = "fork 40";

/// All workloads, observed; None where the probes cannot be loaded.
fn run() -> Option<&'static Run> {
    static RUN: LazyLock<Run> = LazyLock::new(|| {
        let mut workloads = vec![(RESULTS, 1), (CTL, 1), (TWELVE, 1), (SHARED, 1)];
        workloads.extend(SEVERAL.map(|words| (words, 1)));
        workloads.extend([(EXEC, 2), (EXEC_THREAD, 2), (FORK, 2)]);
        Run::of(&workloads)
    });
    require_bpf().then(|| &*RUN)
}

/// The row that a workload's only object is about.
fn only(report: &Value, said: &Value) -> (Value, Value) {
    let rows = list(&said["rows"]);
    assert_eq!(rows.len(), 1);
    (row(report, &rows[0]).clone(), rows[0].clone())
}

#[test]
fn nothing_is_lost() {
    let Some(run) = run() else { return };
    assert_nothing_lost(&run.report);
}

#[test]
fn every_result_and_timeout_is_counted_for_every_call() {
    let Some(run) = run() else { return };
    let done = run.seen(RESULTS).done();
    for done in list(&done["rows"]) {
        let row = row(&run.report, done);
        assert_counts(row, done);
        assert_busy(row, done);
        assert_eq!(row["ended"], false);
        // The thread went on to the next call's instance, and then to read stdin.
        assert_state(row, "busy");
    }
}

#[test]
fn waits_without_an_instance_are_in_a_row_of_their_own() {
    let Some(run) = run() else { return };
    let seen = run.seen(RESULTS);
    let rows = rows_of(&run.report, seen.pid);
    let without: Vec<&&Value> = rows.iter().filter(|row| row["instance"].is_null()).collect();
    assert_eq!(without.len(), 1, "{rows:?}");
    let expected: u64 = list(&seen.done()["without_instance"]).iter().map(|done| count(&done["waits"])).sum();
    assert_eq!(without[0]["waits"], expected);
    assert_eq!(without[0]["results"]["error"], expected);
    assert_no_busy(without[0]);
}

#[test]
fn every_epoll_ctl_is_counted_with_its_flags_and_errors() {
    let Some(run) = run() else { return };
    let seen = run.seen(CTL);
    let done = seen.done();
    assert_counts(row(&run.report, &done["rows"][0]), &done["rows"][0]);
    for done in list(&done["ctl"]) {
        let ctl = &held(&run.report, seen.pid, &done["epfd"])["ctl"];
        for key in ["add", "mod", "del", "errors", "flags"] {
            assert_eq!(ctl[key], done[key], "{key} of {ctl}\nagainst {done}");
        }
    }
    // One that is watched by another and that nobody waits on: its only call would have closed a circle. It is
    // closed by now, so that nobody holds it.
    let circles =
        list(&run.report["instances"]).iter().filter(|row| row["ctl"]["errors"] == json!({ "ELOOP": 1 }));
    assert_eq!(circles.count(), 1);
}

#[test]
fn the_waiters_of_an_instance_are_counted_and_not_those_who_only_change_it() {
    let Some(run) = run() else { return };
    let seen = run.seen(CTL);
    let waiters: Vec<&Value> = list(&seen.done()["ctl"])
        .iter()
        .map(|done| &held(&run.report, seen.pid, &done["epfd"])["waiters"])
        .collect();
    assert_eq!(waiters, [1, 0]);
}

#[test]
fn several_instances_of_one_thread_are_told_apart() {
    let Some(run) = run() else { return };
    for words in SEVERAL {
        let seen = run.seen(words);
        let dones = list(&seen.done()["rows"]);
        for done in dones {
            let row = row(&run.report, done);
            assert_counts(row, done);
            assert_busy(row, done);
            assert_state(row, "busy");
        }
        assert_eq!(rows_of(&run.report, seen.pid).len(), dones.len());
    }
}

#[test]
fn a_thread_with_more_instances_than_slots_loses_no_wait() {
    let Some(run) = run() else { return };
    let seen = run.seen(TWELVE);
    for done in list(&seen.done()["rows"]) {
        let row = row(&run.report, done);
        assert_counts(row, done);
        assert_eq!(row["ended"], false);
        assert_eq!(instance(&run.report, &row["instance"])["ctl"]["add"], 1);
    }
    assert_eq!(rows_of(&run.report, seen.pid).len(), 12);
}

#[test]
fn threads_that_share_an_instance_are_counted_each_and_have_no_busy_time() {
    let Some(run) = run() else { return };
    let seen = run.seen(SHARED);
    let dones = list(&seen.done()["rows"]);
    for done in dones {
        let row = row(&run.report, done);
        assert_counts(row, done);
        assert_no_busy(row);
    }
    let rows = rows_of(&run.report, seen.pid);
    // Not 20,000 events: a wait that finds the ready list in another one's hands may end without any (seen on 6.1).
    let events: u64 = dones.iter().map(|done| count(&done["events"])).sum();
    assert_eq!((rows.len(), sum(&rows, "waits"), sum(&rows, "events")), (4, 20_000, events));
    let instances: BTreeSet<u64> = rows.iter().map(|row| count(&row["instance"])).collect();
    assert_eq!(instances.len(), 1);
    let shared = held(&run.report, seen.pid, &dones[0]["epfd"]);
    assert_eq!(
        (&shared["waiters"], &shared["holders"]),
        (&json!(4), &json!([{ "pid": seen.pid, "fd": dones[0]["epfd"] }]))
    );
}

#[test]
fn exec_ends_a_row_and_begins_another() {
    let Some(run) = run() else { return };
    for (words, thread) in [(EXEC, "old-program"), (EXEC_THREAD, "old-thread")] {
        let seen = run.seen(words);
        let (old, old_done) = only(&run.report, &seen.said[0]);
        assert_counts(&old, &old_done);
        assert_busy(&old, &old_done);
        assert_state(&old, "none");
        assert_eq!((&old["comm"], &old["thread"]), (&json!("old-program"), &json!(thread)));
        assert_eq!(old["ended"], true);
        let (new, new_done) = only(&run.report, &seen.said[1]);
        assert_counts(&new, &new_done);
        assert_busy(&new, &new_done);
        assert_eq!((&new["comm"], &new["ended"]), (&json!("new-program"), &json!(false)));
        assert_eq!(rows_of(&run.report, seen.pid).len(), 2);
    }
}

#[test]
fn a_forked_child_waits_on_its_parents_instance() {
    let Some(run) = run() else { return };
    let seen = run.seen(FORK);
    let mut instances = BTreeSet::new();
    let mut holders = BTreeSet::new();
    for said in &seen.said {
        let (row, done) = only(&run.report, said);
        assert_counts(&row, &done);
        assert_no_busy(&row);
        instances.insert(count(&row["instance"]));
        holders.insert((count(&row["pid"]), count(&row["epfd"])));
    }
    assert_eq!((instances.len(), holders.len()), (1, 2));
    let shared = instance(&run.report, &json!(instances.first()));
    assert_eq!(shared["waiters"], 2);
    let listed = list(&shared["holders"]).iter().map(|holder| (count(&holder["pid"]), count(&holder["fd"])));
    assert_eq!(listed.collect::<BTreeSet<_>>(), holders);
}

#[test]
fn the_agent_shows_its_own_loop() {
    let Some(run) = run() else { return };
    let rows = rows_of(&run.report, run.agent);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["comm"], &rows[0]["is_loop"]), (&json!("loopscope"), &json!(true)));
    assert!(count(&rows[0]["waits"]) > 0);
}
