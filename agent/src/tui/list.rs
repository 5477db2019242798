//! The rows of the table: which are shown, in which order, and where the cursor is. Pure.
//!
//! Rows that ended stay for a while with their last figures, marked, so that nothing vanishes under the reader's eyes.

use std::{collections::HashSet, sync::Arc};

use super::{
    columns::{self, COLUMNS, Cell, Column},
    frame::Frame,
};
use crate::report::group::{Grouping, Row, RowKey, place};

/// Windows for which a row that ended stays.
const FADES: u8 = 5;

/// A row and how long ago it ended.
#[derive(Clone, Debug)]
pub struct Line {
    /// The row, in its last window.
    pub row: Arc<Row>,
    /// Windows since it was there last; 0: it is.
    pub gone: u8,
}

/// The rows.
#[derive(Default)]
pub struct List {
    lines: Vec<Line>,
    /// Those that pass the filter, in order.
    order: Vec<usize>,
    /// The row that the cursor is on; None: the first, whichever it is.
    selected: Option<RowKey>,
    cursor: usize,
    /// The first row on the screen.
    top: usize,
    /// Rows that fit on the screen.
    page: usize,
}

/// How the rows are put in order.
#[derive(Clone, Copy)]
pub struct Sorting<'a> {
    /// Place of the column.
    pub column: usize,
    /// The other way round.
    pub reverse: bool,
    /// What a row must contain; empty: anything.
    pub filter: &'a str,
    /// How rows are grouped.
    pub grouping: Grouping,
}

impl List {
    /// Takes the rows of a window in. `keep`: rows that are gone stay for a while.
    pub fn update(&mut self, rows: Vec<Arc<Row>>, keep: bool) {
        let here: HashSet<&RowKey> = rows.iter().map(|row| &row.key).collect();
        let mut gone: Vec<Line> = std::mem::take(&mut self.lines);
        gone.retain(|line| keep && line.gone < FADES && !here.contains(&line.row.key));
        for line in &mut gone {
            line.gone += 1;
            if line.gone == 1 {
                Arc::make_mut(&mut line.row).row.ended = true;
            }
        }
        drop(here);
        self.lines = rows.into_iter().map(|row| Line { row, gone: 0 }).collect();
        self.lines.extend(gone);
    }

    /// Puts the rows in order, and the cursor where its row is now.
    pub fn arrange(&mut self, sorting: Sorting, frame: &Frame) {
        let wanted = sorting.filter.to_lowercase();
        let lines = &self.lines;
        self.order = (0..lines.len())
            .filter(|i| lines.get(*i).is_some_and(|line| wanted.is_empty() || matches(&line.row, &wanted)))
            .collect();
        if let Some(column) = COLUMNS.get(sorting.column) {
            sort(&mut self.order, lines, column, sorting, frame);
        }
        if let Some(key) = &self.selected {
            match self.order.iter().position(|i| lines.get(*i).is_some_and(|line| line.row.key == *key)) {
                Some(at) => self.cursor = at,
                None => self.selected = None,
            }
        }
        self.scroll();
    }

    /// Moves the cursor by so many rows; it stays with the row that it then is on.
    pub fn step(&mut self, by: isize) {
        self.cursor = self.cursor.saturating_add_signed(by);
        self.scroll();
        self.selected = self.current().map(|line| line.row.key.clone());
    }

    /// Moves the cursor to a row on the screen; whether it was chosen already.
    pub fn select(&mut self, place: usize) -> bool {
        let to = self.top + place;
        if to >= self.order.len() {
            return false;
        }
        let was = self.selected.is_some() && self.cursor == to;
        self.cursor = to;
        self.step(0);
        was
    }

    /// To the first row, and back to following whichever is first.
    pub fn first(&mut self) {
        (self.cursor, self.selected) = (0, None);
        self.scroll();
    }

    /// To the last row.
    pub fn last(&mut self) {
        self.step(isize::MAX);
    }

    /// Says how many rows fit.
    pub fn set_page(&mut self, page: usize) {
        self.page = page.max(1);
        self.scroll();
    }

    /// Rows that fit.
    pub fn page(&self) -> usize {
        self.page
    }

    /// The row under the cursor.
    pub fn current(&self) -> Option<&Line> {
        self.lines.get(*self.order.get(self.cursor)?)
    }

    /// The row with a key.
    pub fn find(&self, key: &RowKey) -> Option<&Line> {
        self.lines.iter().find(|line| line.row.key == *key)
    }

    /// All rows, whether they are shown or not.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// All rows that pass the filter, in order.
    pub fn shown(&self) -> impl Iterator<Item = &Line> {
        self.order.iter().filter_map(|i| self.lines.get(*i))
    }

    /// The rows on the screen, and whether the cursor is on each.
    pub fn visible(&self) -> impl Iterator<Item = (&Line, bool)> {
        let lines = self.shown().enumerate().skip(self.top).take(self.page);
        lines.map(|(i, line)| (line, i == self.cursor))
    }

    /// Where the cursor is, from 1, and how many rows there are.
    pub fn place(&self) -> (usize, usize) {
        (self.order.len().min(self.cursor + 1), self.order.len())
    }

    /// Keeps the cursor among the rows, and on the screen.
    fn scroll(&mut self) {
        self.cursor = self.cursor.min(self.order.len().saturating_sub(1));
        self.top = self.top.min(self.order.len().saturating_sub(self.page));
        self.top = self.top.min(self.cursor).max((self.cursor + 1).saturating_sub(self.page));
    }
}

fn sort(order: &mut [usize], lines: &[Line], column: &Column, sorting: Sorting, frame: &Frame) {
    let cell = |i: &usize| {
        lines.get(*i).map(|line| Cell { row: &line.row, frame, grouping: sorting.grouping, trend: &[] })
    };
    order.sort_by(|a, b| match (cell(a), cell(b)) {
        (Some(a), Some(b)) if sorting.reverse => columns::compare(column, &b, &a),
        (Some(a), Some(b)) => columns::compare(column, &a, &b),
        _ => std::cmp::Ordering::Equal,
    });
}

/// Whether a row has the (lower-case) text in one of the fields by which people look for it.
fn matches(row: &Row, wanted: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(wanted);
    let ids = [row.key.pid, row.key.tid];
    has(&row.row.comm)
        || has(&row.key.host)
        || has(&row.row.thread)
        || has(place(&row.row))
        || has(row.row.mechanism.name())
        || ids.iter().any(|id| *id != 0 && id.to_string() == wanted)
}
