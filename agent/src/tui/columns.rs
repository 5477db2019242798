//! The columns of the live table: header, width, importance, cell and order, one row each.
//!
//! A cell formats a figure of the document; what has to be computed first is in `report::derived`.

use std::cmp::Ordering;

use super::frame::Frame;
use crate::report::{
    columns::{NONE, busy, or_none, state, time, utilization},
    document::{InstanceRow, LoopRow, State},
    grid::{Align, Head},
    group::{Grouping, Row, place},
    models::IoModel,
    units,
};

/// What a cell may look at.
#[derive(Clone, Copy)]
pub struct Cell<'a> {
    /// The row.
    pub row: &'a Row,
    /// Its window.
    pub frame: &'a Frame,
    /// How rows are grouped.
    pub grouping: Grouping,
    /// The row's utilisation in the latest windows, oldest first.
    pub trend: &'a [Option<f64>],
}

impl<'a> Cell<'a> {
    fn figures(&self) -> &'a LoopRow {
        &self.row.row
    }
}

/// How rows are put in the order of a column.
pub enum Order {
    /// The greatest figure first, rows without it last.
    Figure(fn(&Cell) -> Option<f64>),
    /// By text, as in a dictionary.
    Text(fn(&Cell) -> String),
}

/// A column.
pub struct Column {
    /// Header, alignment and which go first on a narrow terminal.
    pub head: Head,
    /// Terminal columns that it takes.
    pub width: usize,
    /// What it shows, for the help.
    pub meaning: &'static str,
    /// The text in a row.
    pub cell: fn(&Cell) -> String,
    /// The order of the rows.
    pub order: Order,
}

const fn left(header: &'static str, rank: u8) -> Head {
    Head { header, align: Align::Left, rank }
}

const fn right(header: &'static str, rank: u8) -> Head {
    Head { header, align: Align::Right, rank }
}

/// The column that takes what room is left: its place in [`COLUMNS`], and how wide it may grow.
pub const NAME: usize = 3;
/// The widest name.
const NAME_MAX: usize = 32;
/// From this width of the terminal on, names get more room before columns of little importance get any.
const ROOMY: usize = 100;
/// How much more.
const NAME_EXTRA: usize = 8;
/// The place of the utilisation, by which rows are sorted at first.
pub const UTIL: usize = 5;
/// Columns that say nothing: the host of one host.
const HIDDEN_HERE: u32 = 1 << 0;
/// And process and thread of groups.
const HIDDEN_IN_FLEET: u32 = 1 << 1 | 1 << 2;
/// The columns of the sparkline.
pub const TREND: usize = 20;

