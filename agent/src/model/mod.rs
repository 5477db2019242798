//! Records to what happened: the only place that computes differences, times and rates. Pure: no I/O, no clock.
//!
//! [`Model::apply`] takes the records of one pass together with those of the ring buffer; [`Model::begin`] starts a
//! window and [`Model::window`] shows it. A thread that ended stays until the next window begins.

pub mod costs;
mod ctl;
pub mod histogram;
pub mod hot;
mod instance;
pub mod interest;
mod loop_window;
mod looped;
pub mod shared;
pub mod sum;
pub mod totals;
mod waitable;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use loopscope_probe::{Counters, Head, Loop, Wait, reason};
use rustc_hash::FxHashMap;

use crate::{
    decode::{Lines, Record, interest::Holder, name},
    identity::Process,
};
use ctl::CtlState;
pub use ctl::CtlWindow;
pub use instance::InstanceWindow;
use interest::InterestSet;
pub use loop_window::LoopWindow;
use looped::LoopState;
pub use looped::{Largest, Now, Times};
use shared::SharedFile;
pub use totals::{CtlTotals, Packed, Totals};
use waitable::Waitable;

/// A thread's record: thread ids are reused, the time at which the record was made is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadKey {
    /// Thread id as the host counts.
    pub tid: u32,
    /// CLOCK_MONOTONIC ns of the record's making.
    pub born_ns: u64,
}

/// What is known of a thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Process id as the host counts.
    pub tgid: u32,
    /// Thread id as the host counts.
    pub tid: u32,
    /// Both names, as the kernel has them.
    names: ([u8; 16], [u8; 16]),
    /// Name of the process.
    pub comm: String,
    /// Name of the thread.
    pub thread: String,
    /// What /proc says of the process.
    pub process: Arc<Process>,
    /// The wait that it is in.
    wait: Wait,
    /// Sum of its wait times, ns.
    wait_ns: u64,
    /// The reader's window number of the last pass that showed it.
    latest_window: u64,
    /// The same of the last pass that showed what it did, and of the one before.
    read_window: u64,
    read_window_before: u64,
    /// CLOCK_MONOTONIC of the last record, ns.
    now_ns: u64,
    /// It ended, or executes another program.
    pub ended: bool,
}

/// A loop of a record.
#[derive(Clone, Copy)]
enum Slot<'a> {
    Whole(&'a Loop),
    Lines(&'a Lines),
}

impl Slot<'_> {
    /// What the waits of a process that it counts are on.
    fn of(&self, tgid: u32) -> Waitable {
        match self {
            Slot::Whole(raw) => Waitable::of(raw.waitable, raw.generation, raw.mechanism, tgid),
            Slot::Lines(lines) => Waitable::of(lines.waitable(), lines.generation(), lines.mechanism(), tgid),
        }
    }
}

/// Everything that was seen. Hashed without a secret: the keys are the kernel's.
#[derive(Default)]
pub struct Model {
    threads: FxHashMap<ThreadKey, Thread>,
    loops: FxHashMap<(ThreadKey, Waitable), LoopState>,
    ctls: FxHashMap<(ThreadKey, Waitable), CtlState>,
    /// Loops in parts that do not fit together; always 0 unless probe and agent disagree.
    damaged: u64,
    numbers: HashMap<Waitable, u64>,
    /// The last number that was given: none is given twice.
    last_number: u64,
    counters: Counters,
    base_counters: Counters,
    now_ns: u64,
    base_ns: u64,
    /// Whether the probes measure ready lists.
    backlog: bool,
    /// Interest sets, as they were last read; None until then.
    sets: Option<BTreeMap<Waitable, Arc<InterestSet>>>,
    /// Files of several of them that listen, with their addresses.
    listening: Vec<(String, SharedFile)>,
    /// As they were when [`Model::keep_interest`] was called.
    sets_before: Option<BTreeMap<Waitable, Arc<InterestSet>>>,
}

