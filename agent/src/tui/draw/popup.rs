//! What lies over the table: the help and the choices, both made from their tables; and the footer's hints.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::Line,
    widgets::{Clear, Widget},
};

use super::{Pen, put};
use crate::{
    report::text::{cut, width},
    tui::{
        app::{App, Popup, Screen},
        columns::COLUMNS,
        keys::{KEYS, Where},
        theme::Tone,
    },
};

/// Draws a popup over the middle of `area`; what is typed stands in the footer instead.
pub fn draw(app: &App, popup: &Popup, pen: Pen, area: Rect, buffer: &mut Buffer) {
    let (title, lines, at) = match popup {
        Popup::Filter(_) | Popup::Seek(_) => return,
        Popup::Help(at) => ("Keys (Esc closes)", help(app), *at),
        Popup::Sort(at) => ("Sort by (Enter takes)", sorts(app), *at),
        Popup::Columns(at) => ("Columns (Space shows or hides)", columns(app), *at),
    };
    let is_help = matches!(popup, Popup::Help(_));
    let room = usize::from(area.width);
    let wide = lines.iter().map(|line| width(line)).max().unwrap_or(0).max(width(title)) + 4;
    let wide = wide.min(room);
    let tall = (lines.len() + 2).min(area.height.into());
    let place = Rect {
        x: area.x + u16::try_from((room - wide) / 2).unwrap_or(0),
        y: area.y + u16::try_from((usize::from(area.height) - tall) / 2).unwrap_or(0),
        width: u16::try_from(wide).unwrap_or(area.width),
        height: u16::try_from(tall).unwrap_or(area.height),
    };
    Clear.render(place, buffer);
    let inner = wide.saturating_sub(2);
    let rule = |left: &str, right: &str, text: &str| {
        let text = cut(text, inner);
        format!("{left}{text}{}{right}", "─".repeat(inner - width(&text)))
    };
    let mut drawn = vec![pen.line(rule("┌", "┐", title), Tone::Title)];
    let rows = tall.saturating_sub(2);
    let first =
        if is_help { at.min(lines.len().saturating_sub(rows)) } else { (at + 1).saturating_sub(rows) };
    for (i, line) in lines.iter().enumerate().skip(first).take(rows) {
        let text = cut(&format!(" {line}"), inner);
        let text = format!("│{text}{}│", " ".repeat(inner - width(&text)));
        drawn.push(pen.line(text, if i == at && !is_help { Tone::Cursor } else { Tone::Plain }));
    }
    drawn.push(pen.line(rule("└", "┘", ""), Tone::Title));
    put(buffer, place, 0, place.height, &drawn);
}

/// Whether a key of that place is any good here.
fn applies(app: &App, place: Where) -> bool {
    match place {
        Where::All => true,
        Where::Table => app.screen == Screen::Table,
        Where::Live => !app.settings.replay,
        Where::Replay => app.settings.replay,
    }
}

fn help(app: &App) -> Vec<String> {
    let here = KEYS.iter().filter(|binding| binding.place == Where::Table || applies(app, binding.place));
    here.map(|binding| format!("{:<10}  {}", binding.names, binding.help)).collect()
}

fn sorts(app: &App) -> Vec<String> {
    let mark = |i| if i == app.settings.sort { '>' } else { ' ' };
    let columns = COLUMNS.iter().enumerate();
    columns.map(|(i, column)| format!("{} {:<11}  {}", mark(i), column.head.header, column.meaning)).collect()
}

fn columns(app: &App) -> Vec<String> {
    let mark = |i: usize| if app.hidden >> i & 1 == 0 { 'x' } else { ' ' };
    let columns = COLUMNS.iter().enumerate();
    columns
        .map(|(i, column)| format!("[{}] {:<11}  {}", mark(i), column.head.header, column.meaning))
        .collect()
}

/// The keys that have a word, as many as fit, and where the cursor is.
pub fn hints(app: &App, pen: Pen, room: usize) -> Line<'static> {
    let (at, of) = app.list.place();
    let place = if app.screen == Screen::Table { format!("{at}/{of}") } else { "Esc back".to_owned() };
    let mut spans = Vec::new();
    let mut left = room.saturating_sub(width(&place));
    for binding in KEYS.iter().filter(|binding| !binding.word.is_empty() && applies(app, binding.place)) {
        let key = binding.names.split(", ").next().unwrap_or_default();
        let Some(rest) = left.checked_sub(width(key) + width(binding.word) + 3) else { break };
        left = rest;
        spans.push(pen.span(key, Tone::Name));
        spans.push(pen.span(format!(" {}  ", binding.word), Tone::Plain));
    }
    spans.push(pen.span(" ".repeat(left), Tone::Plain));
    spans.push(pen.span(place, Tone::Faint));
    Line::from(spans)
}
