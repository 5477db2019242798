//! Sums per group of loops, from the windows of the model. They never fall: what a thread did stays when it ends.
//!
//! Each window is added once and whole, so windows must follow one another without a gap: sample, window, add,
//! begin. The number of groups is bounded, whatever the host's processes do: see [`Groups`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use loopscope_probe::{ctl_errno, ctl_op, mechanism};

use super::grouping::{Grouping, Key, Who};
use crate::{
    model::{
        CtlTotals, LoopWindow, Now, Window,
        interest::{InterestSet, Watched},
        totals::{Packed, Totals},
    },
    report::build::{self, EVENT_BYTES},
};

/// How long a group keeps its series after its last thread ended: several scrapes have to see what it did last, and a
/// server that is restarted goes on in the same series.
pub const LINGER: Duration = Duration::from_secs(300);

/// Groups without series whose sums are kept, for the case that they come back. Some 1 KB each.
const KEPT: usize = 1_000;

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
    /// CLOCK_MONOTONIC of the last window with a thread of it, ns.
    seen_ns: u64,
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
    /// Entries of the instances' interest sets, by [`TRIGGERS`]; None until they were read.
    pub watched: Option<[u64; TRIGGERS.len()]>,
    /// Of those, the stale ones.
    pub stale: u64,
    /// Listening sockets that several instances watch: the group's instances among them, and the greatest part of the
    /// events of all of them that one delivered.
    pub listeners: BTreeMap<String, (BTreeSet<u64>, Option<f64>)>,
}

/// The sorts of entries of an interest set; the first two are all of them.
pub const TRIGGERS: [&str; 4] = ["level", "edge", "oneshot", "exclusive"];

impl Current {
    /// Adds what an instance watches.
    fn watch(&mut self, watched: &Watched) {
        let Watched { level, edge, oneshot, exclusive, stale, .. } = *watched;
        let sums = self.watched.get_or_insert_default();
        sums.iter_mut().zip([level, edge, oneshot, exclusive]).for_each(|(sum, count)| *sum += count);
        self.stale += stale;
    }
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

    /// Requests that rings took, and completions for which they had no room; None where there are no rings.
    pub fn rings(&self) -> Option<[u64; 2]> {
        (self.mechanism as usize == mechanism::IO_URING).then_some(self.totals.bytes)
    }

    /// Bytes that the kernel copied in and out.
    pub fn copied(&self) -> [u64; 2] {
        let [waits_in, waits_out] = build::copied(self.mechanism, &self.totals);
        let ctl = if self.is_epoll() { ctl_events(&self.ctl) * EVENT_BYTES } else { 0 };
        [ctl + waits_in, waits_out]
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

/// The sums of a group that has no series at present.
struct Kept {
    totals: Packed,
    ctl: CtlTotals,
    times_ns: Option<[u64; 2]>,
    seen_ns: u64,
}

/// All groups.
///
/// A group that has series keeps them until [`LINGER`] after its end; then its sums are kept for a while, and if it
/// comes back it goes on from there. Where there is no room for it, what it does meanwhile is added to the group
/// [`OTHER`](super::grouping::OTHER), and stays there.
pub struct Groups {
    grouping: Grouping,
    shown: BTreeMap<Key, Group>,
    others: BTreeMap<Key, Group>,
    kept: BTreeMap<Key, Kept>,
    /// Groups that found no room, in the last window and in this one.
    folded: [HashSet<Key>; 2],
    folded_total: u64,
    now_ns: u64,
}

impl Groups {
    /// No group yet.
    pub fn new(grouping: Grouping) -> Groups {
        Groups {
            grouping,
            shown: BTreeMap::new(),
            others: BTreeMap::new(),
            kept: BTreeMap::new(),
            folded: Default::default(),
            folded_total: 0,
            now_ns: 0,
        }
    }

    /// Adds a window. The next one to be added must begin where this one ends.
    pub fn add<T: Into<Totals>>(&mut self, window: Window<LoopWindow<T>>) {
        self.now_ns = window.now_ns;
        self.end();
        for group in self.shown.values_mut().chain(self.others.values_mut()) {
            group.now = Current::default();
        }
        // Each instance counts once, in the group of the first of those that wait on it.
        let sets =
            window.instances.iter().filter_map(|instance| Some((instance.number, instance.set.as_deref()?)));
        let mut sets: HashMap<u64, &InterestSet> = sets.collect();
        for looped in window.loops {
            let set = looped.instance.filter(|_| !looped.ended).and_then(|number| sets.remove(&number));
            if let Some(group) = self.group(&Who::from(&looped)) {
                group.add(looped.with(T::into));
                if let Some(set) = set {
                    group.now.watch(&set.watched());
                }
            }
        }
        for ctl in window.ctls {
            if let Some(group) = self.group(&Who::from(&ctl)) {
                group.ctl.merge(&ctl.totals);
            }
        }
        let [last, now] = &mut self.folded;
        std::mem::swap(last, now);
        now.clear();
    }

    /// Every group that has series, in the order of its labels; the others last.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Group)> {
        self.shown.iter().chain(&self.others)
    }

    /// Names of the labels of a group, in the order of [`Key::labels`].
    pub fn labels(&self) -> impl Iterator<Item = &'static str> {
        self.grouping.by.labels().iter().copied().chain(["mechanism"])
    }