/// From left to right.
pub const COLUMNS: [Column; 22] = [
    Column {
        head: left("HOST", 0),
        width: 15,
        meaning: "the host, where rows are of many: its instance label",
        cell: |cell| host(cell).to_owned(),
        order: Order::Text(|cell| host(cell).to_owned()),
    },
    Column {
        head: right("PID", 0),
        width: 7,
        meaning: "process id as the host counts",
        cell: |cell| number_or_none(cell.figures().pid, cell.row.key.pid),
        order: Order::Figure(|cell| Some(-f64::from(cell.figures().pid))),
    },
    Column {
        head: right("TID", 10),
        width: 7,
        meaning: "thread id as the host counts",
        cell: |cell| number_or_none(cell.figures().tid, cell.row.key.tid),
        order: Order::Figure(|cell| Some(-f64::from(cell.figures().tid))),
    },
    Column {
        head: left("COMM", 0),
        width: 12,
        meaning: "process and thread, or container; with the number of loops where rows are groups",
        cell: name,
        order: Order::Text(name),
    },
    Column {
        head: left("MECH", 5),
        width: 10,
        meaning: "the waiting call, and how its descriptors trigger (LT, ET) where that is known",
        cell: mechanism,
        order: Order::Text(mechanism),
    },
    Column {
        head: left("UTIL", 1),
        width: 11,
        meaning: "share of time that the loop's body ran rather than waited; ! from 90 %",
        cell: |cell| {
            let text = utilization(cell.figures());
            if is_hot(cell.figures()) { format!("{text}!") } else { text }
        },
        order: Order::Figure(|cell| cell.figures().utilization),
    },
    Column {
        head: left("STATE", 4),
        width: 10,
        meaning: "what it does now, and for how long: wait, busy, or ended",
        cell: |cell| state(cell.figures()),
        order: Order::Figure(|cell| match (cell.figures().state, cell.figures().state_seconds) {
            (State::Busy, seconds) => seconds,
            (State::Wait, seconds) => seconds.map(|seconds| -1.0 / (seconds + 1e-9)),
            (State::None, _) => None,
        }),
    },
    Column {
        head: right("WAITS/s", 3),
        width: 7,
        meaning: "completed waits a second",
        cell: |cell| rate(cell, cell.figures().waits),
        order: Order::Figure(|cell| Some(cell.figures().waits as f64)),
    },
    Column {
        head: right("EVENT/s", 9),
        width: 7,
        meaning: "events a second that the waits returned",
        cell: |cell| rate(cell, cell.figures().events),
        order: Order::Figure(|cell| Some(cell.figures().events as f64)),
    },
    Column {
        head: right("EV/WAIT", 7),
        width: 7,
        meaning: "events per wait",
        cell: |cell| or_none(cell.figures().events_per_wait.mean().map(units::number)),
        order: Order::Figure(|cell| cell.figures().events_per_wait.mean()),
    },
    Column {
        head: right("WAIT p50", 12),
        width: 8,
        meaning: "median wait",
        cell: |cell| time(cell.figures().wait_seconds.p50),
        order: Order::Figure(|cell| cell.figures().wait_seconds.p50),
    },
    Column {
        head: right("WAIT p99", 6),
        width: 8,
        meaning: "99th percentile of the waits",
        cell: |cell| time(cell.figures().wait_seconds.p99),
        order: Order::Figure(|cell| cell.figures().wait_seconds.p99),
    },
    Column {
        head: right("BUSY p50", 11),
        width: 8,
        meaning: "median of one iteration of the loop's body",
        cell: |cell| busy(cell.figures(), |busy| busy.p50),
        order: Order::Figure(|cell| cell.figures().busy_seconds.as_ref()?.p50),
    },
    Column {
        head: right("BUSY p99", 2),
        width: 8,
        meaning: "99th percentile of it: what a request may have to wait for",
        cell: |cell| busy(cell.figures(), |busy| busy.p99),
        order: Order::Figure(|cell| cell.figures().busy_seconds.as_ref()?.p99),
    },
    Column {
        head: right("BUSY max", 8),
        width: 8,
        meaning: "the longest iteration",
        cell: |cell| busy(cell.figures(), |busy| busy.max),
        order: Order::Figure(|cell| cell.figures().busy_seconds.as_ref()?.max),
    },
    Column {
        head: right("BACKLOG", 13),
        width: 7,
        meaning: "99th percentile of the ready list's length at the entry of a wait",
        cell: |cell| or_none(cell.figures().backlog.and_then(|backlog| backlog.p99).map(units::count)),
        order: Order::Figure(|cell| Some(cell.figures().backlog?.p99? as f64)),
    },
    Column {
        head: right("WATCHED", 14),
        width: 7,
        meaning: "descriptors that the instance watches",
        cell: |cell| or_none(watched(cell).map(units::count)),
        order: Order::Figure(|cell| watched(cell).map(|watched| watched as f64)),
    },
    Column {
        head: right("SAT%", 15),
        width: 5,
        meaning: "share of waits that returned as many events as were asked for",
        cell: |cell| crate::report::columns::saturated(cell.figures()),
        order: Order::Figure(|cell| cell.figures().saturated_share()),
    },
    Column {
        head: right("EMPTY%", 16),
        width: 6,
        meaning: "share of waits with a zero time-out that found nothing",
        cell: |cell| or_none(cell.figures().empty_share().map(units::percent)),
        order: Order::Figure(|cell| cell.figures().empty_share()),
    },
    Column {
        head: left("MODEL", 17),
        width: 10,
        meaning: "I/O model, where the waits tell it: loop LT or ET, shared epoll, poll, select, polled by hand",
        cell: |cell| match model(cell) {
            Some(model) => model.name().to_owned(),
            None => if cell.frame.fleet.is_some() { NONE } else { "" }.to_owned(),
        },
        order: Order::Text(|cell| model(cell).map_or("~", IoModel::name).to_owned()),
    },
    Column {
        head: left("UTIL BEFORE", 18),
        width: TREND,
        meaning: "utilisation in the latest windows, the newest at the right; . where there was none",
        cell: |cell| units::sparkline(cell.trend, TREND),
        order: Order::Figure(|cell| cell.figures().utilization),
    },
    Column {
        head: left("CONTAINER", 19),
        width: 24,
        meaning: "container, else unit, else control group",
        cell: |cell| place(cell.figures()).to_owned(),
        order: Order::Text(|cell| place(cell.figures()).to_owned()),
    },
];

