//! The columns of the human table of loops, one row each: header, alignment, importance and cell.
//!
//! A cell formats a figure of the document; what has to be computed first is in [`super::derived`].

use super::document::{LoopRow, Report, Seconds, State};
use super::grid::{Align, Head};
use super::text::{cut, sanitize};
use super::units;

/// The most columns that a name gets.
const NAME_COLUMNS: usize = 24;
/// The columns of the bar beside the utilisation.
const BAR_COLUMNS: usize = 5;
/// What stands for a figure that a row does not have.
pub const NONE: &str = "-";

/// A column of the table of loops.
pub struct Column {
    /// Header, alignment, and which go first on a narrow terminal.
    pub head: Head,
    /// The cell of a row; the report is there for its window.
    pub cell: fn(&LoopRow, &Report) -> String,
}

const fn left(header: &'static str, rank: u8, cell: fn(&LoopRow, &Report) -> String) -> Column {
    Column { head: Head { header, align: Align::Left, rank }, cell }
}

const fn right(header: &'static str, rank: u8, cell: fn(&LoopRow, &Report) -> String) -> Column {
    Column { head: Head { header, align: Align::Right, rank }, cell }
}

/// From left to right. Equal ranks go together.
pub const COLUMNS: [Column; 15] = [
    right("PID", 0, |row, _| row.pid.to_string()),
    right("TID", 9, |row, _| row.tid.to_string()),
    left("COMM", 0, |row, _| name(row)),
    left("MECH", 5, |row, _| row.mechanism.name().to_owned()),
    right("WAITS/s", 3, |row, report| units::number(report.per_second(row.waits))),
    right("EV/WAIT", 7, |row, _| or_none(row.events_per_wait.mean().map(units::number))),
    left("UTIL", 1, |row, _| utilization(row)),
    right("WAIT p50", 11, |row, _| time(row.wait_seconds.p50)),
    right("WAIT p99", 6, |row, _| time(row.wait_seconds.p99)),
    right("BUSY p50", 10, |row, _| busy(row, |busy| busy.p50)),
    right("BUSY p99", 2, |row, _| busy(row, |busy| busy.p99)),
    right("BUSY max", 8, |row, _| busy(row, |busy| busy.max)),
    right("SAT%", 12, |row, _| saturated(row)),
    right("EMPTY%", 13, |row, _| or_none(row.empty_share().map(units::percent))),
    left("STATE", 4, |row, _| state(row)),
];

/// The text, or what stands for none.
pub fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.to_owned())
}

/// Process and thread, once where they are the same.
pub fn name(row: &LoopRow) -> String {
    let name = match (row.comm.as_str(), row.thread.as_str()) {
        ("", "") => "(no name)".to_owned(),
        (comm, thread) if thread == comm || thread.is_empty() => comm.to_owned(),
        (comm, thread) => format!("{comm}/{thread}"),
    };
    cut(&sanitize(&name), NAME_COLUMNS)
}

/// A time, if there is one.
pub fn time(seconds: Option<f64>) -> String {
    or_none(seconds.map(units::seconds))
}

/// A figure of the busy times.
pub fn busy(row: &LoopRow, figure: fn(&Seconds) -> Option<f64>) -> String {
    time(row.busy_seconds.as_ref().and_then(figure))
}

/// The share and a bar of it.
pub fn utilization(row: &LoopRow) -> String {
    match row.utilization {
        Some(share) => format!("{:>4} {}", units::percent(share), units::bar(share, BAR_COLUMNS)),
        None => format!("{NONE:>4}"),
    }
}

/// Asking for one event at a time saturates every wait that has one, which says nothing: shown as such.
pub fn saturated(row: &LoopRow) -> String {
    if row.maxevents == Some(1) {
        "max=1".to_owned()
    } else {
        or_none(row.saturated_share().map(units::percent))
    }
}

/// What it is in, and for how long.
pub fn state(row: &LoopRow) -> String {
    let name = match row.state {
        _ if row.ended => return "ended".to_owned(),
        State::None => return NONE.to_owned(),
        State::Wait => "wait",
        State::Busy => "busy",
    };
    match row.state_seconds {
        Some(seconds) => format!("{name} {}", units::seconds(seconds)),
        None => name.to_owned(),
    }
}
