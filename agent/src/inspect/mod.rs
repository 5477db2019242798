//! What `inspect` shows of one process: its instances with their watched descriptors ([`document`]), put together from a
//! window and /proc ([`build`]), and as text (`table`) or CSV.
//!
//! Nothing here attaches or waits.

pub mod build;
pub mod calls;
pub mod document;
mod events;
mod table;

use std::io::{self, Write};

pub use document::Inspection;

use crate::report::{Format, csv, json};

/// Writes what was found; `width` is the terminal's, in columns.
pub fn write(
    inspection: &Inspection,
    format: Format,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Table => table::write(inspection, width, out),
        Format::Json => json::write(inspection, out),
        Format::Csv => csv::write_rows(&csv::columns_of(&document::FdRow::full()), &inspection.fds, out),
    }
}
