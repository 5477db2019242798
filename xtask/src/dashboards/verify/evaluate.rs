//! Every expression of the dashboards and rules against a Prometheus with data: which have none that should.
//!
//! Looks at Grafana's JSON, not at the tables that it was made from. Measures nothing.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::prometheus::{Prometheus, SCRAPE_SECONDS};
use crate::dashboards::{
    DASHBOARDS,
    alerts::ALERTS,
    expression::{self, ALL, Choice},
    json as grafana, names,
    panel::{Dashboard, GROUP_LABELS},
    recordings::RECORDINGS,
};

/// Grafana's `$__rate_interval` for this scrape interval.
const RATE: u64 = 5 * SCRAPE_SECONDS;

/// What was found.
#[derive(Default)]
pub struct Findings {
    /// Evaluations with data.
    pub with_data: usize,
    /// Evaluations of a single value that has no series of a kind: nothing to show.
    pub nothing: usize,
    /// Evaluations of a single value whose series are no numbers: it did nothing of the kind.
    pub idle: usize,
    /// Expressions whose metrics the agent does not export yet.
    pub coming: usize,
    pub faults: Vec<String>,
    /// The series of each query with everything chosen, by dashboard, panel and query: what a picture shows.
    pub shown: Map<String, Value>,
}

/// A query of a panel.
struct Query<'a> {
    place: String,
    key: String,
    expression: &'a str,
    instant: bool,
    grouped: bool,
}

/// Evaluates over the seconds from `start` to `end`, both since 1970.
pub fn all(prometheus: &Prometheus, start: f64, end: f64) -> Result<Findings> {
    let mut findings = Findings::default();
    let range = (end - start) as u64;
    let values = |label: &str| single_values(prometheus, label);
    let (jobs, instances, groups) = (values("job")?, values("instance")?, values(GROUP_LABELS[0])?);
    println!("  {} groups: {}", groups.len(), groups.join(", "));
    let [jobs, instances, groups] =
        [jobs, instances, groups].map(|values| values.iter().map(|value| literal(value)).collect::<Vec<_>>());
    for dashboard in DASHBOARDS {
        let before =
            (findings.with_data, findings.nothing + findings.idle, findings.coming, findings.faults.len());
        for query in queries(dashboard, &grafana::document(dashboard)) {
            let everything = Choice { rate: RATE, range, ..ALL };
            let mut choices = vec![("All".to_owned(), everything)];
            choices.extend(
                jobs.iter().map(|job| (format!("job {job}"), Choice { job, rate: RATE, range, ..ALL })),
            );
            choices.extend(
                instances
                    .iter()
                    .map(|instance| (instance.clone(), Choice { instance, rate: RATE, range, ..ALL })),
            );
            if query.grouped {
                choices.extend(
                    groups.iter().map(|group| (group.clone(), Choice { group, rate: RATE, range, ..ALL })),
                );
            }
            for (index, (name, choice)) in choices.iter().enumerate() {
                one(prometheus, &query, (name, choice), index == 0, [start, end], &mut findings)?;
            }
        }
        println!(
            "  {}: {} evaluations with data, {} of values without such series or idle, {} expressions to come, {} without data",
            dashboard.title,
            findings.with_data - before.0,
            findings.nothing + findings.idle - before.1,
            findings.coming - before.2,
            findings.faults.len() - before.3
        );
    }
    rules(prometheus, &mut findings)?;
    Ok(findings)
}

fn queries<'a>(dashboard: &Dashboard, document: &'a Value) -> Vec<Query<'a>> {
    let mut queries = Vec::new();
    for panel in list(document, "panels") {
        for target in list(panel, "targets") {
            queries.push(Query {
                place: format!("{}: {}", dashboard.title, text(panel, "title")),
                key: format!("{}/{}/{}", dashboard.uid, panel["id"], text(target, "refId")),
                expression: text(target, "expr"),
                instant: target.get("instant") == Some(&Value::Bool(true)),
                grouped: dashboard.grouped,
            });
        }
    }
    queries
}

fn one(
    prometheus: &Prometheus,
    query: &Query<'_>,
    (name, choice): (&str, &Choice<'_>),
    everything: bool,
    [start, end]: [f64; 2],
    findings: &mut Findings,
) -> Result<()> {
    let expression = choice.fill(query.expression);
    let series = if query.instant {
        prometheus.instant(&expression)?
    } else {
        prometheus.range(&expression, [start, end], SCRAPE_SECONDS)?
    };
    let has_data = series.iter().any(has_a_number);
    if everything {
        findings.shown.insert(query.key.clone(), json!(series));
    }
    let named = expression::names(&expression)?;
    let to_come = named.uses.iter().any(|used| names::is_coming(&used.metric));
    if has_data {
        findings.with_data += 1;
    } else if !everything && !series.is_empty() {
        // Series, but nothing to divide by or to take a quantile of: an idle group.
        findings.idle += 1;
    } else if to_come {
        findings.coming += usize::from(everything);
    } else if !everything && (named.compares || lacks_series(prometheus, &named.uses, [start, end])?) {
        findings.nothing += 1;
    } else {
        findings.faults.push(format!("{}: no data for {name}: {expression}", query.place));
    }
    Ok(())
}

/// Whether a series has a value that is a number.
fn has_a_number(series: &Value) -> bool {
    let numeric = |sample: &Value| {
        sample
            .get(1)
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<f64>().ok())
            .is_some_and(f64::is_finite)
    };
    series.get("value").is_some_and(numeric) || list(series, "values").any(numeric)
}

