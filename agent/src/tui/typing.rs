//! What keys make of a text that is typed, and of a cursor in a list. Pure.

use super::input::Key;

/// What a key makes of a text that is typed.
pub fn edit(text: &mut String, key: Key) {
    match key {
        Key::Char(c) if text.chars().count() < 64 => text.push(c),
        Key::Backspace => drop(text.pop()),
        Key::Ctrl('u') => text.clear(),
        _ => {}
    }
}

/// Where a cursor in a list of `count` goes.
pub fn moved(at: usize, key: Key, count: usize) -> usize {
    let to = match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at + 1,
        Key::PageUp => at.saturating_sub(10),
        Key::PageDown => at + 10,
        Key::Home => 0,
        Key::End => count,
        _ => at,
    };
    to.min(count.saturating_sub(1))
}
