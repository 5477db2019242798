//! What top shows, as a function of the keys and the windows that came: no terminal, no clock, no probes.
//!
//! Keys give an [`Action`] where something beyond this state has to be done. Drawing only reads what is here.

use std::time::Duration;

use super::{
    columns,
    frame::Frame,
    history::History,
    input::Key,
    keys::{self, Command},
    list::{Line, List, Sorting},
    player::Progress,
    typing::{edit, moved},
};
use crate::report::{
    document::Lost,
    group::{Grouping, RowKey},
};

/// Lengths of a window that `+` and `-` go through.
const INTERVALS: [Duration; 7] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// Rows that a notch of the mouse wheel goes over.
const WHEEL: usize = 3;

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Screen {
    /// All rows.
    Table,
    /// One row in full, scrolled by so many lines.
    Detail {
        /// Which.
        key: RowKey,
        /// The first line that is shown.
        scroll: usize,
    },
}

/// What lies over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Popup {
    /// The keys, from that line on.
    Help(usize),
    /// The columns to sort by, and the cursor.
    Sort(usize),
    /// The columns to show, and the cursor.
    Columns(usize),
    /// The filter is being typed; what it was before.
    Filter(String),
    /// A time is being typed.
    Seek(String),
}

/// What lies under the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// A row of the table: its place on the screen.
    Row(usize),
    /// The head of a column.
    Head(usize),
}

/// What has to be done beside the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// End.
    Quit,
    /// Stop this process, and come back.
    Suspend,
    /// Draw every cell anew.
    Redraw,
    /// Windows are that long from now on.
    Interval(Duration),
    /// For the replay.
    Replay(Command),
    /// Go to a time of the recording, as it was typed.
    Seek(String),
}

/// The settings that the command line gives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of a window.
    pub interval: Duration,
    /// Place of the column to sort by.
    pub sort: usize,
    /// How rows are put together.
    pub grouping: Grouping,
    /// Whether a recording is replayed.
    pub replay: bool,
    /// Rows are of many hosts.
    pub fleet: bool,
    /// Whose the probes are, as the header calls them.
    pub source: String,
}

/// The state.
pub struct App {
    /// What is shown.
    pub screen: Screen,
    /// What lies over it.
    pub popup: Option<Popup>,
    /// Settings that keys change.
    pub settings: Settings,
    /// The order is reversed.
    pub reverse: bool,
    /// What rows must contain.
    pub filter: String,
    /// Bit i: column i is not wanted.
    pub hidden: u32,
    /// New windows are not shown.
    pub frozen: bool,
    /// What was lost since the start.
    pub lost: Lost,
    /// How far a replay is.
    pub progress: Option<Progress>,
    /// What went wrong with the last key; shown until the next one.
    pub notice: Option<String>,
    /// Why what is shown is old: the server's latest answer was none.
    pub old: Option<String>,
    /// The rows.
    pub list: List,
    /// The windows before.
    pub history: History,
    frame: Option<Frame>,
    /// The latest window, while another one is frozen on the screen.
    latest: Option<Frame>,
}

impl App {
    /// A state that has seen nothing.
    pub fn new(settings: Settings) -> App {
        let hidden = columns::hidden(settings.fleet);
        App {
            screen: Screen::Table,
            popup: None,
            settings,
            reverse: false,
            filter: String::new(),
            hidden,
            frozen: false,
            lost: Lost::default(),
            progress: None,
            notice: None,
            old: None,
            list: List::default(),
            history: History::default(),
            frame: None,
            latest: None,
        }
    }

    /// The window that is shown.
    pub fn frame(&self) -> Option<&Frame> {
        self.frame.as_ref()
    }

    /// The row that is shown in full.
    pub fn detail(&self) -> Option<&Line> {
        match &self.screen {
            Screen::Detail { key, .. } => self.list.find(key),
            Screen::Table => None,
        }
    }

    /// Rows of the table that fit on the screen.
    pub fn set_page(&mut self, page: usize) {
        self.list.set_page(page);
    }

