//! The recording of version 1 that is part of the repository: every later version has to read it. Needs neither root nor
//! BPF. `docs/demo/record.sh` makes it.
#![cfg(test)]

mod common;

use std::collections::BTreeSet;

use common::agent;
use serde_json::Value;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/v1.loopscope");

fn output(args: &[&str]) -> String {
    let output = agent(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn names(report: &Value) -> BTreeSet<&str> {
    report["loops"].as_array().unwrap().iter().filter_map(|row| row["comm"].as_str()).collect()
}

#[test]
fn the_report_names_the_servers_and_the_loop_that_stalled() {
    let report: Value =
        serde_json::from_str(&output(&["report", "--replay", FILE, "--format", "json"])).unwrap();
    for name in ["nginx", "node", "redis-server", "memcached"] {
        assert!(names(&report).contains(name), "{:?}", names(&report));
    }
    assert!(report["duration_seconds"].as_f64().unwrap() > 20.0);
    // The server that is busy for 250 ms in a row every five seconds.
    let stalled = report["loops"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["busy_seconds"]["max"].as_f64().is_some_and(|max| (0.2..1.0).contains(&max)));
    assert!(stalled.map(|row| row["comm"].as_str().unwrap()).any(|name| name == "node"));
    let limit = ["report", "--replay", FILE, "--fail-if", "busy_seconds.max > 200ms"];
    assert_eq!(agent(&limit).output().unwrap().status.code(), Some(1));
}

#[test]
fn its_windows_add_up_to_its_report() {
    let report: Value =
        serde_json::from_str(&output(&["report", "--replay", FILE, "--format", "json"])).unwrap();
    let waits = |report: &Value| -> u64 {
        report["loops"].as_array().unwrap().iter().map(|row| row["waits"].as_u64().unwrap()).sum()
    };
    let frames = output(&["top", "-b", "--replay", FILE, "--format", "json"]);
    let frames: Vec<Value> = frames.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(frames.len() > 20);
    assert_eq!(frames.iter().map(waits).sum::<u64>(), waits(&report));
    let table = output(&["top", "-b", "-n", "1", "--replay", FILE, "--group", "process"]);
    assert!(table.contains("nginx") && table.contains("UTIL"), "{table}");
}

#[test]
fn a_recording_does_not_differ_from_itself() {
    assert!(output(&["compare", FILE, FILE]).contains("No program of both differs"));
}