/// What happened in a window; `L` is what was made of each loop.
#[derive(Debug)]
pub struct Window<L = LoopWindow> {
    /// CLOCK_MONOTONIC of the last pass, ns.
    pub now_ns: u64,
    /// From the pass that began it to the last one, ns.
    pub duration_ns: u64,
    /// Loops and other waiters.
    pub loops: Vec<L>,
    /// Instances, by number.
    pub instances: Vec<InstanceWindow>,
    /// epoll_ctl calls by who made them; those of `instances` are the same calls.
    pub ctls: Vec<CtlWindow>,
    /// Runs and losses of the probes within the window.
    pub counters: Counters,
}

impl Model {
    /// Nothing is known yet. `backlog`: the probes measure ready lists.
    pub fn new(backlog: bool) -> Model {
        Model { backlog, ..Model::default() }
    }

    /// Takes in the records of a pass and of the ring buffer, in whatever order they came. `identify` says what
    /// /proc has on a process id; it is asked once for each new thread and each instance that a thread changes.
    pub fn apply(&mut self, mut records: Vec<Record>, identify: &mut dyn FnMut(u32) -> Arc<Process>) {
        // A thread's end may have been read before or after a copy of it that is older or newer.
        records.sort_by_key(|record| record.head().now_ns);
        for record in records {
            match record {
                Record::Born(head) => self.thread(&head, identify),
                Record::Loops(head, loops) => {
                    self.thread(&head, identify);
                    self.loops(&head, loops.iter().map(Slot::Whole));
                }
                Record::Lines(head, lines) => {
                    self.thread(&head, identify);
                    self.loops(&head, [Slot::Lines(&lines)].into_iter());
                }
                Record::Same(head) => {
                    self.thread(&head, identify);
                    self.loops(&head, [].into_iter());
                }
                Record::Ctls(head, ctls) => self.ctls(&head, &ctls, identify),
                Record::Counters(head, counters) => {
                    self.counters = *counters;
                    let last_pass_ns = std::mem::replace(&mut self.now_ns, head.now_ns);
                    self.end_missing(u64::from(head.window), last_pass_ns);
                }
            }
        }
    }

    /// Ends the threads that a whole pass has not shown although they are older than the pass before it: the record of
    /// their end was lost.
    fn end_missing(&mut self, window: u64, last_pass_ns: u64) {
        let mut gone = HashSet::new();
        for (key, thread) in &mut self.threads {
            if !thread.ended && thread.latest_window < window && key.born_ns < last_pass_ns {
                thread.ended = true;
                gone.insert(*key);
            }
        }
        if gone.is_empty() {
            return;
        }
        for ((key, waitable), state) in self.loops.iter_mut().filter(|((key, _), _)| gone.contains(key)) {
            if let Some(thread) = self.threads.get(key) {
                state.end(thread, *waitable);
            }
        }
        for (_, state) in self.ctls.iter_mut().filter(|((key, _), _)| gone.contains(key)) {
            state.ended = true;
        }
    }

    /// Notes whose records these are.
    fn thread(&mut self, head: &Head, identify: &mut dyn FnMut(u32) -> Arc<Process>) {
        let key = ThreadKey { tid: head.tid, born_ns: head.born_ns };
        let names = (head.comm, head.thread);
        let known = self.threads.entry(key).or_insert_with(|| Thread {
            tgid: head.tgid,
            tid: head.tid,
            names,
            comm: name(&head.comm),
            thread: name(&head.thread),
            process: identify(head.tgid),
            wait: Wait::default(),
            wait_ns: 0,
            latest_window: 0,
            read_window: 0,
            read_window_before: 0,
            now_ns: 0,
            ended: false,
        });
        if head.reason == reason::SAMPLE as u32 && head.window != 0 {
            known.latest_window = u64::from(head.window);
        }
        // At exec the head has the names of the record's making; what a pass has read since is newer.
        if known.names != names && (head.reason != reason::EXEC as u32 || known.now_ns == 0) {
            known.names = names;
            (known.comm, known.thread) = (name(&head.comm), name(&head.thread));
        }
    }

