//! What the rows did in the windows before: for sparklines and heat maps. Keeps figures, computes none.

use std::collections::{HashMap, VecDeque};

use crate::report::group::{Octaves, Row, RowKey};

/// Windows that are remembered.
pub const WINDOWS: usize = 120;

/// A row's latest windows, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Utilisation.
    pub utilization: VecDeque<Option<f64>>,
    /// Wait times.
    pub wait: VecDeque<Octaves>,
    /// Busy times.
    pub busy: VecDeque<Octaves>,
    /// The window in which it was last seen.
    seen: u64,
}

/// The past of all rows.
#[derive(Default)]
pub struct History {
    rows: HashMap<RowKey, Past>,
    window: u64,
}

/// Rows that keep heat maps: a figure of a row is one byte or two, a heat map some hundred per window.
const HEAT_ROWS: usize = 500;

impl History {
    /// Takes the rows of a window in; rows that were not seen for long are forgotten.
    pub fn add(&mut self, rows: &[Row]) {
        self.window += 1;
        for (i, row) in rows.iter().enumerate() {
            let past = match self.rows.get_mut(&row.key) {
                Some(past) => past,
                None => self.rows.entry(row.key.clone()).or_default(),
            };
            past.seen = self.window;
            push(&mut past.utilization, row.row.utilization);
            // The loops that work keep theirs, however many there are.
            if i < HEAT_ROWS || row.row.waits > 0 {
                push(&mut past.wait, row.wait.clone());
                push(&mut past.busy, row.busy.clone());
            }
        }
        let window = self.window;
        self.rows.retain(|_, past| past.seen + WINDOWS as u64 > window);
    }

    /// Forgets everything: rows are others now.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// A row's past.
    pub fn of(&self, key: &RowKey) -> Option<&Past> {
        self.rows.get(key)
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() >= WINDOWS {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_latest_windows_and_one_that_is_gone_for_long_is_forgotten() {
        let row = |pid| Row { key: RowKey { pid, ..RowKey::default() }, ..Row::default() };
        let mut history = History::default();
        history.add(&[row(1), row(2)]);
        for _ in 0..WINDOWS {
            history.add(&[row(1)]);
        }
        assert_eq!(history.of(&row(1).key).unwrap().utilization.len(), WINDOWS);
        assert!(history.of(&row(2).key).is_none());
        history.clear();
        assert!(history.of(&row(1).key).is_none());
    }
}
