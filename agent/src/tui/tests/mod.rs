//! Top without a terminal: what keys do, and every screen in four sizes against snapshot files.
//!
//! After a change that is meant, look at the new files (`.snap.new`) and rename them.

mod keys;
mod screens;
mod world;

use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend};

use super::{
    app::{Action, App, Settings},
    columns::UTIL,
    draw,
    input::Key,
    theme::Theme,
};
use crate::report::group::Grouping;

fn app() -> App {
    App::new(Settings {
        interval: Duration::from_secs(1),
        sort: UTIL,
        grouping: Grouping::Thread,
        replay: false,
        fleet: false,
        source: "own".to_owned(),
    })
}

/// Types letters.
fn type_in(app: &mut App, text: &str) {
    for c in text.chars() {
        assert_eq!(app.on_key(Key::Char(c)), Action::None, "{c}");
    }
}

/// The screen as text; colours and attributes are left out.
fn screen(app: &mut App, width: u16, height: u16) -> String {
    app.set_page(draw::page(height));
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(app, Theme { color: true }, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide character has an empty cell behind it.
            x += u16::try_from(crate::report::text::width(symbol)).unwrap().max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
