//! What the probes' runs take, as the kernel measures it: only where it is asked for, and then in proportion to the runs.
//!
//! Times depend on the machine: they are held to bounds that an interpreter of programs, or a wrong unit, would not meet.
#![cfg(test)]

mod common;

use common::{
    Report, Workload, agent,
    compare::{assert_nothing_lost, count, list},
    exporter::Agent,
    require_bpf,
};
use rustix::process::Signal;
use serde_json::Value;

/// What one run may take on average, seconds: the least program reads a clock and a map, and the kernel's own two clock
/// readings are part of what it measures.
const A_RUN: std::ops::Range<f64> = 10e-9..50e-6;

/// Rows of `probes` with their runs and run times, where those are known.
fn measured(report: &Value) -> Vec<(&str, u64, f64)> {
    let rows = list(&report["probes"]).iter();
    let known = rows.filter_map(|row| Some((row, row["run_seconds"].as_f64()?)));
    known.map(|(row, seconds)| (row["name"].as_str().unwrap(), count(&row["runs"]), seconds)).collect()
}

#[test]
fn a_report_has_run_times_only_where_they_are_asked_for() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]).stop();
    assert_eq!(measured(&report), []);
    assert!(list(&report["probes"]).iter().all(|row| row["run_seconds"].is_null()), "null, not missing");

    let file = std::env::temp_dir().join(format!("loopscope-costs-{}.loopscope", std::process::id()));
    let file = file.to_str().unwrap();
    let report = Report::start(&["--probe-stats", "--record", file]);
    let workload = Workload::start("results 2000");
    let waits: u64 = list(&workload.said()["rows"]).iter().map(|row| count(&row["waits"])).sum();
    workload.finish();
    let report = report.stop();
    assert_nothing_lost(&report);
    let rows = measured(&report);
    for (name, runs, seconds) in rows.iter().filter(|(_, runs, _)| *runs > 100) {
        assert!(A_RUN.contains(&(seconds / *runs as f64)), "{name}: {seconds} s in {runs} runs of {rows:?}");
    }
    let raw = list(&report["probes"]).iter().any(|row| row["backend"] == "raw");
    // A wait is a run at its entry and one at its exit; of the raw programs each is one of them, for other calls too.
    let of_waits: u64 = match raw {
        true => rows.iter().filter(|(name, ..)| name.starts_with("sys_")).map(|(_, runs, _)| runs).sum(),
        false => rows.iter().filter(|(name, ..)| name.starts_with("epoll_")).map(|(_, runs, _)| runs).sum(),
    };
    assert!(of_waits >= 2 * waits && waits > 0, "{of_waits} runs for {waits} waits: {rows:?}");

    let replayed = agent(&["report", "--replay", file, "--format", "json"]).output().unwrap();
    let replayed: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(replayed["probes"], report["probes"], "a recording has them too");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn the_metric_is_there_only_with_the_option_and_grows_with_the_runs() {
    if !require_bpf() {
        return;
    }
    const TIME: &str = "loopscope_probe_run_seconds_total{";
    let agent = Agent::start(&[]);
    assert!(!agent.scrape().0.keys().any(|series| series.starts_with(TIME)));
    assert_eq!(agent.end(Signal::INT).code(), Some(0));

    let mut args = vec!["--probe-stats"];
    let backend = std::env::var("LOOPSCOPE_TEST_BACKEND").unwrap_or_default();
    if !backend.is_empty() {
        args.extend(["--backend", &backend]);
    }
    let agent = Agent::start(&args);
    let sum = |prefix: &str| -> f64 {
        let series = agent.scrape().0;
        let of = series.iter().filter(|(name, _)| name.starts_with(prefix));
        of.map(|(_, value)| value).sum()
    };
    let mut last = (sum("loopscope_probe_runs_total{"), sum(TIME));
    for _ in 0..3 {
        let workload = Workload::start("results 500");
        workload.said();
        workload.finish();
        std::thread::sleep(std::time::Duration::from_millis(150));
        let now = (sum("loopscope_probe_runs_total{"), sum(TIME));
        assert!(now.0 > last.0 && now.1 > last.1, "{last:?} {now:?}");
        // The raw programs run for other calls too, so that their time by the probes' runs may be more.
        let most = if backend == "raw" { 1.0 } else { A_RUN.end };
        let a_run = (now.1 - last.1) / (now.0 - last.0);
        assert!(a_run > A_RUN.start && a_run < most, "{a_run} s a run: {last:?} {now:?}");
        last = now;
    }
    assert_eq!(agent.end(Signal::INT).code(), Some(0));
}
