//! Rings of io_uring: waits by result, completions, submissions and overflows equal to the workload's own; requests that
//! act on epoll instances; waits in progress; and wait and busy times that add up.
#![cfg(test)]

mod common;

use std::{fs, thread, time::Duration};

use common::{
    Report, Workload,
    compare::{
        CLOCK_SLACK, assert_brackets, assert_busy, assert_nothing_lost, assert_state, count, held, list,
        number, row, seconds,
    },
    observe, require_bpf, until,
};
use serde_json::{Value, json};

/// From a reading of the clock to the entry of a call, and from its exit to a reading, together, seconds, at most.
const EDGES: f64 = 5e-3;

/// The row of a thread on a ring, by its last descriptor; there is exactly one.
fn ring_row<'a>(report: &'a Value, done: &Value) -> &'a Value {
    let own = |row: &&Value| ["pid", "tid", "mechanism", "epfd"].iter().all(|key| row[*key] == done[*key]);
    let rows: Vec<&Value> = list(&report["loops"]).iter().filter(own).collect();
    assert_eq!(rows.len(), 1, "rows for {done}: {}", json!(rows));
    rows[0]
}

/// A row counts what the workload counted; its wait times lie within the brackets.
fn assert_ring(row: &Value, done: &Value) {
    for key in ["waits", "events", "results", "timeouts", "maxevents", "min_complete", "submissions"] {
        assert_eq!(row[key], done[key], "{key} of {row}\nagainst {done}");
    }
    assert_eq!(row["saturated"], done["saturated"], "{row}\nagainst {done}");
    assert_eq!(row["copied_bytes"], json!({ "in": 0, "out": 0 }), "{row}");
    for key in ["instance", "backlog", "requeued", "nfds", "highest_fd"] {
        assert!(row[key].is_null(), "{key} of {row}");
    }
    let waited = &row["wait_seconds"];
    assert_eq!(waited["count"], done["waits"], "{row}");
    assert_brackets(row, done);
}

#[test]
fn every_way_in_which_a_wait_on_a_ring_ends_is_counted_as_it_ended() {
    if !require_bpf() {
        return;
    }
    let (report, said, workload) = observe("rings 10");
    let done = &said["rows"][0];
    let row = ring_row(&report, done);
    assert_ring(row, done);
    assert_busy(row, done);
    assert_eq!(row["cq_overflows"], done["cq_overflows"], "{row}");
    assert_eq!(row["events_per_wait"]["max"], done["events_max"], "{row}");
    for kind in ["ready", "timeout", "empty", "interrupted"] {
        assert!(count(&row["results"][kind]) >= 10, "no {kind}: {row}");
    }
    // A time-out that ran out is never exceeded by nothing.
    assert_eq!(row["overrun_seconds"]["count"], row["results"]["timeout"], "{row}");
    // On what is no ring there are errors alone.
    let none = ring_row(&report, &said["none"]);
    assert_eq!((&none["waits"], &none["results"]["error"]), (&json!(10), &json!(10)), "{none}");
    // A ring is no instance.
    assert!(
        list(&report["instances"])
            .iter()
            .all(|row| { list(&row["holders"]).iter().all(|holder| holder["pid"] != workload.pid()) })
    );
    workload.finish();
}

#[test]
fn what_a_ring_does_to_an_instance_is_in_the_instances_counts() {
    if !require_bpf() {
        return;
    }
    let (report, said, workload) = observe("rings-epoll 40");
    let instance = held(&report, workload.pid(), &said["epfd"]);
    assert_eq!(instance["ctl"], said["ctl"], "{instance}\nagainst {said}");
    assert_eq!(instance["watched"]["total"], said["watched"], "{instance}");
    assert_ring(ring_row(&report, &said["ring"]), &said["ring"]);
    if said["epoll_waits"].is_null() {
        println!("not run: this kernel has no IORING_OP_EPOLL_WAIT");
    } else {
        let rows = list(&report["loops"]).iter();
        let rows: Vec<&Value> = rows.filter(|row| row["instance"] == instance["instance"]).collect();
        assert_eq!(rows.len(), 1, "{}", json!(rows));
        for key in ["waits", "events"] {
            assert_eq!(rows[0][key], said["epoll_waits"][key], "{key} of {}", rows[0]);
        }
        // The thread waited in its ring.
        assert_eq!((&rows[0]["wait_seconds"]["count"], &rows[0]["time"]["wait"]), (&json!(0), &json!(0.0)));
        assert_eq!((&rows[0]["mechanism"], &rows[0]["utilization"]), (&json!("epoll"), &Value::Null));
    }
    workload.finish();
}