/// Whether a loop is so busy that it is marked.
pub fn is_hot(row: &LoopRow) -> bool {
    row.utilization.is_some_and(|share| share >= 0.9)
}

/// A process or a thread, where the row is one.
fn number_or_none(number: u32, key: u32) -> String {
    if key == 0 { NONE.to_owned() } else { number.to_string() }
}

/// A count of the window, a second.
fn rate(cell: &Cell, count: u64) -> String {
    or_none((!cell.row.silent).then(|| units::number(cell.frame.head.per_second(count))))
}

fn host<'a>(cell: &Cell<'a>) -> &'a str {
    if cell.row.key.host.is_empty() { &cell.frame.head.host } else { &cell.row.key.host }
}

fn name(cell: &Cell) -> String {
    let name = match cell.grouping {
        Grouping::Thread => return crate::report::columns::name(cell.figures()),
        Grouping::Process => &cell.figures().comm,
        Grouping::Program | Grouping::Container => &cell.row.key.container,
    };
    let name = if name.is_empty() { "(no name)" } else { name };
    if cell.row.members > 1 { format!("{name} x{}", cell.row.members) } else { name.to_owned() }
}

fn mechanism(cell: &Cell) -> String {
    let name = cell.figures().mechanism.name();
    match own_instance(cell).and_then(|row| row.trigger()) {
        Some(trigger) => format!("{name} {trigger}"),
        None => name.to_owned(),
    }
}

/// The I/O model of a row that is one loop or waiter.
fn model(cell: &Cell) -> Option<IoModel> {
    let alone = cell.row.members <= 1 && cell.frame.fleet.is_none();
    let figures = alone.then_some(cell.figures())?;
    IoModel::of(figures, cell.frame.instance(figures.instance))
}

/// What the row's instance watches.
fn watched(cell: &Cell) -> Option<u64> {
    Some(own_instance(cell)?.watched?.total)
}

/// The row's instance; a group has none of its own, but metrics say what its instances watch together.
fn own_instance<'a>(cell: &Cell<'a>) -> Option<&'a InstanceRow> {
    let has_one = cell.row.members <= 1 || cell.frame.fleet.is_some();
    cell.frame.instance(cell.figures().instance).filter(|_| has_one)
}

/// Bit i: column i is not shown unless somebody wants it.
pub fn hidden(fleet: bool) -> u32 {
    if fleet { HIDDEN_IN_FLEET } else { HIDDEN_HERE }
}

/// The order of two rows by a column; ids break ties, so that rows without figures stand still.
pub fn compare(column: &Column, a: &Cell, b: &Cell) -> Ordering {
    let order = match &column.order {
        Order::Figure(figure) => {
            let key = |cell: &Cell| figure(cell).unwrap_or(f64::NEG_INFINITY);
            key(b).total_cmp(&key(a)).then_with(|| b.row.row.waits.cmp(&a.row.row.waits))
        }
        Order::Text(text) => text(a).cmp(&text(b)),
    };
    order.then_with(|| a.row.key.cmp(&b.row.key))
}

/// The place of the column that is named so, whatever the case of its letters.
pub fn by_name(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.head.header.eq_ignore_ascii_case(name))
}

/// The columns that are shown in `room` terminal columns, with their widths, in their order: the least important go
/// first, and the names get what is left.
pub fn fit(room: usize, hidden: u32) -> Vec<(usize, usize)> {
    let wanted = |i: &usize| hidden >> i & 1 == 0;
    let mut by_rank: Vec<usize> = (0..COLUMNS.len()).filter(wanted).collect();
    by_rank.sort_by_key(|i| COLUMNS.get(*i).map(|column| column.head.rank));
    let mut left = room + 1;
    let mut shown: Vec<(usize, usize)> = Vec::new();
    for i in by_rank {
        let Some(column) = COLUMNS.get(i) else { continue };
        let width = column.width + if i == NAME && room >= ROOMY { NAME_EXTRA } else { 0 };
        // The gap of one column is part of it.
        match left.checked_sub(width + 1) {
            Some(rest) => left = rest,
            None if column.head.rank == 0 => left = 0,
            None => break,
        }
        shown.push((i, width));
    }
    shown.sort_unstable();
    if let Some((_, width)) = shown.iter_mut().find(|(i, _)| *i == NAME) {
        *width = (*width + left).min(NAME_MAX);
    }
    shown
}
