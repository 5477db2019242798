//! Claims about the metric table, the sums behind it, and the whole text for a hand-made model.
//!
//! LOOPSCOPE_BLESS=1 writes the golden text and docs/metrics.md anew.

mod agrees;
mod bounds;
mod sums;
pub mod world;

use std::{collections::HashSet, env, fs, path::Path, time::Duration};

use clap::ValueEnum;
use loopscope_probe::{Counters, lost};

use super::{
    METRICS, Own, docs, families,
    figures::Figures,
    grouping::By,
    groups::{Group, Groups},
    metric::{Get, Kind, Rows, Unit},
};
use crate::{
    confine::Confined,
    kernel::{Attempt, ProbeState, table::PROBES},
    model::costs::Costs,
};

/// Compares a text with a file of the package, or writes it there.
fn compare(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if env::var_os("LOOPSCOPE_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, text).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    for (number, (found, made)) in found.lines().zip(text.lines()).enumerate() {
        assert_eq!(found, made, "{file}:{}: LOOPSCOPE_BLESS=1 cargo test writes it anew", number + 1);
    }
    assert!(
        found == text,
        "{file} has another length than it should: LOOPSCOPE_BLESS=1 cargo test writes it anew"
    );
}

/// How a probe of the table fared.
fn state(name: &str, attempts: &[(&'static str, Option<&str>)]) -> ProbeState {
    let attempt = |(backend, error): &(&'static str, Option<&str>)| Attempt {
        backend,
        error: error.map(str::to_owned),
    };
    ProbeState {
        probe: PROBES.iter().find(|probe| probe.name() == name).unwrap(),
        attempts: attempts.iter().map(attempt).collect(),
    }
}

/// The text for these groups, with figures of an agent that are the same everywhere.
fn text(groups: &Groups) -> String {
    text_with(groups, true)
}

/// The same; `measured`: with --probe-stats.
fn text_with(groups: &Groups, measured: bool) -> String {
    let probes = [
        state("task_exit", &[("tp_btf", None)]),
        state("epoll_pwait", &[("tracepoint", None)]),
        state("epoll_pwait2", &[("tracepoint", Some("no such tracepoint"))]),
    ];
    let mut counters = Counters::default();
    counters.runs[probes[0].probe.index] = 7;
    counters.runs[probes[1].probe.index] = 2_000_001;
    counters.lost[lost::UNPAIRED] = 1;
    let own = Own {
        cpu_seconds: 1.25,
        resident_bytes: Some(9 << 20),
        virtual_bytes: Some(80 << 20),
        open_fds: Some(40),
        max_fds: None,
        threads: Some(2),
        start_seconds: 1.7e9,
    };
    let sample = Duration::from_micros(1_500);
    let mut costs = Costs::default();
    costs.probes[probes[1].probe.index] = Some(420_000_210);
    costs.programs.insert("sys_enter".to_owned(), [1_500_000_000, 9_000_000]);
    let confined = Confined::unwanted();
    let figures = Figures {
        groups,
        probes: &probes,
        counters: &counters,
        costs: measured.then_some(&costs),
        missed: 2,
        damaged: 0,
        sample,
        own,
        confined: &confined,
    };
    let build = format!("version=\"{}\",arch=\"{}\"", env!("CARGO_PKG_VERSION"), env::consts::ARCH);
    families::text(&figures, |_| true).unwrap().replace(&build, "version=\"VERSION\",arch=\"ARCH\"")
}

#[test]
fn names_are_unique_and_ours() {
    let mut seen = HashSet::new();
    for metric in METRICS {
        assert!(seen.insert(metric.name), "{} is there twice", metric.name);
        let prefix = if metric.is_grouped() { &["loopscope_"][..] } else { &["loopscope_", "process_"] };
        assert!(prefix.iter().any(|prefix| metric.name.starts_with(prefix)), "{}", metric.name);
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(metric.name.chars().all(is_plain) && !metric.name.contains("__"), "{}", metric.name);
    }
}

#[test]
fn names_end_with_their_unit_and_kind() {
    for metric in METRICS {
        let stem = metric.name.strip_suffix("_total");
        assert_eq!(stem.is_some(), metric.kind == Kind::Counter, "{}: counters end with _total", metric.name);
        let stem = stem.unwrap_or(metric.name);
        for unit in [Unit::Seconds, Unit::Bytes] {
            let ends = stem.ends_with(&format!("_{}", unit.name().unwrap()));
            assert_eq!(ends, metric.unit == unit, "{}: a base unit ends the name", metric.name);
        }
        // The suffixes of a histogram's own series.
        let taken = ["_sum", "_count", "_bucket", "_info_total"].iter().any(|suffix| stem.ends_with(suffix));
        assert!(!taken, "{}", metric.name);
        assert_eq!(
            metric.kind == Kind::Histogram,
            matches!(metric.get, Get::Distribution(_)),
            "{}",
            metric.name
        );
    }
}

#[test]
fn every_metric_says_what_is_counted() {
    for metric in METRICS {
        assert!(metric.help.len() >= 20 && metric.help.ends_with('.'), "{}: {:?}", metric.name, metric.help);
        assert!(!metric.help.contains(['\n', '\\']) && !metric.help.contains("  "), "{}", metric.name);
    }
}

#[test]
fn labels_are_none_of_the_groups_and_none_of_prometheus() {
    for metric in METRICS {
        for label in metric.labels {
            let is_group = |by: &By| by.labels().contains(label);
            let taken = metric.is_grouped() && By::value_variants().iter().any(is_group);
            assert!(
                !taken && !["le", "job", "instance", "mechanism"].contains(label),
                "{} {label}",
                metric.name
            );
        }
        assert!(metric.kind != Kind::Histogram || metric.labels.is_empty(), "{}", metric.name);
    }
}

#[test]
fn the_metric_reference_is_made_from_the_table() {
    compare("../docs/metrics.md", &docs::markdown());
}

/// On other architectures a `struct epoll_event` has 16 bytes.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_whole_text_for_a_hand_made_model_is_the_golden_one() {
    compare("tests/data/metrics.txt", &text(&world::groups()));
}

#[test]
fn every_metric_of_the_table_is_in_the_text() {
    let text = text(&world::groups());
    // A limit of descriptors that there is not has no series, nor have listeners where interest sets were not read.
    let absent = ["process_max_fds", "loopscope_listener_loops", "loopscope_listener_max_share_ratio"];
    for metric in METRICS.iter().filter(|metric| !absent.contains(&metric.name)) {
        assert!(
            text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.name())),
            "{}",
            metric.name
        );
    }
}