    /// Takes a window in.
    pub fn on_frame(&mut self, frame: Frame) {
        self.lost = self.lost.plus(frame.head.lost);
        self.old = None;
        if self.frozen {
            self.latest = Some(frame);
        } else {
            self.show(frame, true);
        }
    }

    /// The server gave no answer: what is shown stays, and is old.
    pub fn on_failure(&mut self, why: String) {
        for frame in [&mut self.frame, &mut self.latest].into_iter().flatten() {
            if let Some(answer) = &mut frame.fleet {
                answer.document.error = Some(why.clone());
            }
        }
        self.old = Some(why);
    }

    /// The replay went elsewhere: what was before is no past of what comes.
    pub fn on_jump(&mut self) {
        self.history.clear();
        self.list.update(Vec::new(), false);
        self.lost = Lost::default();
    }

    /// Shows a window. `follows`: it is the next one of the same rows.
    fn show(&mut self, frame: Frame, follows: bool) {
        let rows = frame.rows(self.settings.grouping);
        if follows {
            self.history.add(&rows);
        }
        self.list.update(rows, follows);
        self.frame = Some(frame);
        self.arrange();
    }

    fn arrange(&mut self) {
        let sorting = Sorting {
            column: self.settings.sort,
            reverse: self.reverse,
            filter: &self.filter,
            grouping: self.settings.grouping,
        };
        if let Some(frame) = &self.frame {
            self.list.arrange(sorting, frame);
        }
    }

    /// Takes a key in.
    pub fn on_key(&mut self, key: Key) -> Action {
        self.notice = None;
        match key {
            Key::Ctrl('c') => return Action::Quit,
            Key::WheelUp | Key::WheelDown => {
                let key = if key == Key::WheelUp { Key::Up } else { Key::Down };
                return (0..WHEEL).map(|_| self.on_key(key)).last().unwrap_or(Action::None);
            }
            _ => {}
        }
        match self.popup.take() {
            Some(Popup::Filter(before)) => self.type_filter(before, key),
            Some(Popup::Seek(text)) => self.type_seek(text, key),
            Some(Popup::Sort(at)) => self.choose_sort(at, key),
            Some(Popup::Columns(at)) => self.choose_columns(at, key),
            Some(Popup::Help(line)) => self.read_help(line, key),
            None => self.run(key),
        }
    }

    /// Takes a click in.
    pub fn on_hit(&mut self, hit: Hit) {
        match hit {
            Hit::Row(place) => {
                if self.list.select(place) {
                    self.open();
                }
            }
            Hit::Head(column) => {
                self.reverse = column == self.settings.sort && !self.reverse;
                self.settings.sort = column;
                self.arrange();
            }
        }
    }

    fn run(&mut self, key: Key) -> Action {
        let in_table = self.screen == Screen::Table;
        let Some(command) = keys::command(key, in_table, self.settings.replay) else { return Action::None };
        match command {
            Command::Quit => return Action::Quit,
            Command::Suspend => return Action::Suspend,
            Command::Redraw => return Action::Redraw,
            Command::Help => self.popup = Some(Popup::Help(0)),
            Command::Open => self.open(),
            Command::Back => self.back(),
            Command::Filter => self.popup = Some(Popup::Filter(self.filter.clone())),
            Command::Sort => self.popup = Some(Popup::Sort(self.settings.sort)),
            Command::Columns => self.popup = Some(Popup::Columns(0)),
            Command::Seek => self.popup = Some(Popup::Seek(String::new())),
            Command::Reverse => {
                self.reverse = !self.reverse;
                self.arrange();
            }
            Command::Freeze => self.freeze(),
            Command::Group => self.group(),
            Command::Slower => return self.interval(1),
            Command::Faster => return self.interval(-1),
            Command::Up => self.step(-1),
            Command::Down => self.step(1),
            Command::PageUp => self.step(-self.page()),
            Command::PageDown => self.step(self.page()),
            Command::First => self.first(),
            Command::Last => self.step(isize::MAX),
            Command::Pause
            | Command::StepOn
            | Command::StepBack
            | Command::HalfSpeed
            | Command::DoubleSpeed
            | Command::Rewind
            | Command::Forward => return Action::Replay(command),
        }
        Action::None
    }

