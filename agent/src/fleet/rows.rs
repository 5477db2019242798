//! From the server's series to rows: what has the same labels is one row, and its shares are divided here. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::SystemTime,
};

use super::{
    answer::{Labels, Series},
    document::{FleetDocument, FleetRow, Quantiles},
    queries::Query,
};
use crate::report::{
    document::{
        Backlog, Counts, Distribution, InstanceRow, LoopRow, Mechanism, Results, Seconds, Time, Watched,
    },
    group::{Row, RowKey},
};

/// The figures of a row, as they come.
#[derive(Debug, Default)]
pub struct Figures {
    /// Loops.
    pub loops: Option<f64>,
    /// Loops and other waiters.
    pub waiters: Option<f64>,
    /// Waits a second by how they ended.
    pub results: BTreeMap<String, f64>,
    /// Events a second.
    pub events: Option<f64>,
    /// Saturated waits a second.
    pub saturated: Option<f64>,
    /// Seconds a second in each state.
    pub times: BTreeMap<String, f64>,
    /// Wait times.
    pub wait: Quantiles,
    /// Busy times.
    pub busy: Quantiles,
    /// Lengths of the ready list.
    pub backlog: Quantiles,
    /// Watched descriptors by trigger.
    pub watched: BTreeMap<String, f64>,
    /// Stale ones.
    pub stale: Option<f64>,
    /// How long the loop has been busy that has been for longest.
    pub current_busy: Option<f64>,
}

/// What a server knows, as views take it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// For scripts.
    pub document: FleetDocument,
    /// Its rows for the live table.
    pub rows: Vec<Arc<Row>>,
    /// What the instances of each row watch, by the row's number.
    pub instances: Vec<InstanceRow>,
    /// When that was, by the server's clock.
    pub at: SystemTime,
}

/// All figures by the labels that rows have in common.
#[derive(Default)]
pub struct Table(BTreeMap<Labels, Figures>);

/// Numbers of rows, the same from one answer to the next.
#[derive(Default)]
pub struct Numbers {
    known: HashMap<Labels, u64>,
    last: u64,
}

impl Numbers {
    /// The number of each row; rows that are not among them are forgotten.
    fn of<'a>(&mut self, rows: impl Iterator<Item = &'a Labels>) -> Vec<u64> {
        let mut kept = HashMap::new();
        let numbers = rows.map(|labels| {
            let number = self.known.get(labels).copied().unwrap_or_else(|| {
                self.last += 1;
                self.last
            });
            kept.insert(labels.clone(), number);
            number
        });
        let numbers = numbers.collect();
        self.known = kept;
        numbers
    }
}

impl Table {
    /// Takes the answer to a query in.
    pub fn put(&mut self, query: &Query, series: Vec<Series>) {
        for Series { mut labels, value, .. } in series {
            let own = labels.remove(query.label).unwrap_or_default();
            (query.put)(self.0.entry(labels).or_default(), &own, value);
        }
    }

    /// Whether any row has a rate.
    pub fn has_rates(&self) -> bool {
        self.0.values().any(|figures| !figures.results.is_empty())
    }

    /// Everything together. Rows that `keeps` is false of, and those of a mechanism that this version does not know, are left
    /// out; of the latter says so.
    pub fn answer(
        self,
        mut document: FleetDocument,
        numbers: &mut Numbers,
        at: SystemTime,
        keeps: impl Fn(&FleetRow) -> bool,
    ) -> Answer {
        let numbers = numbers.of(self.0.keys());
        let mut unknown = BTreeSet::new();
        let (mut rows, mut instances) = (Vec::new(), Vec::new());
        let window = document.window_seconds as f64;
        for ((labels, figures), number) in self.0.iter().zip(numbers) {
            let row = fleet_row(labels, figures);
            let Some(mechanism) = Mechanism::ALL.into_iter().find(|known| known.name() == row.mechanism)
            else {
                unknown.insert(row.mechanism);
                continue;
            };
            if !keeps(&row) {
                continue;
            }
            instances.extend(instance(&row, number));
            rows.push(Arc::new(shown(&row, figures, (mechanism, number, window))));
            document.loops.push(row);
        }
        if !unknown.is_empty() {
            let names: Vec<&str> = unknown.iter().map(String::as_str).collect();
            document.notes.push(format!("this version does not know the mechanism {}", names.join(", ")));
        }
        Answer { document, rows, instances, at }
    }
}

