//! Epoll instances: who holds them, who waits, and what epoll_ctl did, summed over threads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::identity::Process;

use super::{Model, ThreadKey, Waitable, interest::InterestSet, shared::Listener, totals::CtlTotals};

/// An instance in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceWindow {
    /// A number of ours.
    pub number: u64,
    /// Threads that waited on it, or are waiting.
    pub waiters: usize,
    /// Processes that are known to hold it, with the descriptor that they used.
    pub holders: BTreeSet<(u32, i32)>,
    /// epoll_ctl calls, by whichever thread.
    pub ctl: CtlTotals,
    /// What it watches; None until that was read, or where nobody holds it any more.
    pub set: Option<Arc<InterestSet>>,
    /// Listening sockets that it and other instances watch, as far as the sets are known.
    pub listeners: Vec<Listener>,
}

impl InstanceWindow {
    /// An instance of which nothing else is known yet.
    pub fn new(number: u64, waiters: usize) -> Self {
        InstanceWindow {
            number,
            waiters,
            holders: BTreeSet::new(),
            ctl: CtlTotals::default(),
            set: None,
            listeners: Vec::new(),
        }
    }

    /// Notes that a process used it by a descriptor.
    pub fn hold(&mut self, tgid: u32, fd: i32) {
        self.holders.insert((tgid, fd));
    }
}

impl Model {
    /// What /proc said of each process that has a thread here; of two programs of one process, the newer.
    pub fn processes(&self) -> BTreeMap<u32, Arc<Process>> {
        let mut threads: Vec<_> = self.threads.iter().collect();
        threads.sort_unstable_by_key(|(key, _)| key.born_ns);
        threads.into_iter().map(|(_, thread)| (thread.tgid, Arc::clone(&thread.process))).collect()
    }

    /// Every instance that was waited on or changed.
    pub(super) fn instances(
        &self,
        waiters: &HashMap<Waitable, HashSet<ThreadKey>>,
        holders: &HashMap<(u32, i32), Waitable>,
    ) -> Vec<InstanceWindow> {
        let mut instances: BTreeMap<u64, InstanceWindow> = self
            .numbers
            .iter()
            .map(|(waitable, number)| {
                let waiters = waiters.get(waitable).map_or(0, HashSet::len);
                (*number, InstanceWindow::new(*number, waiters))
            })
            .collect();
        for ((_, waitable), state) in &self.ctls {
            if let Some(instance) = self.numbers.get(waitable).and_then(|number| instances.get_mut(number)) {
                instance.ctl.merge(&state.totals.since(&state.base));
            }
        }
        for (waitable, set) in self.sets.iter().flatten() {
            if let Some(instance) = self.numbers.get(waitable).and_then(|number| instances.get_mut(number)) {
                instance.holders.extend(&set.holders);
                instance.set = Some(Arc::clone(set));
            }
        }
        for ((tgid, fd), waitable) in holders {
            if let Some(instance) = self.numbers.get(waitable).and_then(|number| instances.get_mut(number)) {
                instance.hold(*tgid, *fd);
            }
        }
        instances.into_values().collect()
    }

    /// What each descriptor of a process was last seen to mean: of several instances, the newest.
    pub(super) fn holders(&self) -> HashMap<(u32, i32), Waitable> {
        let loops = self.loops.iter().filter_map(|((key, waitable), state)| {
            let thread = self.threads.get(key)?;
            (!thread.ended && !state.closed()).then_some((thread.tgid, state.fd(), *waitable))
        });
        let ctls = self.ctls.iter().filter_map(|((_, waitable), state)| {
            let closed = state.ended || state.raw.is_some_and(|raw| raw.closed != 0);
            (!closed).then_some((state.tgid, state.fd, *waitable))
        });
        let mut holders: HashMap<(u32, i32), Waitable> = HashMap::new();
        for (tgid, fd, waitable) in
            loops.chain(ctls).filter(|(_, fd, waitable)| *fd >= 0 && waitable.is_object())
        {
            let held = holders.entry((tgid, fd)).or_insert(waitable);
            if waitable.generation > held.generation {
                *held = waitable;
            }
        }
        holders
    }
}
