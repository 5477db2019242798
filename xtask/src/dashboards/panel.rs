//! What a dashboard consists of, as data: variables, rows of panels, and their expressions.
//!
//! Knows neither Grafana's JSON ([`super::json`]) nor any metric. In expressions `@loops` stands for the matchers of
//! what the variables choose, `@agent` for those of the agent alone, `@rate` for the range of a rate.

/// A dashboard.
pub struct Dashboard {
    /// Never changes: links and bookmarks hold it.
    pub uid: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    /// Whether the groups of loops can be chosen; the agent's own dashboard has none.
    pub grouped: bool,
    pub rows: &'static [Row],
}

/// Panels under a heading. A row without a title has no heading.
pub struct Row {
    pub title: &'static str,
    pub panels: &'static [Panel],
}

/// How a panel draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One number, the last.
    Stat,
    /// A line for each series.
    Lines,
    /// Areas on top of one another.
    Stacked,
    /// A classic histogram over time.
    Heatmap,
    /// A row for each series, now.
    Table,
}

/// A panel.
pub struct Panel {
    pub title: &'static str,
    /// What it shows and what it means, for its tooltip.
    pub about: &'static str,
    pub kind: Kind,
    /// Grafana's id of the unit.
    pub unit: &'static str,
    /// Expressions and the names of their series; of a table: the names of its columns.
    pub targets: &'static [(&'static str, &'static str)],
    /// Of 24 columns.
    pub width: u32,
    /// In Grafana's steps of 30 pixels and 8 between.
    pub height: u32,
    /// The end of the axis.
    pub most: Option<f64>,
    /// From where on the value is bad.
    pub bad: Option<f64>,
}

/// What the panels of each kind begin with.
pub const STAT: Panel = Panel { kind: Kind::Stat, width: 4, height: 4, ..LINES };
pub const LINES: Panel = Panel {
    title: "",
    about: "",
    kind: Kind::Lines,
    unit: "short",
    targets: &[],
    width: 12,
    height: 8,
    most: None,
    bad: None,
};
pub const STACKED: Panel = Panel { kind: Kind::Stacked, ..LINES };
pub const HEATMAP: Panel = Panel { kind: Kind::Heatmap, ..LINES };
pub const TABLE: Panel = Panel { kind: Kind::Table, width: 24, ..LINES };

/// The labels that the agent can group by; the first is its default.
pub const GROUP_LABELS: [&str; 8] = ["comm", "exe", "cgroup", "unit", "container", "pod", "pid", "tid"];

const LOOPS: &str = "job=~\"$job\",instance=~\"$instance\",$by=~\"$group\"";
const AGENT: &str = "job=~\"$job\",instance=~\"$instance\"";

/// An expression as Grafana gets it.
pub fn expand(expression: &str) -> String {
    expression.replace("@loops", LOOPS).replace("@agent", AGENT).replace("@rate", "$__rate_interval")
}

impl Dashboard {
    /// Every panel, in order.
    pub fn panels(&self) -> impl Iterator<Item = &'static Panel> {
        self.rows.iter().flat_map(|row| row.panels)
    }
}