/// RFC 3339, to the second.
pub fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn fleet_row(labels: &Labels, figures: &Figures) -> FleetRow {
    let exact = |name: &str| labels.get(name).filter(|value| !value.is_empty()).cloned();
    // What a scrape's own labels would have hidden, Prometheus renames.
    let renamed = |name: &str| exact(&format!("exported_{name}"));
    let name = |name: &str| renamed(name).or_else(|| exact(name));
    let [comm, exe, cgroup, unit] = ["comm", "exe", "cgroup", "unit"].map(name);
    // Where rows are something else, these are labels of the scrape: where the agent itself runs.
    let placed = |own: &str| {
        let is_group = [&comm, &exe, &cgroup, &unit].iter().all(|name| name.is_none());
        renamed(own).or_else(|| exact(own).filter(|_| is_group))
    };
    let pod = placed("pod");
    let namespace = placed("namespace").filter(|_| pod.is_some());
    let number = |label: Option<String>| label.and_then(|text| text.parse().ok());
    let count = |value: Option<f64>| value.map(|value| value.max(0.0) as u64);
    let of = |parts: &BTreeMap<String, f64>, names: &[&str]| -> Option<f64> {
        names.iter().filter_map(|name| parts.get(*name).copied()).reduce(|sum, more| sum + more)
    };
    let waits = figures.results.values().copied().reduce(|sum, more| sum + more);
    let taken = of(&figures.results, &["ready", "timeout", "empty"]);
    let busy = of(&figures.times, &["busy"]);
    let watched = |names| count(of(&figures.watched, names));
    FleetRow {
        host: exact("instance").unwrap_or_default(),
        job: exact("job"),
        pid: number(name("pid")),
        tid: number(name("tid")),
        thread: name("thread"),
        container: if pod.is_some() { None } else { placed("container") },
        pod: pod.map(|pod| namespace.map_or(pod.clone(), |namespace| format!("{namespace}/{pod}"))),
        mechanism: exact("mechanism").unwrap_or_default(),
        loops: count(figures.loops),
        waiters: count(figures.waiters),
        waits_per_second: waits,
        events_per_second: figures.events,
        events_per_wait: part(figures.events, taken),
        utilization: part(busy, of(&figures.times, &["busy", "wait"])),
        wait_seconds: figures.wait,
        busy_seconds: figures.busy,
        backlog: figures.backlog,
        current_busy_seconds: figures.current_busy,
        saturated_share: part(figures.saturated, waits),
        empty_share: part(waits.map(|_| figures.results.get("empty").copied().unwrap_or(0.0)), waits),
        watched: watched(&["level", "edge"]),
        level: watched(&["level"]),
        edge: watched(&["edge"]),
        stale: count(figures.stale),
        comm,
        exe,
        cgroup,
        unit,
    }
}

/// A part of a whole; None of nothing.
fn part(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    whole.filter(|whole| *whole > 0.0).and_then(|whole| Some(part? / whole))
}

/// The row as the live table takes it: counts are those of the window, to the nearest whole.
fn shown(row: &FleetRow, figures: &Figures, of: (Mechanism, u64, f64)) -> Row {
    let (mechanism, number, window) = of;
    let count = |rate: Option<f64>| (rate.unwrap_or(0.0) * window).round().max(0.0) as u64;
    let result = |name: &str| count(figures.results.get(name).copied());
    let names = [&row.comm, &row.pod, &row.container, &row.unit, &row.exe, &row.cgroup];
    let name = names.into_iter().flatten().next().cloned().unwrap_or_default();
    let results = Results {
        ready: result("ready"),
        timeout: result("timeout"),
        empty: result("empty"),
        interrupted: result("interrupted"),
        error: result("error"),
    };
    let figures = LoopRow {
        pid: row.pid.unwrap_or(0),
        tid: row.tid.unwrap_or(0),
        comm: name.clone(),
        thread: row.thread.clone().unwrap_or_default(),
        exe: row.exe.clone(),
        cgroup: row.cgroup.clone(),
        unit: row.unit.clone(),
        container: row.container.clone().or_else(|| row.pod.clone()),
        mechanism,
        is_loop: row.loops.is_some_and(|loops| loops > 0),
        instance: Some(number),
        waits: count(row.waits_per_second),
        events: count(row.events_per_second),
        results,
        saturated: count(row.saturated_share.and_then(|share| Some(share * row.waits_per_second?))),
        // Not in the metrics; that waits have such a limit is.
        maxevents: row.saturated_share.map(|_| 0),
        wait_seconds: seconds(row.wait_seconds),
        busy_seconds: row.utilization.map(|_| seconds(row.busy_seconds)),
        events_per_wait: Counts {
            count: results.ready + results.timeout + results.empty,
            sum: count(row.events_per_second),
            ..Counts::default()
        },
        backlog: row.backlog.p99.map(|p99| Backlog {
            p50: row.backlog.p50.map(|p50| p50.round() as u64),
            p99: Some(p99.round() as u64),
            ..Backlog::default()
        }),
        time: Time::default(),
        utilization: row.utilization,
        ..LoopRow::default()
    };
    let key = RowKey {
        host: row.host.clone(),
        container: name,
        pid: row.pid.unwrap_or(0),
        tid: row.tid.unwrap_or(0),
        mechanism,
        instance: number,
    };
    Row {
        key,
        row: figures,
        silent: row.waits_per_second.is_none(),
        members: row.loops.map_or(1, |loops| usize::try_from(loops).unwrap_or(1)),
        ..Row::default()
    }
}

fn seconds(quantiles: Quantiles) -> Seconds {
    Distribution { p50: quantiles.p50, p99: quantiles.p99, ..Distribution::default() }
}

/// What the instances of a row watch, together.
fn instance(row: &FleetRow, number: u64) -> Option<InstanceRow> {
    let watched = Watched {
        total: row.watched?,
        level: row.level.unwrap_or(0),
        edge: row.edge.unwrap_or(0),
        stale: row.stale.unwrap_or(0),
        ..Watched::default()
    };
    Some(InstanceRow { instance: number, watched: Some(watched), ..InstanceRow::default() })
}
