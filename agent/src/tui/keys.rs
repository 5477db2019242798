//! What each key does: one table, from which keys are looked up and the help and the footer are made.

use super::input::Key;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// End.
    Quit,
    /// Stop, as a shell's Ctrl-Z does.
    Suspend,
    /// One row up or down.
    Up,
    /// As above.
    Down,
    /// A page up or down.
    PageUp,
    /// As above.
    PageDown,
    /// The first or last row.
    First,
    /// As above.
    Last,
    /// Show one row in full.
    Open,
    /// Back to where this was opened.
    Back,
    /// Type a filter.
    Filter,
    /// Choose a column to sort by.
    Sort,
    /// Reverse the order.
    Reverse,
    /// Stop showing new windows, and go on.
    Freeze,
    /// Longer windows.
    Slower,
    /// Shorter windows.
    Faster,
    /// Put rows together otherwise.
    Group,
    /// Choose columns.
    Columns,
    /// Show the keys.
    Help,
    /// Draw everything anew.
    Redraw,
    /// Replay: stop and go on.
    Pause,
    /// Replay: a window on.
    StepOn,
    /// Replay: a window back.
    StepBack,
    /// Replay: half the speed.
    HalfSpeed,
    /// Replay: twice the speed.
    DoubleSpeed,
    /// Replay: ten windows back.
    Rewind,
    /// Replay: ten windows on.
    Forward,
    /// Replay: type a time.
    Seek,
}

/// Where a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Wherever nothing is being typed.
    All,
    /// In the table of loops.
    Table,
    /// While watching, not in a replay.
    Live,
    /// In a replay.
    Replay,
}

/// A row of the table.
pub struct Binding {
    /// The keys.
    pub keys: &'static [Key],
    /// Their names.
    pub names: &'static str,
    /// What they do, in the help.
    pub help: &'static str,
    /// A word for the footer; empty where it is not named there.
    pub word: &'static str,
    /// What they do.
    pub command: Command,
    /// Where.
    pub place: Where,
}

const fn bind(
    keys: &'static [Key],
    names: &'static str,
    command: Command,
    place: Where,
    word: &'static str,
    help: &'static str,
) -> Binding {
    Binding { keys, names, help, word, command, place }
}

/// Every key, in the order of the help. Of the footer, the first ones stay where there is little room.
pub const KEYS: [Binding; 29] = [
    bind(&[Key::Char('q'), Key::Ctrl('c')], "q, Ctrl-C", Command::Quit, Where::All, "quit", "quit"),
    bind(
        &[Key::Char('?'), Key::Char('h')],
        "?, h",
        Command::Help,
        Where::All,
        "help",
        "show or hide this help",
    ),
    bind(&[Key::Enter], "Enter", Command::Open, Where::Table, "open", "show all about a row"),
    bind(
        &[Key::Esc, Key::Backspace],
        "Esc",
        Command::Back,
        Where::All,
        "",
        "back; in the table: drop the filter",
    ),
    // Where it was clicked decides what is done: see `draw::hit`.
    bind(
        &[],
        "click",
        Command::Open,
        Where::Table,
        "",
        "choose a row, or open the chosen one; on a head, sort by it",
    ),
    bind(
        &[Key::Char('/')],
        "/",
        Command::Filter,
        Where::Table,
        "filter",
        "filter by name, pid, container or mechanism, as you type",
    ),
    bind(&[Key::Char('s')], "s", Command::Sort, Where::Table, "sort", "choose the column to sort by"),
    bind(&[Key::Char('r')], "r", Command::Reverse, Where::Table, "reverse", "reverse the order"),
    bind(
        &[Key::Char('g')],
        "g",
        Command::Group,
        Where::Table,
        "group",
        "rows are threads, processes, containers",
    ),
    bind(&[Key::Char('c')], "c", Command::Columns, Where::Table, "columns", "choose the columns"),
    bind(
        &[Key::Char('f')],
        "f",
        Command::Freeze,
        Where::All,
        "freeze",
        "hold what is shown; watching goes on",
    ),
    bind(&[Key::Char('+'), Key::Char('=')], "+", Command::Slower, Where::Live, "slower", "longer windows"),
    bind(&[Key::Char('-')], "-", Command::Faster, Where::Live, "faster", "shorter windows"),
    bind(&[Key::Up, Key::Char('k')], "Up, k, wheel", Command::Up, Where::All, "", "a row up"),
    bind(&[Key::Down, Key::Char('j')], "Down, j", Command::Down, Where::All, "", "a row down"),
    bind(&[Key::PageUp, Key::Ctrl('b')], "PgUp", Command::PageUp, Where::All, "", "a page up"),
    bind(&[Key::PageDown, Key::Ctrl('f')], "PgDn", Command::PageDown, Where::All, "", "a page down"),
    bind(&[Key::Home], "Home", Command::First, Where::All, "", "the first row"),
    bind(&[Key::End, Key::Char('G')], "End, G", Command::Last, Where::All, "", "the last row"),
    bind(&[Key::Ctrl('z')], "Ctrl-Z", Command::Suspend, Where::All, "", "stop; fg brings it back"),
    bind(&[Key::Char(' ')], "Space", Command::Pause, Where::Replay, "pause", "replay: pause, go on"),
    bind(&[Key::Char('.')], ".", Command::StepOn, Where::Replay, "step", "replay: a window on"),
    bind(&[Key::Char(',')], ",", Command::StepBack, Where::Replay, "back", "replay: a window back"),
    bind(&[Key::Char('[')], "[", Command::HalfSpeed, Where::Replay, "slower", "replay: half the speed"),
    bind(&[Key::Char(']')], "]", Command::DoubleSpeed, Where::Replay, "faster", "replay: twice the speed"),
    bind(&[Key::Left], "Left", Command::Rewind, Where::Replay, "", "replay: ten windows back"),
    bind(&[Key::Right], "Right", Command::Forward, Where::Replay, "", "replay: ten windows on"),
    bind(
        &[Key::Char('t')],
        "t",
        Command::Seek,
        Where::Replay,
        "time",
        "replay: go to a time, such as 90s from the start or 12:03:00",
    ),
    bind(&[Key::Ctrl('l')], "Ctrl-L", Command::Redraw, Where::All, "", "draw the screen anew"),
];

/// What `key` does where the table, or a row, is shown, and a recording is replayed or not.
pub fn command(key: Key, in_table: bool, replay: bool) -> Option<Command> {
    let works = |binding: &&Binding| match binding.place {
        Where::All => true,
        Where::Table => in_table,
        Where::Live => !replay,
        Where::Replay => replay,
    };
    KEYS.iter().filter(works).find(|binding| binding.keys.contains(&key)).map(|binding| binding.command)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_has_two_meanings_in_one_place() {
        for (in_table, replay) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut seen = HashSet::new();
            let here = KEYS.iter().filter(|binding| match binding.place {
                Where::All => true,
                Where::Table => in_table,
                Where::Live => !replay,
                Where::Replay => replay,
            });
            for binding in here {
                for key in binding.keys {
                    assert!(seen.insert(*key), "{key:?}");
                    assert_eq!(command(*key, in_table, replay), Some(binding.command));
                }
            }
        }
    }

    #[test]
    fn every_key_is_explained() {
        assert!(KEYS.iter().all(|binding| !binding.help.is_empty() && !binding.names.is_empty()));
    }
}