    /// Advances a thread and its loops.
    fn loops<'a>(&mut self, head: &Head, slots: impl Iterator<Item = Slot<'a>> + Clone) {
        let key = ThreadKey { tid: head.tid, born_ns: head.born_ns };
        let Some(thread) = self.threads.get_mut(&key) else {
            return;
        };
        let sample = head.reason == reason::SAMPLE as u32;
        if head.now_ns < thread.now_ns || (sample && thread.ended) {
            return;
        }
        // The loops of one thread come in several records of a pass, which share the pass before.
        if sample && u64::from(head.window) > thread.read_window {
            thread.read_window_before = std::mem::replace(&mut thread.read_window, head.window.into());
        }
        let sampled = if sample { thread.read_window_before } else { thread.read_window };
        let evicted = head.reason == reason::EVICT as u32;
        let waits_on = Waitable::waited_on(&head.wait, head.tgid);
        // What is known already of a wait that goes on.
        let mut noted = head.wait.entry_ns == 0 || head.wait == thread.wait;
        for slot in slots.clone() {
            let of = slot.of(head.tgid);
            let state = self.loops.entry((key, of)).or_default();
            match slot {
                Slot::Whole(raw) => state.advance(raw, sampled),
                Slot::Lines(lines) => self.damaged += u64::from(!state.advance_lines(lines, sampled)),
            }
            if evicted {
                state.evicted();
            } else if !noted && of == waits_on {
                state.waiting(&head.wait);
                noted = true;
            }
        }
        if !noted {
            self.loops.entry((key, waits_on)).or_default().waiting(&head.wait);
        }
        thread.wait = head.wait;
        thread.wait_ns = head.wait_ns;
        thread.now_ns = head.now_ns;
        thread.ended = [reason::EXIT, reason::EXEC].contains(&(head.reason as usize));
        if thread.ended {
            for slot in slots {
                let of = slot.of(head.tgid);
                if let Some(state) = self.loops.get_mut(&(key, of)) {
                    state.end(thread, of);
                }
            }
        }
    }

    /// Begins a window with what is known now, and forgets what has ended.
    pub fn begin(&mut self) {
        self.threads.retain(|_, thread| !thread.ended);
        let threads = &self.threads;
        self.loops
            .retain(|(key, of), state| threads.get(key).is_some_and(|thread| !state.is_gone(thread, *of)));
        self.ctls.retain(|_, state| !state.ended);
        let used: HashSet<Waitable> = self.waitables().collect();
        self.numbers.retain(|waitable, _| used.contains(waitable));
        for ((key, waitable), state) in &mut self.loops {
            if let Some(thread) = threads.get(key) {
                state.begin(thread, *waitable);
            }
        }
        for state in self.ctls.values_mut() {
            state.base = state.totals.clone();
        }
        self.base_counters = self.counters;
        self.base_ns = self.now_ns;
    }

    /// Loops whose parts did not fit together.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Takes in the interest sets of all instances. An instance that is known and in none of them has been closed.
    pub fn take_interest(&mut self, found: Vec<Holder>) {
        let waiting = |instance: &Waitable| {
            let waiters = self.waits().filter(|(waitable, ..)| waitable == instance);
            waiters.map(|(.., thread)| thread.tgid).collect()
        };
        let sets = interest::sets(found, waiting);
        for ((_, of), state) in self.loops.iter_mut().filter(|((_, of), _)| of.is_instance()) {
            state.held(sets.contains_key(of));
        }
        self.sets = Some(sets.into_iter().map(|(instance, set)| (instance, Arc::new(set))).collect());
    }

    /// What happened since [`Model::begin`].
    pub fn window(&mut self) -> Window {
        let mut window = self.window_of(|looped| looped);
        self.show_listeners(&mut window);
        window
    }

    /// As [`Model::window`], in the room that the counts need which are not zero.
    pub fn packed_window(&mut self) -> Window<LoopWindow<Packed>> {
        let mut window = self.window_of(|looped| looped.with(Totals::pack));
        self.show_listeners(&mut window);
        window
    }

    /// As [`Model::window`], and makes something else of each loop at once: a loop's figures are 4.6 KB.
    pub fn window_of<L>(&mut self, mut make: impl FnMut(LoopWindow) -> L) -> Window<L> {
        self.number();
        let waiters = self.waiters();
        let (newest, holders) = (self.newest(), self.holders());
        // In one order whatever the map's is: a recording that is replayed must give the same document.
        let mut order: Vec<_> = (self.loops.iter())
            .filter_map(|((key, of), state)| {
                let (thread, number) = (self.threads.get(key)?, self.numbers.get(of).copied());
                Some(((thread.tgid, thread.tid, number, *key, *of), thread, state))
            })
            .collect();
        order.sort_unstable_by_key(|(place, ..)| *place);
        let loops = order.into_iter().map(|((_, _, number, _, of), thread, state)| {
            let waiters = waiters.get(&of).map_or(0, HashSet::len);
            let reused = newest.get(&of.address).is_some_and(|newest| of.generation < *newest);
            // The probes look no more at the descriptor of a slot that they gave away.
            let taken = state.is_given_away()
                && holders
                    .get(&(thread.tgid, state.fd()))
                    .is_some_and(|holder| of.generation < holder.generation);
            let gone = reused || taken || state.is_unheld(thread, of);
            let mut window = state.window(thread, of, number, waiters, gone);
            window.has_backlog = self.backlog && of.is_instance();
            make(window)
        });
        Window {
            now_ns: self.now_ns,
            duration_ns: self.now_ns.saturating_sub(self.base_ns),
            loops: loops.collect(),
            instances: self.instances(&waiters, &holders),
            ctls: self.ctls.iter().map(|((key, _), state)| state.window(key.tid)).collect(),
            counters: difference(&self.counters, &self.base_counters),
        }
    }

    /// Gives every instance a number of ours, in the order in which they were created or, before the probes, lie.
    fn number(&mut self) {
        let unnumbered = |waitable: &Waitable| waitable.is_instance() && !self.numbers.contains_key(waitable);
        let mut new: Vec<Waitable> = self.waitables().filter(unnumbered).collect();
        new.sort_by_key(|waitable| (waitable.generation, waitable.address));
        new.dedup();
        let first = self.last_number + 1;
        self.last_number += new.len() as u64;
        self.numbers.extend(new.into_iter().zip(first..));
    }

    /// Everything that is waited on, changed or held; some of it several times.
    fn waitables(&self) -> impl Iterator<Item = Waitable> {
        let used = self.loops.keys().chain(self.ctls.keys()).map(|(_, waitable)| waitable);
        used.chain(self.sets.iter().flat_map(BTreeMap::keys)).copied()
    }

    /// Every thread that has waited on something or is waiting on it, with that.
    fn waits(&self) -> impl Iterator<Item = (Waitable, ThreadKey, &Thread)> {
        self.loops.iter().filter_map(|((key, waitable), state)| {
            let thread = self.threads.get(key)?;
            let waits = state.waited() || state.is_waiting(thread, *waitable);
            waits.then_some((*waitable, *key, thread))
        })
    }

    /// Which threads have waited on each instance, or are waiting on it. Not those of the window alone: where windows
    /// are short, threads that share an instance would be alone on it in most of them, and the others busy.
    fn waiters(&self) -> HashMap<Waitable, HashSet<ThreadKey>> {
        let mut waiters: HashMap<Waitable, HashSet<ThreadKey>> = HashMap::new();
        for (waitable, key, _) in self.waits() {
            waiters.entry(waitable).or_default().insert(key);
        }
        waiters
    }

    /// The newest generation seen at each address: older ones are gone.
    fn newest(&self) -> HashMap<u64, u64> {
        let mut newest = HashMap::new();
        for (_, waitable) in
            self.loops.keys().chain(self.ctls.keys()).filter(|(_, waitable)| waitable.is_object())
        {
            let generation = newest.entry(waitable.address).or_insert(waitable.generation);
            *generation = waitable.generation.max(*generation);
        }
        newest
    }
}

/// What the counters grew by.
fn difference(now: &Counters, base: &Counters) -> Counters {
    let mut window = *now;
    for (count, base) in window.runs.iter_mut().zip(base.runs).chain(window.lost.iter_mut().zip(base.lost)) {
        *count = count.saturating_sub(base);
    }
    window
}