    fn page(&self) -> isize {
        isize::try_from(self.list.page()).unwrap_or(isize::MAX)
    }

    fn step(&mut self, by: isize) {
        match &mut self.screen {
            Screen::Table => self.list.step(by),
            Screen::Detail { scroll, .. } => {
                *scroll = scroll.saturating_add_signed(by).min(usize::from(u16::MAX))
            }
        }
    }

    fn first(&mut self) {
        match &mut self.screen {
            Screen::Table => self.list.first(),
            Screen::Detail { scroll, .. } => *scroll = 0,
        }
    }

    fn open(&mut self) {
        if let Some(line) = self.list.current() {
            let key = line.row.key.clone();
            // From now on the cursor stays with this row, so that the way back leads to it.
            self.list.step(0);
            self.screen = Screen::Detail { key, scroll: 0 };
        }
    }

    fn back(&mut self) {
        if self.screen == Screen::Table {
            self.filter.clear();
            self.arrange();
        }
        self.screen = Screen::Table;
    }

    fn freeze(&mut self) {
        self.frozen = !self.frozen;
        if let Some(latest) = self.latest.take()
            && !self.frozen
        {
            self.show(latest, true);
        }
    }

    fn group(&mut self) {
        if self.settings.fleet {
            self.notice = Some("rows are what the agents group by: their --group-by".to_owned());
            return;
        }
        self.settings.grouping = self.settings.grouping.next();
        self.history.clear();
        self.list.first();
        if let Some(frame) = self.frame.take() {
            self.show(frame, false);
        }
    }

    fn interval(&mut self, by: isize) -> Action {
        let at = INTERVALS.iter().position(|interval| *interval >= self.settings.interval);
        let next = at.unwrap_or(INTERVALS.len()).saturating_add_signed(by).min(INTERVALS.len() - 1);
        if let Some(interval) = INTERVALS.get(next) {
            self.settings.interval = *interval;
        }
        Action::Interval(self.settings.interval)
    }

    fn type_filter(&mut self, before: String, key: Key) -> Action {
        match key {
            Key::Enter => return Action::None,
            Key::Esc => {
                self.filter = before;
                self.arrange();
                return Action::None;
            }
            Key::Up => self.list.step(-1),
            Key::Down => self.list.step(1),
            key => {
                edit(&mut self.filter, key);
                self.arrange();
            }
        }
        self.popup = Some(Popup::Filter(before));
        Action::None
    }

    fn type_seek(&mut self, mut text: String, key: Key) -> Action {
        match key {
            Key::Enter => return Action::Seek(text),
            Key::Esc => return Action::None,
            key => edit(&mut text, key),
        }
        self.popup = Some(Popup::Seek(text));
        Action::None
    }

    fn choose_sort(&mut self, at: usize, key: Key) -> Action {
        match key {
            Key::Enter => {
                self.settings.sort = at;
                self.reverse = false;
                self.arrange();
            }
            Key::Esc | Key::Char('q' | 's') => {}
            key => self.popup = Some(Popup::Sort(moved(at, key, columns::COLUMNS.len()))),
        }
        Action::None
    }

    fn choose_columns(&mut self, at: usize, key: Key) -> Action {
        match key {
            Key::Esc | Key::Char('q' | 'c') => {}
            Key::Enter | Key::Char(' ') => {
                // Without a name a row is nobody's.
                if at != columns::NAME {
                    self.hidden ^= 1 << at;
                }
                self.popup = Some(Popup::Columns(at));
            }
            key => self.popup = Some(Popup::Columns(moved(at, key, columns::COLUMNS.len()))),
        }
        Action::None
    }

    fn read_help(&mut self, line: usize, key: Key) -> Action {
        match key {
            Key::Esc | Key::Enter | Key::Char('q' | '?' | 'h') => {}
            key => self.popup = Some(Popup::Help(moved(line, key, keys::KEYS.len()))),
        }
        Action::None
    }
}