    /// Groups that have series of their own.
    pub fn shown(&self) -> usize {
        self.shown.len()
    }

    /// How many may have.
    pub fn most(&self) -> usize {
        self.grouping.most
    }

    /// How often a group was added to the others because there was no room for it.
    pub fn folded(&self) -> u64 {
        self.folded_total
    }

    /// Applies other globs, another age and another number from now on. What groups are made by and the length of
    /// their labels stay: with others, every series would end.
    pub fn regroup(&mut self, grouping: Grouping) {
        self.grouping = Grouping { by: self.grouping.by, length: self.grouping.length, ..grouping };
        let grouping = &self.grouping;
        let refused: Vec<Key> = self.shown.keys().filter(|key| !grouping.takes(key)).cloned().collect();
        refused.into_iter().for_each(|key| self.keep(key));
    }

    /// The group that counts what a thread does; None where a glob leaves it out.
    fn group(&mut self, who: &Who<'_>) -> Option<&mut Group> {
        let key = self.grouping.key(who);
        let group = if self.shown.contains_key(&key) {
            self.shown.entry(key).or_default()
        } else if !self.grouping.takes(&key) {
            return None;
        } else if !self.grouping.is_of_age(who, self.now_ns) {
            self.others.entry(self.grouping.other(who.mechanism)).or_default()
        } else if self.shown.len() >= self.grouping.most {
            self.fold(key);
            self.others.entry(self.grouping.other(who.mechanism)).or_default()
        } else {
            let group = self.kept.remove(&key).map(Group::from).unwrap_or_default();
            self.shown.entry(key).or_insert(group)
        };
        group.mechanism = who.mechanism;
        group.seen_ns = self.now_ns;
        Some(group)
    }

    /// Notes that there was no room for a group.
    fn fold(&mut self, key: Key) {
        let [last, now] = &mut self.folded;
        let is_new = !last.contains(&key);
        if now.insert(key) && is_new {
            self.folded_total += 1;
        }
    }

    /// Takes their series from those that have ended long enough ago.
    fn end(&mut self) {
        let least = self.now_ns.saturating_sub(LINGER.as_nanos() as u64);
        let ended: Vec<Key> = self
            .shown
            .iter()
            .filter(|(_, group)| group.seen_ns < least)
            .map(|(key, _)| key.clone())
            .collect();
        ended.into_iter().for_each(|key| self.keep(key));
    }

    /// Ends the series of a group, and keeps its sums; where there are too many, forgets what has been gone for longest.
    fn keep(&mut self, key: Key) {
        let Some(group) = self.shown.remove(&key) else { return };
        self.kept.insert(key, Kept::from(group));
        if self.kept.len() > KEPT
            && let Some(oldest) =
                self.kept.iter().min_by_key(|(_, kept)| kept.seen_ns).map(|(key, _)| key.clone())
        {
            self.kept.remove(&oldest);
        }
    }
}

impl From<Group> for Kept {
    fn from(group: Group) -> Kept {
        let Group { totals, ctl, times_ns, seen_ns, .. } = group;
        Kept { totals: totals.pack(), ctl, times_ns, seen_ns }
    }
}

impl From<Kept> for Group {
    fn from(kept: Kept) -> Group {
        let Kept { totals, ctl, times_ns, .. } = kept;
        Group { totals: totals.unpack(), ctl, times_ns, ..Group::default() }
    }
}
