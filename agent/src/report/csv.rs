//! A document's rows as CSV (RFC 4180): the JSON names, dotted, in the JSON's order.
//!
//! The header is not a list of its own: it is what a row with every field present flattens to, so it cannot
//! fall behind the JSON. `null` is an empty cell. Values are written as they are: a name with control
//! characters is quoted, not changed, because scripts compare it.

use std::io::{self, Write};

use ::csv::{Terminator, WriterBuilder};
use serde::Serialize;
use serde_json::Value;

use crate::fleet::document::{FleetDocument, FleetRow};

use super::check::{CheckDocument, ProbeCheck};
use super::document::{
    Backlog, CopiedBytes, Distribution, LoopRow, Mechanism, Report, Results, State, Time, Timeouts,
};

/// Writes the loops of `report`, one row each.
pub fn write_report(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    write_rows(&header(), &report.loops, out)
}

/// Writes the loops of one of many windows: as [`write_report`], with when the window began in a column before.
pub fn write_frame(report: &Report, first: bool, out: &mut dyn Write) -> io::Result<()> {
    write_dated(&header(), ("started_at", &report.started_at), &report.loops, first, out)
}

/// Writes rows of one of many documents, whose time, by its name, is in a column before.
fn write_dated<R: Serialize>(
    columns: &[String],
    (name, time): (&str, &str),
    rows: &[R],
    first: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut writer = WriterBuilder::new().terminator(Terminator::Any(b'\n')).from_writer(out);
    if first {
        let named = std::iter::once(name).chain(columns.iter().map(String::as_str));
        writer.write_record(named).map_err(output_error)?;
    }
    for row in rows {
        let row = serde_json::to_value(row)?;
        let cells = columns.iter().map(|column| cell(&row, column));
        writer.write_record(std::iter::once(time.to_owned()).chain(cells)).map_err(output_error)?;
    }
    writer.flush()
}

/// Writes the rows of many hosts, with when the server said so in a column before.
pub fn write_fleet(fleet: &FleetDocument, first: bool, out: &mut dyn Write) -> io::Result<()> {
    write_dated(&columns_of(&FleetRow::default()), ("at", &fleet.at), &fleet.loops, first, out)
}

/// Writes the probes of `check`, one row each; `tried` is a JSON array within its cell.
pub fn write_check(check: &CheckDocument, out: &mut dyn Write) -> io::Result<()> {
    write_rows(&columns_of(&full_probe()), &check.probes, out)
}

/// The columns of a report's CSV, always all of them.
pub fn header() -> Vec<String> {
    columns_of(&full_loop())
}

/// Writes a header of these columns and the rows.
pub fn write_rows<R: Serialize>(columns: &[String], rows: &[R], out: &mut dyn Write) -> io::Result<()> {
    let mut writer = WriterBuilder::new().terminator(Terminator::Any(b'\n')).from_writer(out);
    writer.write_record(columns).map_err(output_error)?;
    for row in rows {
        let row = serde_json::to_value(row)?;
        writer.write_record(columns.iter().map(|column| cell(&row, column))).map_err(output_error)?;
    }
    writer.flush()
}

