//! Prometheus' rules as YAML, from the tables of recordings and alerts. Must not name a metric.

use super::{alerts::ALERTS, recordings::RECORDINGS};

/// A recording rule.
pub struct Recording {
    pub name: &'static str,
    pub expression: &'static str,
}

/// An alert.
pub struct Alert {
    pub name: &'static str,
    /// critical: act now; warning: act today; info: know it.
    pub severity: &'static str,
    /// How long it must hold.
    pub hold: &'static str,
    pub expression: &'static str,
    pub summary: &'static str,
    pub about: &'static str,
}

/// Where each alert has its heading.
pub const RUNBOOK: &str = "docs/runbook.md";

/// The file of rules.
pub fn file() -> String {
    let mut text = String::from(
        "# Made from xtask/src/dashboards/recordings.rs and alerts.rs by `cargo xtask dashboards`; change it there.\n\
         groups:\n  - name: loopscope.recordings\n    rules:\n",
    );
    for rule in RECORDINGS {
        text.push_str(&format!("      - record: {}\n{}", rule.name, expression(rule.expression)));
    }
    text.push_str("  - name: loopscope.alerts\n    rules:\n");
    for alert in ALERTS {
        let runbook = format!("{RUNBOOK}#{}", alert.name.to_lowercase());
        text.push_str(&format!(
            "      - alert: {}\n{}        for: {}\n        labels:\n          severity: {}\n        annotations:\n",
            alert.name,
            expression(alert.expression),
            alert.hold,
            alert.severity
        ));
        for (name, value) in
            [("summary", alert.summary), ("description", alert.about), ("runbook_url", &runbook)]
        {
            // A string of JSON is one of YAML too.
            text.push_str(&format!("          {name}: {}\n", serde_json::Value::from(value)));
        }
    }
    text
}

fn expression(expression: &str) -> String {
    let lines: String = expression.lines().map(|line| format!("          {line}\n")).collect();
    format!("        expr: |-\n{lines}")
}

/// Every expression, with the rule that it is of.
pub fn expressions() -> impl Iterator<Item = (String, String)> {
    let recordings = RECORDINGS.iter().map(|rule| (rule.name, rule.expression));
    let alerts = ALERTS.iter().map(|alert| (alert.name, alert.expression));
    recordings.chain(alerts).map(|(name, expression)| (name.to_owned(), expression.to_owned()))
}
