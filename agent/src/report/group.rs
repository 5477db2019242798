//! Loops put together by process or by container, and what a live view keeps of each: rows of the same type as the
//! report's, with the histograms behind them.
//!
//! Counts and histograms add up, so the quantiles of a group are those of all its waits. Nothing here formats.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use loopscope_probe::histogram::TIME_BUCKETS;

use super::{build, document::LoopRow, document::Mechanism};
use crate::model::{LoopWindow, Packed, Thread, Totals, histogram::time_bound};

/// Buckets of the histogram of times per power of two, which is what a heat map has rows for.
const PER_OCTAVE: usize = 4;
/// Powers of two that the histogram of times spans.
pub const OCTAVES: usize = TIME_BUCKETS / PER_OCTAVE;

/// By what loops are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Grouping {
    /// Not at all: a row per thread and waitable
    #[default]
    Thread,
    /// By process
    Process,
    /// By the name of the process: what two hosts, or two days, have in common
    #[value(skip)]
    Program,
    /// By container; outside of one by unit, else by control group
    Container,
}

impl Grouping {
    /// What rows are, in words.
    pub fn plural(self) -> &'static str {
        match self {
            Grouping::Thread => "threads",
            Grouping::Process => "processes",
            Grouping::Program => "programs",
            Grouping::Container => "containers",
        }
    }

    /// The one after it; after the last the first.
    #[must_use]
    pub fn next(self) -> Grouping {
        match self {
            Grouping::Thread => Grouping::Process,
            Grouping::Process => Grouping::Container,
            Grouping::Program | Grouping::Container => Grouping::Thread,
        }
    }
}

/// What a row stands for, the same from window to window.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The host, where rows are of many; else empty.
    pub host: String,
    /// Container, unit, control group or program; empty where rows are threads or processes.
    pub container: String,
    /// Process; 0 where rows are containers.
    pub pid: u32,
    /// Thread; 0 where rows are no threads.
    pub tid: u32,
    /// The waiting call.
    pub mechanism: Mechanism,
    /// Our number of the instance; 0 where there is none or rows are no threads.
    pub instance: u64,
}

/// How many times lay in each power of two: (number of the octave, count), those with a count alone.
pub type Octaves = Box<[(u8, u64)]>;

/// A row of a live view.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What it stands for.
    pub key: RowKey,
    /// Its figures.
    pub row: LoopRow,
    /// Wait times.
    pub wait: Octaves,
    /// Busy times.
    pub busy: Octaves,
    /// How many loops and waiters are in it.
    pub members: usize,
    /// What it does a second is not known.
    pub silent: bool,
}

/// A loop of one window: its row, and its figures in little room, for groups.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The row where rows are threads.
    pub row: Arc<Row>,
    looped: LoopWindow<Packed>,
}

impl Sample {
    /// From a loop in a window.
    pub fn new(looped: LoopWindow) -> Sample {
        let row = Arc::new(row(Grouping::Thread, 1, &looped));
        Sample { row, looped: looped.with(Totals::pack) }
    }

    /// The number of its instance, its waits and its events.
    pub fn done(&self) -> Option<(u64, [u64; 2])> {
        let row = &self.row.row;
        Some((row.instance?, [row.waits, row.events]))
    }
}

impl AsRef<Thread> for Sample {
    fn as_ref(&self) -> &Thread {
        &self.looped.thread
    }
}

/// Rows of the window, in no special order.
pub fn rows(samples: &[Sample], grouping: Grouping) -> Vec<Arc<Row>> {
    if grouping == Grouping::Thread {
        return samples.iter().map(|sample| Arc::clone(&sample.row)).collect();
    }
    let mut groups: BTreeMap<RowKey, (usize, LoopWindow<Totals>)> = BTreeMap::new();
    for sample in samples {
        let looped = sample.looped.clone().with(|packed| packed.unpack());
        match groups.entry(key(grouping, &sample.row.row)) {
            Entry::Occupied(mut group) => {
                let (members, group) = group.get_mut();
                *members += 1;
                group.merge(looped);
            }
            Entry::Vacant(place) => {
                place.insert((1, looped));
            }
        }
    }
    groups.into_values().map(|(members, group)| Arc::new(row(grouping, members, &group))).collect()
}

fn row(grouping: Grouping, members: usize, looped: &LoopWindow<Totals>) -> Row {
    let figures = build::loop_row(looped);
    let key = key(grouping, &figures);
    let busy = if looped.alone { octaves(&looped.totals.busy) } else { Octaves::default() };
    Row { key, row: figures, wait: octaves(&looped.totals.wait), busy, members, silent: false }
}

fn key(grouping: Grouping, row: &LoopRow) -> RowKey {
    let key = RowKey { mechanism: row.mechanism, ..RowKey::default() };
    match grouping {
        Grouping::Thread => RowKey { pid: row.pid, tid: row.tid, instance: row.instance.unwrap_or(0), ..key },
        Grouping::Process => RowKey { pid: row.pid, ..key },
        Grouping::Program => RowKey { container: row.comm.clone(), ..key },
        Grouping::Container => RowKey { container: place(row).to_owned(), ..key },
    }
}

/// Where a loop runs, by the most telling name that there is.
pub fn place(row: &LoopRow) -> &str {
    let names = [&row.container, &row.unit, &row.cgroup];
    names.into_iter().flatten().map(String::as_str).find(|name| !name.is_empty()).unwrap_or(&row.comm)
}

/// Upper bound of an octave, seconds.
pub fn octave_bound(octave: usize) -> f64 {
    time_bound(octave * PER_OCTAVE + PER_OCTAVE - 1)
}

fn octaves(buckets: &[u64; TIME_BUCKETS]) -> Octaves {
    (0_u8..)
        .zip(buckets.chunks(PER_OCTAVE).map(|octave| octave.iter().sum::<u64>()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests;