/// Whether one of the selectors chooses no series at all: then there is nothing to show.
fn lacks_series(prometheus: &Prometheus, uses: &[expression::Use], [start, end]: [f64; 2]) -> Result<bool> {
    for used in uses {
        // A rate needs two samples.
        let range = prometheus.range(&used.selector, [start, end], SCRAPE_SECONDS)?;
        let moves = |series: &Value| list(series, "values").count() > 2;
        if !range.iter().any(moves) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The values of a label that were there for a while and are still.
fn single_values(prometheus: &Prometheus, label: &str) -> Result<Vec<String>> {
    let lasting = format!("count by ({label}) (loopscope_loops offset 10s and loopscope_loops)");
    let series = prometheus.instant(&lasting)?;
    let values =
        series.iter().filter_map(|series| Some(series.get("metric")?.get(label)?.as_str()?.to_owned()));
    Ok(values.collect())
}

/// A text within a JSON object.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of a list within a JSON object.
fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// A value as Grafana puts it into a regular expression within a string.
fn literal(value: &str) -> String {
    let escape = |c: char| if "\\^$.*+?()[]{}|\"".contains(c) { format!("\\\\{c}") } else { c.to_string() };
    value.chars().map(escape).collect()
}

/// Each rule evaluates; each recording has data, and each metric that an alert looks at.
fn rules(prometheus: &Prometheus, findings: &mut Findings) -> Result<()> {
    let data = prometheus.data("/api/v1/rules")?;
    let groups = data.get("groups").and_then(Value::as_array).context("prometheus has no rules")?;
    let rules: Vec<&Value> = groups.iter().flat_map(|group| list(group, "rules")).collect();
    for rule in &rules {
        if text(rule, "health") != "ok" {
            findings.faults.push(format!(
                "rule {}: {} {}",
                text(rule, "name"),
                text(rule, "health"),
                text(rule, "lastError")
            ));
        }
    }
    let before = (findings.with_data, findings.coming);
    let recorded = RECORDINGS.iter().map(|rule| (rule.name, vec![rule.name.to_owned()], rule.expression));
    let alerts = ALERTS.iter().map(|alert| (alert.name, Vec::new(), alert.expression));
    for (name, mut looked_at, expression) in recorded.chain(alerts) {
        let uses = expression::names(expression)?.uses;
        if uses.iter().any(|used| names::is_coming(&used.metric) || depends_on_coming(&used.metric)) {
            findings.coming += 1;
            continue;
        }
        // What an alert asks of a label may not be true of any series; the metric itself has to be there.
        looked_at.extend(uses.into_iter().map(|used| used.metric));
        for metric in looked_at {
            if prometheus.instant(&metric)?.iter().any(has_a_number) {
                findings.with_data += 1;
            } else {
                findings.faults.push(format!("rule {name}: no data: {metric}"));
            }
        }
    }
    println!(
        "  rules: {} of {} are in good health; {} of their metrics with data, {} rules to come",
        rules.iter().filter(|rule| text(rule, "health") == "ok").count(),
        rules.len(),
        findings.with_data - before.0,
        findings.coming - before.1
    );
    Ok(())
}

fn depends_on_coming(recorded: &str) -> bool {
    let rule = RECORDINGS.iter().find(|rule| rule.name == recorded);
    let uses = rule.and_then(|rule| expression::names(rule.expression).ok()).map(|names| names.uses);
    uses.is_some_and(|uses| uses.iter().any(|used| names::is_coming(&used.metric)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_pattern() {
        assert_eq!(literal("ld.lld"), "ld\\\\.lld");
        assert_eq!(literal("a-b/0:1"), "a-b/0:1");
    }

    #[test]
    fn only_a_number_is_data() {
        assert!(has_a_number(&json!({ "value": [1, "0"] })));
        assert!(has_a_number(&json!({ "values": [[1, "NaN"], [2, "3"]] })));
        for none in [
            json!({}),
            json!({ "value": [1, "NaN"] }),
            json!({ "values": [[1, "+Inf"]] }),
            json!({ "values": [] }),
        ] {
            assert!(!has_a_number(&none), "{none}");
        }
    }
}