/// The error of the output below a CSV error. The csv crate's own conversion loses its kind, and with it
/// whether a closed pipe was the cause.
fn output_error(error: ::csv::Error) -> io::Error {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// The text of the field at the dotted name `column`; empty where it or an object above it is null.
fn cell(row: &Value, column: &str) -> String {
    match column.split('.').try_fold(row, |value, name| value.get(name)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The columns of rows of which one with every field present is given.
pub fn columns_of(full_row: &impl Serialize) -> Vec<String> {
    let mut columns = Vec::new();
    // Our own types with string keys always serialize; a row that did not would have no columns, which a
    // test would see.
    flatten("", &serde_json::to_value(full_row).unwrap_or_default(), &mut columns);
    columns
}

fn flatten(prefix: &str, value: &Value, columns: &mut Vec<String>) {
    let Value::Object(fields) = value else {
        columns.push(prefix.to_owned());
        return;
    };
    for (name, field) in fields {
        let dotted = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        flatten(&dotted, field, columns);
    }
}

/// A loop with every field present: what the columns are read from. The values do not matter.
///
/// No field may be left to `Default` here: a null object would become one column instead of several.
fn full_loop() -> LoopRow {
    LoopRow {
        pid: 0,
        tid: 0,
        comm: String::new(),
        thread: String::new(),
        exe: Some(String::new()),
        cgroup: Some(String::new()),
        unit: Some(String::new()),
        container: Some(String::new()),
        pod: Some(String::new()),
        mechanism: Mechanism::Epoll,
        is_loop: true,
        ended: false,
        epfd: Some(0),
        instance: Some(0),
        waits: 0,
        events: 0,
        results: Results::default(),
        timeouts: Timeouts::default(),
        saturated: 0,
        maxevents: Some(0),
        wait_seconds: full_distribution(),
        busy_seconds: Some(full_distribution()),
        events_per_wait: full_distribution(),
        backlog: Some(Backlog {
            count: 0,
            sum: 0,
            truncated: 0,
            p50: Some(0),
            p90: Some(0),
            p99: Some(0),
            max: Some(0),
        }),
        requeued: Some(full_distribution()),
        overrun_seconds: Some(full_distribution()),
        time: Time { wait: 0.0, busy: Some(0.0), other_wait: Some(0.0) },
        state: State::Wait,
        state_seconds: Some(0.0),
        utilization: Some(0.0),
        nfds: Some(full_distribution()),
        highest_fd: Some(0),
        copied_bytes: CopiedBytes::default(),
        min_complete: Some(0),
        submissions: Some(0),
        cq_overflows: Some(0),
        ns_pid: Some(0),
    }
}

fn full_distribution<N: Copy + Default>() -> Distribution<N> {
    let some = Some(N::default());
    Distribution { count: 0, sum: N::default(), p50: some, p90: some, p99: some, max: some }
}

fn full_probe() -> ProbeCheck {
    ProbeCheck {
        name: String::new(),
        backend: Some(String::new()),
        ok: true,
        tried: Vec::new(),
        lost_without: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Object(fields) => fields.values().any(has_null),
            Value::Array(items) => items.iter().any(has_null),
            _ => false,
        }
    }

    #[test]
    fn the_rows_that_the_columns_come_from_have_every_field() {
        assert!(!has_null(&serde_json::to_value(full_loop()).unwrap()));
        assert!(!has_null(&serde_json::to_value(full_probe()).unwrap()));
    }

    #[test]
    fn columns_are_the_json_names_dotted() {
        let header = header();
        for name in ["pid", "results.ready", "wait_seconds.p99", "backlog.truncated", "copied_bytes.in"] {
            assert!(header.iter().any(|column| column == name), "{name} in {header:?}");
        }
    }

    #[test]
    fn null_is_an_empty_cell_and_all_columns_stay() {
        let report = Report { loops: vec![LoopRow::default()], ..Report::default() };
        let mut out = Vec::new();
        write_report(&report, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (names, cells) = text.trim_end().split_once('\n').unwrap();
        assert_eq!(names.split(',').count(), header().len());
        assert_eq!(cells.split(',').count(), header().len());
        assert!(cells.starts_with("0,0,,,,,,,,epoll,false,false,,,0,0,"), "{cells}");
    }

    #[test]
    fn names_with_commas_quotes_and_newlines_come_back_unchanged() {
        let comm = "a,\"b\"\nc\u{1b}[31m".to_owned();
        let report =
            Report { loops: vec![LoopRow { comm: comm.clone(), ..LoopRow::default() }], ..Report::default() };
        let mut out = Vec::new();
        write_report(&report, &mut out).unwrap();
        let mut reader = ::csv::Reader::from_reader(out.as_slice());
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!(row.get(2), Some(comm.as_str()));
    }

    #[test]
    fn a_closed_pipe_is_reported_as_one() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let report = Report { loops: vec![LoopRow::default(); 1000], ..Report::default() };
        assert_eq!(write_report(&report, &mut Closed).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_check_has_one_row_per_probe() {
        let check = CheckDocument { probes: vec![full_probe(), full_probe()], ..CheckDocument::default() };
        let mut out = Vec::new();
        write_check(&check, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "name,backend,ok,tried,lost_without\n,,true,[],\n,,true,[],\n"
        );
    }
}