#[test]
fn waits_and_busy_times_of_a_rings_loop_add_up_to_its_whole_span() {
    if !require_bpf() {
        return;
    }
    let (report, said, workload) = observe("rings-sums 8");
    assert_eq!(list(&said["rows"]).len(), 8);
    for done in list(&said["rows"]) {
        let row = ring_row(&report, done);
        assert_ring(row, done);
        let (waited, busy) = (&row["wait_seconds"], &row["busy_seconds"]);
        assert_eq!(busy["count"], count(&done["waits"]) - 1, "{row}");
        let span = seconds(&done["last_after"]) - seconds(&done["first_before"]);
        let rest = span - number(&waited["sum"]) - number(&busy["sum"]);
        assert!((-CLOCK_SLACK..EDGES).contains(&rest), "{rest} s of {span} are nowhere: {row}");
        assert_eq!(row["ended"], true, "{row}");
        assert_state(row, "none");
    }
    workload.finish();
}

#[test]
fn a_wait_on_a_ring_in_progress_at_attach_is_waiting_and_in_no_count() {
    if !require_bpf() {
        return;
    }
    let mut workload = Workload::start("rings-open");
    let before = workload.said();
    let path = format!("/proc/{}/task/{}/syscall", workload.pid(), before["tid"]);
    let inside = format!("{} ", libc::SYS_io_uring_enter);
    until("it waits", || fs::read_to_string(&path).unwrap_or_default().starts_with(&inside));
    let report = Report::start(&[]);
    thread::sleep(Duration::from_millis(300));
    workload.tell();
    let (during, after) = (workload.said(), workload.said());
    let report = report.stop();
    assert_nothing_lost(&report);
    let row = ring_row(&report, &after);
    assert_eq!(count(&during["waits"]) + 1, count(&after["waits"]));
    assert_eq!(
        (&row["waits"], &row["events"], &row["submissions"]),
        (&json!(1), &json!(1), &json!(1)),
        "{row}"
    );
    assert_eq!(row["wait_seconds"]["count"], 1, "{row}");
    assert!(number(&row["time"]["wait"]) >= 0.3, "{row}");
    workload.finish();
}

#[test]
fn what_a_ring_took_since_the_last_pass_is_counted_where_nothing_else_happened() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let mut workload = Workload::start("rings-submits 7");
    workload.said();
    // A pass sees the wait; what comes after it changes the submissions alone.
    thread::sleep(Duration::from_millis(1200));
    workload.tell();
    let after = workload.said();
    let report = report.stop();
    assert_nothing_lost(&report);
    let row = ring_row(&report, &after);
    assert_eq!(
        (&row["waits"], &row["submissions"], &after["submissions"]),
        (&json!(1), &json!(8), &json!(8)),
        "{row}"
    );
    workload.finish();
}

#[test]
fn a_ring_says_nothing_of_the_epoll_loops_beside_it() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let (first, second) = (Workload::start("rings 3"), Workload::start("plain 40"));
    let (ring, plain) = (first.said(), second.said());
    let report = report.stop();
    assert_nothing_lost(&report);
    assert_ring(ring_row(&report, &ring["rows"][0]), &ring["rows"][0]);
    let row = row(&report, &plain["rows"][0]);
    assert_eq!(row["waits"], 40);
    for key in ["min_complete", "submissions", "cq_overflows"] {
        assert!(row[key].is_null(), "{key} of {row}");
    }
    first.finish();
    second.finish();
}
