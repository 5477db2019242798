//! Sums per group of loops, from the windows of the model. They never fall: what a thread did stays when it ends.
//!
//! Each window is added once and whole, so windows must follow one another without a gap: sample, window, add,
//! begin. Nothing here is per process or per thread, or the number of series would grow with them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use loopscope_probe::{ctl_errno, ctl_op, mechanism};

use crate::{
    model::{CtlTotals, LoopWindow, Now, Window, totals::Totals},
    report::build::EVENT_BYTES,
};

/// Names of the labels of a group, in the order of [`Key::labels`].
pub const LABELS: [&str; 2] = ["comm", "mechanism"];

/// The `comm` of the groups that have no series of their own.
pub const OTHER: &str = "~other";

/// Names of folded groups that are remembered; beyond it all are forgotten, and count once more when they come back.
const REMEMBERED: usize = 16_384;

/// Which group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Name of the process.
    pub comm: String,
    /// One of [`mechanism`].
    pub mechanism: u32,
}

impl Key {
    /// The values of [`LABELS`].
    pub fn labels(&self) -> [&str; 2] {
        [&self.comm, mechanism::NAMES.get(self.mechanism as usize).copied().unwrap_or("unknown")]
    }
}

/// Listening sockets that a group has series of at most.
const LISTENERS: usize = 64;

/// What the loops of a group did since the agent started, and are doing.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// One of [`mechanism`].
    pub mechanism: u32,
    /// Counts; busy times only of loops that no other thread shares.
    pub totals: Totals,
    /// epoll_ctl calls.
    pub ctl: CtlTotals,
    /// Time in waits and busy, ns, of loops that no other thread shares; None while there was none.
    pub times_ns: Option<[u64; 2]>,
    /// At the last sample.
    pub now: Current,
}

/// The state of a group at the last sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Current {
    /// Loops.
    pub loops: u64,
    /// Loops and other waiters.
    pub waiters: u64,
    /// Instances that several threads wait on, by number.
    pub shared: BTreeSet<u64>,
    /// For how long the loop has been busy that has been so for longest, ns.
    pub busy_ns: u64,
    /// Highest descriptor in the sets of select.
    pub highest_fd: Option<u32>,
    /// Listening sockets that several instances watch: the group's instances among them, and the greatest part of the
    /// events of all of them that one delivered.
    pub listeners: BTreeMap<String, (BTreeSet<u64>, Option<f64>)>,
}

impl Group {
    /// Whether its waits are on epoll instances.
    pub fn is_epoll(&self) -> bool {
        self.mechanism as usize == mechanism::EPOLL
    }

    /// Whether its waits take sets of descriptors.
    pub fn takes_sets(&self) -> bool {
        matches!(self.mechanism as usize, mechanism::POLL | mechanism::SELECT)
    }

    /// Bytes that the kernel copied in and out.
    pub fn copied(&self) -> [u64; 2] {
        if self.is_epoll() {
            [ctl_events(&self.ctl) * EVENT_BYTES, self.totals.events * EVENT_BYTES]
        } else {
            self.totals.bytes
        }
    }

    /// Adds a window of a loop.
    fn add(&mut self, mut looped: LoopWindow) {
        if looped.alone {
            let [wait, busy] = self.times_ns.get_or_insert_default();
            *wait += looped.times.wait_ns;
            *busy += looped.times.busy_ns;
        } else {
            looped.totals.busy.fill(0);
            looped.totals.busy_ns = 0;
        }
        self.totals.merge(&looped.totals);
        if looped.ended {
            return;
        }
        self.now.waiters += 1;
        self.now.loops += u64::from(looped.is_loop);
        self.now.highest_fd = self.now.highest_fd.max(looped.highest_fd);
        for listener in std::mem::take(&mut looped.listeners) {
            if self.now.listeners.len() < LISTENERS || self.now.listeners.contains_key(&listener.name) {
                let (loops, share) = self.now.listeners.entry(listener.name).or_default();
                loops.extend(looped.instance);
                *share = [*share, listener.events_share].into_iter().flatten().reduce(f64::max);
            }
        }
        if looped.on_instance && !looped.alone {
            self.now.shared.extend(looped.instance);
        }
        if let (Now::Busy(ns), true) = (looped.now, looped.alone) {
            self.now.busy_ns = self.now.busy_ns.max(ns);
        }
    }
}

/// epoll_ctl calls for which the kernel copied a `struct epoll_event` in: all but deletes and those whose copy failed
/// (fs/eventpoll.c, epoll_ctl).
fn ctl_events(ctl: &CtlTotals) -> u64 {
    let done = ctl.done.iter().zip(&ctl.errors).enumerate().filter(|(op, _)| *op != ctl_op::DEL);
    done.map(|(_, (done, errors))| {
        let copied = errors.iter().enumerate().filter(|(errno, _)| *errno != ctl_errno::EFAULT);
        done + copied.map(|(_, count)| count).sum::<u64>()
    })
    .sum()
}

/// All groups.
pub struct Groups {
    groups: BTreeMap<Key, Group>,
    most: usize,
    folded: HashSet<Key>,
    folded_total: u64,
}

impl Groups {
    /// No group yet, and at most `most` of them beside [`OTHER`].
    pub fn new(most: usize) -> Groups {
        Groups { groups: BTreeMap::new(), most, folded: HashSet::new(), folded_total: 0 }
    }

    /// Adds a window. The next one to be added must begin where this one ends.
    pub fn add(&mut self, window: Window) {
        for group in self.groups.values_mut() {
            group.now = Current::default();
        }
        for looped in window.loops {
            let key = Key { comm: looped.thread.comm.clone(), mechanism: looped.mechanism };
            self.group(key).add(looped);
        }
        for ctl in window.ctls {
            self.group(Key { comm: ctl.comm, mechanism: mechanism::EPOLL as u32 }).ctl.merge(&ctl.totals);
        }
    }

    /// Every group that has series, in the order of its labels.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Group)> {
        self.groups.iter()
    }

    /// Groups that were added to [`OTHER`] since the start.
    pub fn folded(&self) -> u64 {
        self.folded_total
    }

    /// The group of that name, or the one that takes what has no series.
    fn group(&mut self, key: Key) -> &mut Group {
        let is_full = || self.groups.keys().filter(|key| key.comm != OTHER).count() >= self.most;
        let key = if !self.groups.contains_key(&key) && is_full() { self.fold(key) } else { key };
        let mechanism = key.mechanism;
        self.groups.entry(key).or_insert_with(|| Group { mechanism, ..Group::default() })
    }

    /// The key of the group that takes what another one counts.
    fn fold(&mut self, key: Key) -> Key {
        let other = Key { comm: OTHER.to_owned(), mechanism: key.mechanism };
        if !self.folded.contains(&key) {
            if self.folded.len() >= REMEMBERED {
                self.folded.clear();
            }
            self.folded.insert(key);
            self.folded_total += 1;
        }
        other
    }
}
