//! Frames as text for scripts: no terminal, no colours, every row and every column.

use std::io::{self, Write};

use super::{
    app::App,
    columns::{COLUMNS, Cell, TREND},
};
use crate::report::{Format, csv, document::Report, grid::Grid, json, units};

/// Writes the frame that `app` shows. `width`: the terminal's columns, None for none; `first`: a header is wanted.
pub fn write(
    app: &App,
    format: Format,
    width: Option<usize>,
    first: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Some(frame) = app.frame() else { return Ok(()) };
    let rows = || app.list.shown().filter(|line| line.gone == 0).map(|line| &line.row);
    if let (Some(answer), Format::Json | Format::Csv) = (&frame.fleet, format) {
        match format {
            Format::Json => json::write(&answer.document, out)?,
            _ => csv::write_fleet(&answer.document, first, out)?,
        }
        return out.flush();
    }
    // For scripts a row is a thread, whatever people group by: the fields mean what they mean in a report.
    let loops = || frame.samples.iter().map(|sample| sample.row.row.clone()).collect();
    let document = || Report { loops: loops(), ..frame.head.clone() };
    match format {
        Format::Json => json::write(&document(), out)?,
        Format::Csv => csv::write_frame(&document(), first, out)?,
        Format::Table => {
            // The host of one host says nothing.
            let skipped = usize::from(frame.fleet.is_none());
            let (sums, head) = (frame.sums, &frame.head);
            let [waits, events] =
                [sums.waits, sums.events].map(|count| units::number(head.per_second(count)));
            let lost: u64 = head.lost.reasons().iter().map(|(_, count, _)| count).sum();
            let lost = match &frame.fleet {
                Some(answer) => {
                    format!("{}/s", units::number(answer.document.lost_per_second.values().sum()))
                }
                None => lost.to_string(),
            };
            if let Some(why) = &app.old {
                writeln!(out, "OLD: {}", crate::report::text::one_line(why))?;
            }
            writeln!(
                out,
                "{}  {}  {}  loops {}  waiters {}  waits/s {waits}  events/s {events}  lost {lost}",
                head.started_at,
                crate::report::text::sanitize(&head.host),
                units::seconds(head.duration_seconds),
                sums.loops,
                sums.waiters,
            )?;
            let columns = || COLUMNS.iter().skip(skipped).filter(|column| column.width != TREND);
            let mut grid = Grid::new(columns().map(|column| column.head));
            for row in rows() {
                let cell = Cell { row, frame, grouping: app.settings.grouping, trend: &[] };
                grid.push(columns().map(|column| (column.cell)(&cell)));
            }
            grid.write(width, out)?;
            writeln!(out)?;
        }
    }
    out.flush()
}
