//! The claim that `/metrics` and `report` say the same of the same samples: what counters grew by over many scrapes is
//! what one report over all of them has.

use std::{collections::BTreeMap, sync::Arc};

use loopscope_probe::Head;

use super::{
    text,
    world::{self, S, at_most, pass},
};
use crate::{
    decode::Record,
    identity::Process,
    model::Model,
    report::{build, document::LoopRow},
};

/// Series and their values, without the mechanism; those of several mechanisms are added.
type Values = BTreeMap<String, f64>;

/// What one scrape shows.
fn values(text: &str) -> Values {
    let lines = text.lines().filter(|line| line.contains("comm=") && !line.contains("_bucket{"));
    let mut values = Values::new();
    for line in lines {
        let (series, value) = line.rsplit_once(' ').unwrap();
        *values.entry(series.to_owned()).or_default() += value.parse::<f64>().unwrap();
    }
    values
}

/// What a report has under the names of the metrics.
fn reported(row: &LoopRow) -> Vec<(String, f64)> {
    let results = [
        ("ready", row.results.ready),
        ("timeout", row.results.timeout),
        ("empty", row.results.empty),
        ("interrupted", row.results.interrupted),
        ("error", row.results.error),
    ];
    let kinds = [
        ("infinite", row.timeouts.infinite),
        ("zero", row.timeouts.zero),
        ("finite", row.timeouts.finite),
        ("unknown", row.timeouts.unknown),
    ];
    let comm = row.comm.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "?");
    let mechanism = serde_json::to_value(row.mechanism).unwrap();
    let labels = format!("comm=\"{comm}\",mechanism=\"{}\"", mechanism.as_str().unwrap());
    let series = |name: &str, more: &str, value: f64| (format!("loopscope_{name}{{{labels}{more}}}"), value);
    let mut all = Vec::new();
    for (result, count) in results {
        all.push(series("waits_total", &format!(",result=\"{result}\""), count as f64));
    }
    for (kind, count) in kinds {
        all.push(series("timeouts_total", &format!(",kind=\"{kind}\""), count as f64));
    }
    all.push(series("events_total", "", row.events as f64));
    all.push(series("wait_seconds_count", "", row.wait_seconds.count as f64));
    all.push(series("wait_seconds_sum", "", row.wait_seconds.sum));
    all.push(series("events_per_wait_count", "", row.events_per_wait.count as f64));
    all.push(series("copied_bytes_total", ",direction=\"out\"", row.copied_bytes.out as f64));
    if let (Some(busy), Some(busy_seconds)) = (row.time.busy, &row.busy_seconds) {
        all.push(series("loop_time_seconds_total", ",state=\"wait\"", row.time.wait));
        all.push(series("loop_time_seconds_total", ",state=\"busy\"", busy));
        all.push(series("busy_seconds_sum", "", busy_seconds.sum));
        all.push(series("busy_seconds_count", "", busy_seconds.count as f64));
    }
    all
}

#[test]
fn what_counters_grew_by_over_many_scrapes_is_what_a_report_over_all_of_them_has() {
    let (mut short, mut long, mut groups) = (Model::default(), Model::default(), at_most(9));
    let mut grown = Values::new();
    let mut before = Values::new();
    for (now, mut records) in world::passes() {
        pass(&mut short, &mut groups, now, records.clone());
        let scrape = values(&text(&groups));
        for (series, value) in &scrape {
            let more = value - before.get(series).copied().unwrap_or(0.0);
            *grown.entry(series.clone()).or_default() += more;
        }
        before = scrape;
        records.push(Record::Counters(Head { now_ns: now, ..Head::default() }, Box::default()));
        long.apply(records, &mut |_| Arc::new(Process::default()));
        if now == S {
            long.begin();
        }
    }
    let mut expected = Values::new();
    for looped in &long.window().loops {
        for (series, value) in reported(&build::loop_row(looped)) {
            *expected.entry(series).or_default() += value;
        }
    }
    assert!(expected.len() > 80, "{}", expected.len());
    for (series, value) in &expected {
        let found = grown.get(series).copied().unwrap_or_else(|| panic!("{series} is not in /metrics"));
        assert!((found - value).abs() < 1e-9, "{series}: {found} in /metrics, {value} in report");
    }
}
