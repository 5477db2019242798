//! What the rows did in the windows before: for sparklines and heat maps. Keeps figures, computes none.
//!
//! In little room: 2,000 loops over 120 windows are a quarter of a million figures and as many histograms.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::report::group::{Octaves, Row, RowKey};

/// Windows that are remembered.
pub const WINDOWS: usize = 120;

/// What stands for no utilisation.
const NONE: u8 = u8::MAX;
/// Steps of a utilisation: finer than any sparkline.
const STEPS: f64 = 200.0;

/// A row's latest windows, oldest first.
#[derive(Default)]
struct Past {
    utilization: VecDeque<u8>,
    wait: Heat,
    busy: Heat,
    /// The window in which it was last seen.
    seen: u64,
}

/// Histograms one after another, since most have one or two octaves: a box of its own for each would take four times the
/// room.
#[derive(Default)]
struct Heat {
    lengths: VecDeque<u8>,
    octaves: VecDeque<(u8, u16)>,
}

impl Heat {
    fn push(&mut self, octaves: &Octaves) {
        if self.lengths.len() >= WINDOWS {
            let first = self.lengths.pop_front().unwrap_or(0);
            self.octaves.drain(..usize::from(first).min(self.octaves.len()));
        }
        // As many as there are powers of two, which is 32.
        self.lengths.push_back(u8::try_from(octaves.len()).unwrap_or(0));
        // Shades are relative to the fullest octave, so that a count which is cut off at both loses nothing that shows.
        let most = octaves.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let scale = most.div_ceil(u64::from(u16::MAX)).max(1);
        let small = octaves
            .iter()
            .map(|(octave, count)| (*octave, u16::try_from(count.div_ceil(scale)).unwrap_or(u16::MAX)));
        self.octaves.extend(small);
    }

    fn windows(&self) -> Vec<Octaves> {
        let mut octaves = self.octaves.iter();
        let window = |length: &u8| {
            octaves
                .by_ref()
                .take(usize::from(*length))
                .map(|(octave, count)| (*octave, u64::from(*count)))
                .collect()
        };
        self.lengths.iter().map(window).collect()
    }
}

/// The past of all rows.
#[derive(Default)]
pub struct History {
    rows: HashMap<RowKey, Past>,
    window: u64,
}

impl History {
    /// Takes the rows of a window in; rows that were not seen for long are forgotten.
    pub fn add(&mut self, rows: &[Arc<Row>]) {
        self.window += 1;
        for row in rows {
            let past = match self.rows.get_mut(&row.key) {
                Some(past) => past,
                None => self.rows.entry(row.key.clone()).or_default(),
            };
            past.seen = self.window;
            if past.utilization.len() >= WINDOWS {
                past.utilization.pop_front();
            }
            past.utilization
                .push_back(row.row.utilization.map_or(NONE, |share| (share * STEPS).ceil() as u8));
            past.wait.push(&row.wait);
            past.busy.push(&row.busy);
        }
        let window = self.window;
        self.rows.retain(|_, past| past.seen + WINDOWS as u64 > window);
    }

    /// Forgets everything: rows are others now.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// A row's utilisation in the latest windows, oldest first.
    pub fn utilization(&self, key: &RowKey) -> Vec<Option<f64>> {
        let past = self.rows.get(key).into_iter().flat_map(|past| &past.utilization);
        past.map(|step| (*step != NONE).then(|| f64::from(*step) / STEPS)).collect()
    }

    /// Its wait times.
    pub fn wait(&self, key: &RowKey) -> Vec<Octaves> {
        self.rows.get(key).map(|past| past.wait.windows()).unwrap_or_default()
    }

    /// Its busy times.
    pub fn busy(&self, key: &RowKey) -> Vec<Octaves> {
        self.rows.get(key).map(|past| past.busy.windows()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: u32, octaves: &[(u8, u64)]) -> Arc<Row> {
        let key = RowKey { pid, ..RowKey::default() };
        Arc::new(Row { key, wait: octaves.into(), ..Row::default() })
    }

    #[test]
    fn a_row_keeps_its_latest_windows_and_one_that_is_gone_for_long_is_forgotten() {
        let mut history = History::default();
        history.add(&[row(1, &[]), row(2, &[])]);
        for i in 0..WINDOWS as u64 {
            history.add(&[row(1, if i % 2 == 0 { &[(3, 7), (9, 1)] } else { &[] })]);
        }
        let key = row(1, &[]).key.clone();
        assert_eq!(history.utilization(&key).len(), WINDOWS);
        let wait = history.wait(&key);
        assert_eq!((wait.len(), &*wait[0], &*wait[1]), (WINDOWS, &[(3, 7), (9, 1)][..], &[][..]));
        assert!(history.utilization(&row(2, &[]).key).is_empty());
        history.clear();
        assert!(history.wait(&key).is_empty());
    }

    #[test]
    fn great_counts_keep_their_shape() {
        let mut history = History::default();
        history.add(&[row(1, &[(1, 4_000_000), (2, 1_000_000), (3, 1)])]);
        let wait = history.wait(&row(1, &[]).key);
        assert_eq!(wait[0].iter().map(|(_, count)| *count > 0).filter(|kept| *kept).count(), 3);
        assert!(wait[0][0].1 > 3 * wait[0][1].1);
    }
}
