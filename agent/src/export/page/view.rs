//! What the page says, column by column: each cell as text, and as what it is sorted by. Knows no markup.

use std::time::SystemTime;

use loopscope_probe::Counters;
use serde::Serialize;

use crate::{
    model::{LoopWindow, Totals, Window},
    report::{
        Report, build,
        document::{LoopRow, SCHEMA, State},
        host::Host,
        text::sanitize,
        units,
    },
};

/// Rows at most; the others are counted.
const ROWS: usize = 200;
/// Cells of a strip: up to 2^-20 s, 2^-18 s, ... 2^6 s, and longer.
const CELLS: usize = 15;
/// What stands for a figure that a row does not have.
const NONE: &str = "-";

/// The whole page.
#[derive(Debug, Serialize)]
pub struct View {
    schema: u32,
    pub host: String,
    kernel: String,
    pub version: &'static str,
    taken_at: String,
    window_seconds: f64,
    /// One line: what this is, and of when.
    pub status: String,
    pub summary: Vec<Entry>,
    columns: Vec<&'static str>,
    pub rows: Vec<Row>,
    /// What is not in the table.
    pub more: String,
}

/// A figure of the summary.
#[derive(Debug, Serialize)]
pub struct Entry {
    pub name: &'static str,
    pub text: String,
}

/// A loop.
#[derive(Debug, Serialize)]
pub struct Row {
    pid: u32,
    tid: u32,
    comm: String,
    pub cells: Vec<Cell>,
}

/// A cell.
#[derive(Debug, Default, Serialize)]
pub struct Cell {
    pub text: String,
    /// What rows are sorted by; null comes last.
    pub sort: Option<Sort>,
    /// A share (0 to 1) to be drawn as a bar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bar: Option<f64>,
    /// Levels (0 to 9) to be drawn as a strip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip: Option<Vec<u8>>,
}

/// A value to sort by.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Sort {
    Number(f64),
    Text(String),
}

/// A column: its head, how it is aligned, and the cell of a loop. `Report` is there for the length of its window.
pub struct Column {
    pub head: &'static str,
    pub is_text: bool,
    cell: fn(&LoopRow, &LoopWindow, &Report) -> Cell,
}

/// The column that the table is sorted by at first.
pub const SORTED: usize = 3;

/// From left to right.
pub const COLUMNS: [Column; 11] = [
    text("Process", |row, _, _| named(name(row))),
    number("PID", |row, _, _| sorted(row.pid.to_string(), Some(f64::from(row.pid)))),
    text("Waits by", |row, _, _| named(row.mechanism.name().to_owned())),
    number("Utilisation", |row, _, _| Cell {
        bar: row.utilization,
        ..maybe(row.utilization, units::percent)
    }),
    number("Waits/s", |row, _, report| maybe(Some(report.per_second(row.waits)), units::number)),
    number("Events/wait", |row, _, _| maybe(row.events_per_wait.mean(), units::number)),
    text("Wait time", |row, window, _| {
        strip(&window.totals.wait, row.wait_seconds.p50, row.wait_seconds.p99)
    }),
    text("Busy time", |row, window, _| match &row.busy_seconds {
        Some(busy) => strip(&window.totals.busy, busy.p50, busy.p99),
        None => maybe(None, units::seconds),
    }),
    number("Busy p99", |row, _, _| maybe(row.busy_seconds.and_then(|busy| busy.p99), units::seconds)),
    number("Busy max", |row, _, _| maybe(row.busy_seconds.and_then(|busy| busy.max), units::seconds)),
    number("Busy now", |row, _, _| maybe(busy_now(row), units::seconds)),
];

const fn text(head: &'static str, cell: fn(&LoopRow, &LoopWindow, &Report) -> Cell) -> Column {
    Column { head, is_text: true, cell }
}

const fn number(head: &'static str, cell: fn(&LoopRow, &LoopWindow, &Report) -> Cell) -> Column {
    Column { head, is_text: false, cell }
}

fn named(text: String) -> Cell {
    Cell { sort: Some(Sort::Text(text.clone())), text, ..Cell::default() }
}

fn sorted(text: String, value: Option<f64>) -> Cell {
    Cell { text, sort: value.map(Sort::Number), ..Cell::default() }
}

fn maybe(value: Option<f64>, show: fn(f64) -> String) -> Cell {
    sorted(value.map_or_else(|| NONE.to_owned(), show), value)
}

/// Process and thread, once where they are the same.
fn name(row: &LoopRow) -> String {
    let name = match (row.comm.as_str(), row.thread.as_str()) {
        ("", "") => "(no name)".to_owned(),
        (comm, thread) if thread == comm || thread.is_empty() => comm.to_owned(),
        (comm, thread) => format!("{comm}/{thread}"),
    };
    sanitize(&name)
}

