//! Which metrics and labels there are: the agent's table, what it will export, and what Prometheus adds.
//!
//! A name that is in an expression and nowhere here is a mistake, and so is a counter without a rate.

use loopscope::export::{
    METRICS,
    metric::{Kind, Metric},
};

use super::{
    expression::{Names, Use},
    panel::GROUP_LABELS,
};

/// A metric that expressions name.
struct Known<'a> {
    kind: Kind,
    grouped: bool,
    labels: &'a [&'a str],
}

/// A metric that the agent will export: dashboards and rules name it already, and its panels stay empty until then.
struct Coming {
    name: &'static str,
    kind: Kind,
    grouped: bool,
    labels: &'static [&'static str],
}

/// The names of the interface that the agent does not export yet. A name that its table has may not be here.
const NOT_EXPORTED_YET: &[Coming] = &[];

/// What Prometheus itself says of a target.
const OF_PROMETHEUS: [&str; 3] = ["up", "scrape_duration_seconds", "scrape_samples_scraped"];

/// What a recording rule's name begins with.
pub const RECORDED: &str = "loopscope:";

/// Counters whose plain value is meant: how many there were since the start, and whether there are any yet.
const PLAIN: [&str; 2] = ["loopscope_groups_folded_total", "loopscope_ctl_errors_total"];

/// Ranges of these functions are of counters, of others of gauges.
const OF_COUNTERS: [&str; 4] = ["rate", "irate", "increase", "resets"];

/// Whether the metric behind a series' name is one that the agent does not export yet.
pub fn is_coming(series: &str) -> bool {
    NOT_EXPORTED_YET.iter().any(|coming| coming.name == family(series, coming.kind))
}

/// What is wrong with the list of metrics to come.
pub fn outdated() -> Vec<String> {
    exported(NOT_EXPORTED_YET)
}

/// Those that the agent's table has.
fn exported(list: &[Coming]) -> Vec<String> {
    let arrived = list.iter().filter(|coming| METRICS.iter().any(|metric| metric.name == coming.name));
    arrived
        .map(|coming| {
            let name = coming.name;
            format!(
                "{name} is exported now: take it out of NOT_EXPORTED_YET in xtask/src/dashboards/names.rs"
            )
        })
        .collect()
}

/// What is wrong with the names of an expression; `recorded` are the names of the recording rules.
pub fn faults(names: &Names, recorded: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut allowed: Vec<&str> = vec!["job", "instance"];
    allowed.extend(names.made.iter().map(String::as_str));
    for used in &names.uses {
        match look_up(used, recorded) {
            Ok(labels) => {
                for (label, _) in used.matchers.iter().filter(|(label, _)| !is_label(label, &labels)) {
                    faults.push(format!("{} has no label {label}", used.metric));
                }
                allowed.extend(labels);
            }
            Err(fault) => faults.push(fault),
        }
    }
    let unknown = names.labels.iter().filter(|label| !is_label(label, &allowed));
    faults.extend(unknown.map(|label| format!("no metric of the expression has a label {label}")));
    faults
}

fn is_label(label: &str, labels: &[&str]) -> bool {
    ["job", "instance"].contains(&label) || labels.contains(&label)
}

/// The labels of a used metric, or what is wrong with it.
fn look_up(used: &Use, recorded: &[&str]) -> Result<Vec<&'static str>, String> {
    let name = used.metric.as_str();
    if OF_PROMETHEUS.contains(&name) {
        return Ok(Vec::new());
    }
    if name.starts_with(RECORDED) {
        // Labels of recorded series are those of the groups.
        let known = recorded.contains(&name);
        return if known { Ok(group_labels()) } else { Err(format!("no rule records {name}")) };
    }
    let known = known(name).ok_or_else(|| format!("the agent has no metric {name}"))?;
    let counts = known.kind != Kind::Gauge;
    let rated = used.range_of.as_deref().is_some_and(|function| OF_COUNTERS.contains(&function));
    if counts != rated && !PLAIN.contains(&name) {
        let what = if counts { "is a counter, and needs a rate" } else { "is no counter, and has no rate" };
        return Err(format!("{name} {what}"));
    }
    let mut labels = if known.grouped { group_labels() } else { Vec::new() };
    labels.extend(known.labels.iter().copied());
    if name.ends_with("_bucket") {
        labels.push("le");
    }
    Ok(labels)
}

/// Every label that a group can have: those to group by, and those that come with them.
fn group_labels() -> Vec<&'static str> {
    GROUP_LABELS.into_iter().chain(["mechanism", "namespace", "thread"]).collect()
}

/// The metric that a series belongs to.
fn known(series: &str) -> Option<Known<'static>> {
    let exported = METRICS.iter().find(|metric| metric.name == family(series, metric.kind));
    let of = |metric: &'static Metric| Known {
        kind: metric.kind,
        grouped: metric.is_grouped(),
        labels: metric.labels,
    };
    let coming = || {
        let coming = NOT_EXPORTED_YET.iter().find(|coming| coming.name == family(series, coming.kind))?;
        Some(Known { kind: coming.kind, grouped: coming.grouped, labels: coming.labels })
    };
    exported.map(of).or_else(coming)
}

/// The name of the metric that a series' name is of. A histogram has no series of its own name.
fn family(series: &str, kind: Kind) -> &str {
    let stem = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| series.strip_suffix(suffix));
    match (kind, stem) {
        (Kind::Histogram, Some(stem)) => stem,
        (Kind::Histogram, None) => "",
        _ => series,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::expression, *};

    fn faults_of(expression: &str) -> Vec<String> {
        faults(&expression::names(expression).unwrap(), &["loopscope:waits:rate5m"])
    }

    #[test]
    fn a_wrong_name_a_wrong_label_and_a_missing_rate_are_found() {
        for (expression, fault) in [
            ("loopscope_loopz", "the agent has no metric loopscope_loopz"),
            ("loopscope_busy_seconds", "the agent has no metric loopscope_busy_seconds"),
            (
                "rate(loopscope_waits_total{outcome=\"ready\"}[5m])",
                "loopscope_waits_total has no label outcome",
            ),
            ("loopscope_waits_total", "loopscope_waits_total is a counter, and needs a rate"),
            ("rate(loopscope_loops[5m])", "loopscope_loops is no counter, and has no rate"),
            ("sum by (op) (loopscope_loops)", "no metric of the expression has a label op"),
            ("loopscope:nothing", "no rule records loopscope:nothing"),
        ] {
            assert_eq!(faults_of(expression), [fault], "{expression}");
        }
    }

    #[test]
    fn what_is_right_has_no_fault() {
        for expression in [
            "sum by (le, comm) (rate(loopscope_busy_seconds_bucket{job=\"a\",mechanism=\"epoll\"}[5m]))",
            "max_over_time(loopscope_current_busy_seconds[5m])",
            "loopscope:waits:rate5m{comm=\"a\"}",
            "sum by (group) (label_replace(up, \"group\", \"$1\", \"job\", \"(.*)\"))",
        ] {
            assert_eq!(faults_of(expression), Vec::<String>::new(), "{expression}");
        }
    }

    #[test]
    fn nothing_that_is_exported_is_called_not_exported() {
        assert_eq!(outdated(), Vec::<String>::new());
        let loops = Coming { name: "loopscope_loops", kind: Kind::Gauge, grouped: true, labels: &[] };
        let said = exported(&[loops]);
        assert!(said[0].starts_with("loopscope_loops is exported now"), "{said:?}");
    }
}