#[test]
fn an_agent_that_has_seen_nothing_has_metrics_of_its_own_alone() {
    let text = text(&world::at_most(10));
    assert!(text.contains("loopscope_build_info{") && !text.contains("loopscope_waits_total"), "{text}");
}

#[test]
fn what_runs_take_has_series_only_where_it_is_measured() {
    let name = "loopscope_probe_run_seconds_total";
    let groups = world::at_most(10);
    assert!(!text_with(&groups, false).contains(name));
    let text = text_with(&groups, true);
    assert!(text.contains(&format!("\n{name}{{probe=\"epoll_pwait\"}} 0.42000021\n")), "{text}");
    assert!(text.contains(&format!("\n{name}{{probe=\"sys_enter\"}} 1.5\n")), "{text}");
    assert!(!text.contains(&format!("{name}{{probe=\"task_exit\"}}")), "{text}");
}

#[test]
fn listeners_have_a_series_each_and_none_without_events_has_a_share() {
    let mut group = Group::default();
    group.now.listeners.insert("127.0.0.1:80".to_owned(), ([1, 2, 3].into(), Some(0.5)));
    group.now.listeners.insert("unix:/run/a".to_owned(), ([4, 5].into(), None));
    let rows = |name: &str| {
        let metric = METRICS.iter().find(|metric| metric.name == name).unwrap();
        let Get::Group(get) = metric.get else { panic!("{name} is of groups") };
        let mut rows = Rows::default();
        get(&group, &mut rows);
        rows.drain().map(|row| format!("{} {}", row.labels[0], row.value)).collect::<Vec<_>>()
    };
    assert_eq!(rows("loopscope_listener_loops"), ["127.0.0.1:80 3", "unix:/run/a 2"]);
    assert_eq!(rows("loopscope_listener_max_share_ratio"), ["127.0.0.1:80 0.5"]);
}
