//! The table of loops: heads, rows, and a word where there are none.

use ratatui::{buffer::Buffer, layout::Rect, text::Line};

use super::{Pen, put};
use crate::{
    report::{
        grid::Align,
        text::{cut, sanitize, width},
    },
    tui::{
        app::App,
        columns::{self, COLUMNS, Cell, TREND, is_hot},
        frame::Frame,
        list,
        theme::Tone,
    },
};

/// Draws the table into `area`.
pub fn draw(app: &App, pen: Pen, area: Rect, buffer: &mut Buffer) {
    let Some(frame) = app.frame() else { return };
    let fitted = columns::fit(area.width.into(), app.hidden);
    let head = pad(&fitted, area.width.into(), |i| {
        COLUMNS.get(i).map_or(String::new(), |column| {
            let mark = if i == app.settings.sort && column.width > column.head.header.len() {
                if app.reverse { "^" } else { "v" }
            } else {
                ""
            };
            format!("{}{mark}", column.head.header)
        })
    });
    put(buffer, area, 0, 1, &[pen.line(head, Tone::Head)]);
    let mut lines: Vec<Line> = Vec::new();
    for (line, is_current) in app.list.visible() {
        lines.push(row(app, frame, &fitted, line, is_current, pen, area.width.into()));
    }
    if lines.is_empty() {
        lines.push(pen.line(
            match app.filter.is_empty() {
                true => "No event loop waits yet.",
                false => "No row matches the filter; Esc drops it.",
            },
            Tone::Faint,
        ));
    }
    put(buffer, area, 1, area.height, &lines);
}

/// The column in which a place of the heads lies.
pub fn column_at(app: &App, room: usize, x: usize) -> Option<usize> {
    let mut end = 0;
    let fitted = columns::fit(room, app.hidden).into_iter();
    let mut ends = fitted.map(|(i, width)| {
        end += width + 1;
        (i, end)
    });
    ends.find(|(_, end)| x < *end).map(|(i, _)| i)
}

fn row(
    app: &App,
    frame: &Frame,
    fitted: &[(usize, usize)],
    line: &list::Line,
    is_current: bool,
    pen: Pen,
    room: usize,
) -> Line<'static> {
    let shows_trend = fitted.iter().any(|(i, _)| COLUMNS.get(*i).is_some_and(|column| column.width == TREND));
    let trend = if shows_trend { app.history.utilization(&line.row.key) } else { Vec::new() };
    let cell = Cell { row: &line.row, frame, grouping: app.settings.grouping, trend: &trend };
    let text = pad(fitted, room, |i| COLUMNS.get(i).map_or(String::new(), |column| (column.cell)(&cell)));
    let tone = match &line.row.row {
        _ if is_current => Tone::Cursor,
        row if row.ended => Tone::Faint,
        row if is_hot(row) => Tone::Alarm,
        row if row.utilization.is_some_and(|share| share >= 0.7) => Tone::Warm,
        _ => Tone::Plain,
    };
    // The cursor's bar goes through to the edge.
    let filler = " ".repeat(if is_current { room.saturating_sub(width(&text)) } else { 0 });
    pen.line(format!("{text}{filler}"), tone)
}

/// One row of cells, each in its width, a blank between them.
fn pad(fitted: &[(usize, usize)], room: usize, text: impl Fn(usize) -> String) -> String {
    let mut line = String::new();
    for (i, columns) in fitted {
        if !line.is_empty() {
            line.push(' ');
        }
        let text = cut(&sanitize(&text(*i)), *columns);
        let padding = " ".repeat(columns.saturating_sub(width(&text)));
        match COLUMNS.get(*i).map(|column| column.head.align) {
            Some(Align::Right) => line.extend([padding.as_str(), text.as_str()]),
            _ => line.extend([text.as_str(), padding.as_str()]),
        }
    }
    cut(&line, room)
}
