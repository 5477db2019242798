//! From the state to cells. Reads the state, changes nothing, sorts nothing, and asks no clock.

mod detail;
mod fleet;
mod header;
mod heat;
mod popup;
mod table;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    app::{App, Hit, Popup, Screen},
    theme::{Theme, Tone},
};
use crate::report::text;

/// Draws everything.
pub fn draw(app: &App, theme: Theme, frame: &mut Frame) {
    let area = frame.area();
    let pen = Pen { theme };
    let buffer = frame.buffer_mut();
    let head = header::lines(app, pen, area.width.into());
    let head_rows = u16::try_from(header_rows(area.height)).unwrap_or(0);
    put(buffer, area, 0, head_rows, &head);
    let body = Rect { y: area.y + head_rows, height: area.height.saturating_sub(head_rows + 1), ..area };
    match &app.screen {
        Screen::Table => table::draw(app, pen, body, buffer),
        Screen::Detail { scroll, .. } => {
            let lines = detail::lines(app, pen, body.width.into());
            let last = lines.len().saturating_sub(body.height.into());
            let from = lines.get((*scroll).min(last)..).unwrap_or_default();
            put(buffer, body, 0, body.height, from);
        }
    }
    let footer = [footer(app, pen, area.width.into())];
    put(buffer, area, area.height.saturating_sub(1), area.height, &footer);
    if let Some(popup) = &app.popup {
        popup::draw(app, popup, pen, area, buffer);
    }
}

/// Rows of the table that fit on a screen of that height.
pub fn page(height: u16) -> usize {
    // The heads of the columns and the footer.
    usize::from(height).saturating_sub(header_rows(height) + 2)
}

/// What of the table lies at a place of a screen of that size.
pub fn hit(app: &App, size: (u16, u16), place: (u16, u16)) -> Option<Hit> {
    let ((width, height), (x, y)) = (size, place);
    if app.screen != Screen::Table || app.popup.is_some() {
        return None;
    }
    match usize::from(y).checked_sub(header_rows(height))? {
        0 => table::column_at(app, width.into(), x.into()).map(Hit::Head),
        row => (row <= page(height)).then_some(Hit::Row(row - 1)),
    }
}

fn header_rows(height: u16) -> usize {
    match height {
        0..=5 => 0,
        6..=13 => 2,
        _ => 3,
    }
}

/// Makes safe, styled pieces of text.
#[derive(Clone, Copy)]
struct Pen {
    theme: Theme,
}

impl Pen {
    fn span(self, text: impl AsRef<str>, tone: Tone) -> Span<'static> {
        Span::styled(text::sanitize(text.as_ref()), self.theme.style(tone))
    }

    fn line(self, text: impl AsRef<str>, tone: Tone) -> Line<'static> {
        Line::from(self.span(text, tone))
    }
}

/// Writes lines into the rows of `area` from `row` on, before row `end`.
fn put(buffer: &mut Buffer, area: Rect, row: u16, end: u16, lines: &[Line]) {
    for (y, line) in (row..end.min(area.height)).zip(lines) {
        buffer.set_line(area.x, area.y + y, line, area.width);
    }
}

/// The last row: what is being typed, what went wrong, or the keys.
fn footer(app: &App, pen: Pen, width: usize) -> Line<'static> {
    match (&app.popup, &app.notice) {
        (Some(Popup::Filter(_)), _) => {
            let (_, rows) = app.list.place();
            pen.line(format!("/{}_  {rows} rows; Enter keeps, Esc drops", app.filter), Tone::Title)
        }
        (Some(Popup::Seek(text)), _) => {
            pen.line(format!("go to: {text}_  90s from the start, or 12:03:00"), Tone::Title)
        }
        (_, Some(notice)) => pen.line(notice, Tone::Alarm),
        (None, None) if app.old.is_some() => {
            pen.line(text::cut(&text::one_line(app.old.as_deref().unwrap_or_default()), width), Tone::Alarm)
        }
        _ => popup::hints(app, pen, width),
    }
}
