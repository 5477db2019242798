//! Claims about every dashboard and rule: Grafana's types, the rules of its linter, and ours.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use super::{alerts::ALERTS, panel::Kind, recordings::RECORDINGS, *};

/// Grafana's ids of the units that are used.
const UNITS: [&str; 6] = ["s", "percentunit", "cps", "short", "bytes", "Bps"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn documents() -> Vec<Value> {
    DASHBOARDS.iter().map(|dashboard| json::document(dashboard)).collect()
}

/// Panels that are no rows.
fn panels(document: &Value) -> Vec<&Value> {
    document["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect()
}

fn schema(name: &str) -> jsonschema::Validator {
    let path = root().join(format!("dashboards/schema/{name}.schema.json"));
    jsonschema::validator_for(&serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()).unwrap()
}

fn valid(name: &str, value: &Value) {
    let faults: Vec<String> =
        schema(name).iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{name}: {faults:#?}");
}

/// What Grafana's types in TypeScript lack, although Grafana itself writes it.
fn without_known_gaps(mut document: Value) -> Value {
    for variable in document["templating"]["list"].as_array_mut().unwrap() {
        let variable = variable.as_object_mut().unwrap();
        variable.remove("definition");
        if variable["current"] == serde_json::json!({}) {
            variable.remove("current");
        }
    }
    document
}

#[test]
fn the_committed_files_are_what_the_tables_give_and_every_name_is_known() {
    check_committed(&root()).unwrap();
}

#[test]
fn dashboards_are_of_grafanas_types() {
    for document in documents() {
        // The types are a union of panels and rows, whose faults are unreadable: each panel is looked at again alone.
        valid("dashboard", &without_known_gaps(document.clone()));
        for panel in panels(&document) {
            let kind = panel["type"].as_str().unwrap();
            valid(&format!("{kind}.options"), &panel["options"]);
            if kind != "stat" {
                valid(&format!("{kind}.field"), &panel["fieldConfig"]["defaults"]["custom"]);
            }
        }
    }
}

#[test]
fn a_wrong_option_is_found() {
    let mut document = documents().remove(0);
    document["panels"][0]["gridPos"]["w"] = "4".into();
    assert!(!schema("dashboard").is_valid(&without_known_gaps(document)));
    assert!(!schema("stat.options").is_valid(&serde_json::json!({ "colorModee": "value" })));
}

#[test]
fn variables_are_as_the_linter_wants_them() {
    for document in documents() {
        let list = document["templating"]["list"].as_array().unwrap();
        let of = |name: &str| list.iter().find(|variable| variable["name"] == name).unwrap();
        let sources = list.iter().filter(|variable| variable["type"] == "datasource");
        assert_eq!(sources.count(), 1);
        assert_eq!(of("datasource")["label"], "Data source");
        for name in ["job", "instance"] {
            let variable = of(name);
            assert_eq!((&variable["allValue"], &variable["refresh"]), (&".+".into(), &2.into()));
            assert!(variable["multi"] == true && variable["includeAll"] == true);
            assert_eq!(variable["datasource"]["uid"], "${datasource}");
            let label = variable["label"].as_str().unwrap();
            assert_eq!(label.to_lowercase(), name);
            assert!(label.starts_with(char::is_uppercase));
        }
        for variable in list {
            let name = variable["name"].as_str().unwrap();
            let text = document.to_string();
            assert!(
                text.contains(&format!("${name}")) || text.contains(&format!("${{{name}}}")),
                "{name} is not used"
            );
        }
    }
}

#[test]
fn dashboards_are_linked_fixed_and_not_edited() {
    let documents = documents();
    let uids: BTreeSet<&str> = documents.iter().map(|document| document["uid"].as_str().unwrap()).collect();
    assert_eq!(uids.len(), documents.len());
    for document in &documents {
        assert!(document["uid"].as_str().unwrap().len() <= 40);
        assert_eq!(document["editable"], false);
        assert_eq!(document["schemaVersion"], json::SCHEMA_VERSION);
        assert_eq!(document["links"][0]["tags"], document["tags"]);
        assert!(document.get("__inputs").is_none(), "provisioning does not know __inputs");
    }
}

#[test]
fn every_panel_says_what_it_shows_from_which_source_in_which_unit() {
    for document in documents() {
        let mut ids = BTreeSet::new();
        for panel in document["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        }
        for panel in panels(&document) {
            let title = panel["title"].as_str().unwrap();
            assert!(!title.is_empty() && panel["description"].as_str().unwrap().ends_with('.'), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
            let targets = panel["targets"].as_array().unwrap();
            let references: BTreeSet<&str> =
                targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
            assert!(!targets.is_empty() && references.len() == targets.len(), "{title}");
        }
    }
    for panel in DASHBOARDS.iter().flat_map(|dashboard| dashboard.panels()) {
        assert!(UNITS.contains(&panel.unit), "{}: {}", panel.title, panel.unit);
        let named = panel.targets.iter().all(|(_, name)| name.is_empty() == (panel.kind == Kind::Stat));
        assert!(named, "{}: series need names, and a single number none", panel.title);
    }
}

#[test]
fn panels_lie_within_the_grid_and_not_on_one_another() {
    for document in documents() {
        let mut taken = BTreeSet::new();
        for panel in document["panels"].as_array().unwrap() {
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(x + w <= json::COLUMNS.into(), "{}", panel["title"]);
            for cell in (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y))) {
                assert!(taken.insert(cell), "{} at {cell:?}", panel["title"]);
            }
        }
    }
}

#[test]
fn every_query_is_of_the_chosen_job_and_instance_and_of_grafanas_rate_interval() {
    for (place, expression) in DASHBOARDS.iter().flat_map(|dashboard| {
        dashboard.panels().flat_map(|panel| {
            panel.targets.iter().map(move |(expression, _)| (panel.title, expand(expression)))
        })
    }) {
        for used in expression::names(&ALL.fill(&expression)).unwrap().uses {
            let of = |label: &str| used.matchers.iter().any(|(name, value)| name == label && value == ".+");
            assert!(of("job") && of("instance"), "{place}: {}", used.selector);
        }
        for (at, _) in expression.match_indices('[') {
            let rest = &expression[at..];
            // A sum over the chosen time is what `$__range` is for.
            assert!(
                rest.starts_with("[$__rate_interval]") || rest.starts_with("[$__range]"),
                "{place}: {expression}"
            );
        }
    }
}

#[test]
fn alerts_have_one_name_a_severity_and_a_heading_in_the_runbook() {
    let runbook = fs::read_to_string(root().join(rules::RUNBOOK)).unwrap();
    let headings: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: BTreeSet<&str> = ALERTS.iter().map(|alert| alert.name).collect();
    assert_eq!(headings, names, "docs/runbook.md has a heading for each alert, and for nothing else");
    assert_eq!(names.len(), ALERTS.len());
    for alert in ALERTS {
        assert!(["critical", "warning", "info"].contains(&alert.severity), "{}", alert.name);
        assert!(alert.name.starts_with("Loopscope") && alert.about.ends_with('.'), "{}", alert.name);
    }
    for name in names {
        let entry = runbook.split(&format!("## {name}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        assert!(entry.trim().len() > 80, "{name} says what to do");
    }
}

#[test]
fn recordings_name_only_what_was_recorded_before() {
    for (index, rule) in RECORDINGS.iter().enumerate() {
        assert!(rule.name.starts_with(names::RECORDED));
        for used in expression::names(rule.expression).unwrap().uses {
            let earlier = RECORDINGS[..index].iter().any(|earlier| earlier.name == used.metric);
            assert!(earlier || !used.metric.starts_with(names::RECORDED), "{}: {}", rule.name, used.metric);
        }
    }
}

#[test]
fn every_alert_fires_in_a_unit_test_of_promtool() {
    let tests = fs::read_to_string(root().join("dashboards/rules/loopscope.test.yml")).unwrap();
    for alert in ALERTS {
        // A sample of the series ALERTS that is expected.
        assert!(tests.contains(&format!("labels: '{{alertname=\"{}\"", alert.name)), "{}", alert.name);
    }
}
