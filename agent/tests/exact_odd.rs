//! Callers that are rare, counted as all others: time-outs of less than a ms, instances that poll their devices, traced
//! tasks, tasks that share their parent's memory, and processes in a pid namespace of their own.
//!
//! Refused calls, 32-bit calls, ids that are used again, and an exec among threads are in `exact_edges` and `exact_lives`.
#![cfg(test)]

mod common;

use common::{
    Report, Workload,
    compare::{
        CLOCK_SLACK, assert_busy, assert_counts, assert_nothing_lost, count, list, number, row, rows_of, sum,
    },
    require_bpf,
};
use serde_json::{Value, json};

/// Runs one workload under a report until it has said so many things; what both say.
fn observe(words: &str, lines: usize) -> Option<(Value, Vec<Value>)> {
    if !require_bpf() {
        return None;
    }
    let report = Report::start(&[]);
    let workload = Workload::start(words);
    let said = (0..lines).map(|_| workload.said()).collect();
    let report = report.stop();
    assert_nothing_lost(&report);
    workload.finish();
    Some((report, said))
}

#[test]
fn a_time_out_of_a_quarter_of_a_ms_is_measured_in_ns() {
    let Some((report, said)) = observe("nanos 40", 1) else { return };
    let done = &said[0]["rows"][0];
    let row = row(&report, done);
    assert_counts(row, done);
    let (waited, overrun) = (&row["wait_seconds"], &row["overrun_seconds"]);
    assert_eq!(overrun["count"], 40, "{row}");
    // Each wait is its time-out and what it took beyond.
    let timeouts = 40.0 * number(&said[0]["nanos"]) / 1e9;
    let rest = number(&waited["sum"]) - timeouts - number(&overrun["sum"]);
    assert!(rest.abs() < CLOCK_SLACK, "{rest} s: {row}");
}

#[test]
fn an_instance_that_polls_its_devices_is_counted_as_any_other() {
    let Some((report, said)) = observe("busy-poll 20", 1) else { return };
    let done = &said[0]["rows"][0];
    let row = row(&report, done);
    assert_counts(row, done);
    assert_busy(row, done);
    println!("the kernel took EPIOCSPARAMS: {}", said[0]["set"]);
}

#[test]
fn the_waits_of_a_traced_task_are_counted() {
    let Some((report, said)) = observe("traced 20", 2) else { return };
    let (rows, tracer): (Vec<&Value>, Vec<&Value>) = said.iter().partition(|said| !said["epfd"].is_null());
    // Two stops for each call of each wait at least.
    assert!(count(&tracer[0]["stops"]) > 40, "{}", tracer[0]);
    assert_eq!(rows[0]["pid"], tracer[0]["pid"]);
    assert_counts(row(&report, rows[0]), rows[0]);
}

#[test]
fn a_child_that_shares_its_parents_memory_has_counts_of_its_own() {
    let Some((report, said)) = observe("vfork 12", 1) else { return };
    let done = &said[0]["rows"][0];
    assert_counts(row(&report, done), done);
    let child = rows_of(&report, u32::try_from(count(&said[0]["child"])).unwrap());
    assert_eq!((sum(&child, "waits"), child.len()), (12, 1), "{}", json!(child));
    assert_eq!(child[0]["ended"], true, "{}", child[0]);
    assert_eq!(child[0]["instance"], row(&report, done)["instance"], "they wait on one instance");
}

#[test]
fn a_process_in_a_pid_namespace_has_the_hosts_id_and_its_own_beside_it() {
    let Some((report, said)) = observe("inner 15", 2) else { return };
    let (rows, outer): (Vec<&Value>, Vec<&Value>) = said.iter().partition(|said| !said["epfd"].is_null());
    assert_eq!(rows[0]["pid"], 1, "it is the first of its namespace");
    let pid = u32::try_from(count(&outer[0]["pid"])).unwrap();
    let seen = rows_of(&report, pid);
    assert_eq!((seen.len(), sum(&seen, "waits")), (1, 15), "{}", json!(seen));
    assert_eq!((&seen[0]["ns_pid"], &seen[0]["tid"]), (&json!(1), &json!(pid)), "{}", seen[0]);
    let others = list(&report["loops"]).iter().filter(|row| row["pid"] != pid);
    assert!(others.clone().all(|row| row["ns_pid"] != 1), "{}", json!(others.collect::<Vec<_>>()));
}
