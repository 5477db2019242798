//! What a window held, as documents ([`document`], [`check`]) and their text forms ([`json`], [`csv`],
//! [`table`]).
//!
//! A writer only writes: it computes no figure of its own ([`derived`] does), touches no kernel and no clock,
//! and hands every error of its output back.

pub mod build;
pub mod check;
pub mod columns;
pub mod compare;
pub mod csv;
pub mod derived;
pub mod document;
pub mod expect;
pub mod grid;
pub mod group;
pub mod host;
pub mod json;
pub mod models;
pub mod table;
pub mod text;
pub mod units;

use std::io::{self, Write};

pub use check::CheckDocument;
pub use document::Report;

/// The forms of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON object
    Json,
    /// One row per loop (check: per probe), with a header
    Csv,
}

/// Writes a report. `width` is the terminal's, in columns; None: not a terminal, nothing is left out. It
/// matters to the table alone.
pub fn write(report: &Report, format: Format, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Table => table::write_report(report, width, out),
        Format::Json => json::write(report, out),
        Format::Csv => csv::write_report(report, out),
    }
}

/// Writes what `check` found; `width` as in [`write()`].
pub fn write_check(
    check: &CheckDocument,
    format: Format,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Table => table::write_check(check, width, out),
        Format::Json => json::write(check, out),
        Format::Csv => csv::write_check(check, out),
    }
}