/// For how long it has been busy; None where it is not.
fn busy_now(row: &LoopRow) -> Option<f64> {
    row.state_seconds.filter(|_| row.state == State::Busy)
}

/// A distribution of times, sorted by its 99th percentile.
fn strip(buckets: &[u64], p50: Option<f64>, p99: Option<f64>) -> Cell {
    let show = |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), units::seconds);
    let text = format!("half within {}, 99% within {}", show(p50), show(p99));
    Cell { strip: Some(levels(buckets)), ..sorted(text, p99) }
}

/// How much each cell of a strip holds, by the fullest: 9, and 1 at least where there is anything.
fn levels(buckets: &[u64]) -> Vec<u8> {
    let mut cells = [0_u64; CELLS];
    for (i, count) in buckets.iter().enumerate() {
        // Bucket i ends at 2^((i + 1) / 4 - 22) s, and the first cell at 2^-20 s.
        let cell = (i / 8).min(CELLS - 1);
        if let Some(sum) = cells.get_mut(cell) {
            *sum += count;
        }
    }
    let most = cells.iter().copied().max().unwrap_or(0).max(1);
    // By the root, so that what is rare shows.
    let level = |count: u64| ((count as f64 / most as f64).sqrt() * 9.0).ceil() as u8;
    cells.into_iter().map(level).collect()
}

impl View {
    /// Of a window; `counters` and `missed` are of the time since the agent's start.
    pub fn new<T: Clone + Into<Totals>>(
        host: &Host,
        window: &Window<LoopWindow<T>>,
        counters: &Counters,
        missed: u64,
    ) -> View {
        // One at a time: unpacked, thousands of loops take more memory than all the rest of the agent.
        let whole = |looped: &LoopWindow<T>| looped.clone().with(T::into);
        let duration_seconds = window.duration_ns as f64 / 1e9;
        let mut loops: Vec<(LoopRow, &LoopWindow<T>)> = window
            .loops
            .iter()
            .filter(|looped| looped.is_loop && !looped.ended)
            .map(|looped| (build::loop_row(&whole(looped)), looped))
            .collect();
        loops.sort_by(|(a, _), (b, _)| LoopRow::by_utilization(a, b));
        let report = Report { duration_seconds, ..Report::default() };
        let taken_at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let rows = loops.iter().take(ROWS).map(|(row, looped)| {
            let looped = whole(looped);
            Row {
                pid: row.pid,
                tid: row.tid,
                comm: sanitize(&row.comm),
                cells: COLUMNS.iter().map(|column| (column.cell)(row, &looped, &report)).collect(),
            }
        });
        View {
            schema: SCHEMA,
            host: host.name.clone(),
            kernel: host.kernel.clone(),
            version: env!("CARGO_PKG_VERSION"),
            status: format!("read at {taken_at}, over {}", units::seconds(duration_seconds)),
            taken_at,
            window_seconds: duration_seconds,
            summary: summary(
                &loops,
                &report,
                build::lost(counters, missed).reasons().map(|(_, count, _)| count),
            ),
            columns: COLUMNS.iter().map(|column| column.head).collect(),
            rows: rows.collect(),
            more: more(loops.len(), window.loops.len()),
        }
    }
}

fn summary<T>(loops: &[(LoopRow, &LoopWindow<T>)], report: &Report, lost: [u64; 6]) -> Vec<Entry> {
    let waits = loops.iter().map(|(row, _)| row.waits).sum();
    let busy = loops.iter().filter_map(|(row, _)| Some((busy_now(row)?, row)));
    let longest = busy.max_by(|(a, _), (b, _)| a.total_cmp(b));
    let longest = longest.map(|(time, row)| format!("{} ({})", units::seconds(time), name(row)));
    vec![
        Entry { name: "Loops", text: loops.len().to_string() },
        Entry { name: "Waits per second", text: units::number(report.per_second(waits)) },
        Entry { name: "Longest busy now", text: longest.unwrap_or_else(|| NONE.to_owned()) },
        Entry { name: "Not recorded", text: units::count(lost.iter().sum()) },
    ]
}

/// What the table leaves out; nothing where it leaves out nothing.
fn more(loops: usize, all: usize) -> String {
    let (hidden, others) = (loops.saturating_sub(ROWS), all.saturating_sub(loops));
    let hidden = (hidden > 0).then(|| format!("{hidden} less utilised loops are not shown. "));
    let others = (others > 0).then(|| format!("{others} more waiters are no loops, or have ended."));
    hidden.unwrap_or_default() + &others.unwrap_or_default()
}
