//! One thread on one waitable: from two readings of its slot to counts, times and the state that it is in.
//! (`loop` is a keyword.)

use loopscope_probe::{LOOP_GAP_NS, LOOP_WAITS, Loop, Max, Wait, mechanism};

use super::{
    LoopWindow, Thread, Waitable, sum,
    totals::{Packed, Totals},
    waitable::Space,
};
use crate::decode::Lines;

/// A slot in which nothing was counted yet.
static EMPTY: Loop = Loop::EMPTY;

/// Largest values of a window, in the units of [`Loop`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Largest {
    /// Longest wait, ns.
    pub wait_ns: u64,
    /// Longest busy time, ns.
    pub busy_ns: u64,
    /// Most events of a wait.
    pub events: u64,
    /// Longest time beyond a finite time-out, ns.
    pub overrun_ns: u64,
    /// Greatest nfds.
    pub nfds: u64,
    /// Longest ready list.
    pub backlog: u64,
    /// Most requeued entries of one.
    pub requeued: u64,
}

impl Largest {
    /// The greater of each.
    pub(super) fn max(self, other: Largest) -> Largest {
        Largest {
            wait_ns: self.wait_ns.max(other.wait_ns),
            busy_ns: self.busy_ns.max(other.busy_ns),
            events: self.events.max(other.events),
            overrun_ns: self.overrun_ns.max(other.overrun_ns),
            nfds: self.nfds.max(other.nfds),
            backlog: self.backlog.max(other.backlog),
            requeued: self.requeued.max(other.requeued),
        }
    }
}

/// Time spent in each state, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// In waits on this waitable.
    pub wait_ns: u64,
    /// Busy.
    pub busy_ns: u64,
    /// In waits on something else, between two of this waitable's.
    pub other_wait_ns: u64,
}

impl Times {
    /// What a slot has counted.
    fn of(raw: &Loop) -> Times {
        let wait_ns = raw.wait_ns.saturating_add(raw.inherited_ns);
        Times { wait_ns, busy_ns: raw.busy_ns, other_wait_ns: raw.other_wait_ns }
    }

    /// Time since `base`.
    fn since(self, base: Times) -> Times {
        Times {
            wait_ns: self.wait_ns.saturating_sub(base.wait_ns),
            busy_ns: self.busy_ns.saturating_sub(base.busy_ns),
            other_wait_ns: self.other_wait_ns.saturating_sub(base.other_wait_ns),
        }
    }

    /// The sum of each.
    pub(super) fn plus(self, other: Times) -> Times {
        Times {
            wait_ns: self.wait_ns.saturating_add(other.wait_ns),
            busy_ns: self.busy_ns.saturating_add(other.busy_ns),
            other_wait_ns: self.other_wait_ns.saturating_add(other.other_wait_ns),
        }
    }

    /// The greater of each.
    fn max(self, other: Times) -> Times {
        Times {
            wait_ns: self.wait_ns.max(other.wait_ns),
            busy_ns: self.busy_ns.max(other.busy_ns),
            other_wait_ns: self.other_wait_ns.max(other.other_wait_ns),
        }
    }
}

/// What a loop is doing at the end of the window, and for how long it has been, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// It waits.
    Wait(u64),
    /// Its body runs.
    Busy(u64),
    /// Neither: it ended, or its thread waits on something else.
    Neither,
}

/// What is known of one thread on one waitable.
#[derive(Default)]
pub struct LoopState {
    /// Its slot as it was last read, and as it was when the window began (None: not there yet).
    raw: Option<Box<Loop>>,
    base: Option<Box<Loop>>,
    /// Lines of the histograms in which the two may differ.
    moved: u64,
    fd: i32,
    asked: u32,
    mechanism: u32,
    highest_fd: Option<u32>,
    least: Option<u32>,
    streak: u32,
    waited: bool,
    /// No descriptor meant its instance when the interest sets were last read.
    unheld: bool,
    /// What else is of the window: counts of slots that were evicted in it, and counts that were about to wrap.
    carried_totals: Option<Box<Totals>>,
    largest: Largest,
    /// Waits before the window.
    waits_before: u64,
    base_times: Times,
    /// Times of slots that were evicted.
    carried: Times,
    /// The window's figures, once the thread has ended.
    last: Option<(Packed, Times)>,
}

impl LoopState {
    /// Takes in a whole reading of the slot. `sampled` is the window number of the thread's last reading by the iterator:
    /// largest values of that window and later are new.
    pub fn advance(&mut self, slot: &Loop, sampled: u64) {
        let moved = self.slot(slot.serial).replace(slot);
        self.moved |= moved;
        self.advanced(sampled);
    }

    /// As [`LoopState::advance`], of a reading without what is as it was. False where it cannot be a reading.
    pub fn advance_lines(&mut self, lines: &Lines, sampled: u64) -> bool {
        if !self.slot(lines.serial()).patch(lines.set, &lines.words) {
            return false;
        }
        self.moved |= lines.set;
        self.advanced(sampled);
        true
    }

    /// The slot as it was last read; an empty one where this is another use of it, and the record that said so was lost.
    fn slot(&mut self, serial: u32) -> &mut Loop {
        if self.raw.as_ref().is_some_and(|raw| raw.serial != serial) {
            self.evicted();
        }
        self.unheld = false;
        self.raw.get_or_insert_with(|| Box::new(Loop::EMPTY))
    }

    /// The slot was read.
    fn advanced(&mut self, sampled: u64) {
        let Some(raw) = self.raw.as_deref() else { return };
        let largest = |max: &Max| {
            let current = if u64::from(raw.window) >= sampled { max.current } else { 0 };
            let previous = if u64::from(raw.previous_window) >= sampled { max.previous } else { 0 };
            current.max(previous)
        };
        let known = &mut self.largest;
        for (known, max) in [
            (&mut known.wait_ns, &raw.wait_max_ns),
            (&mut known.busy_ns, &raw.busy_max_ns),
            (&mut known.events, &raw.events_max),
            (&mut known.overrun_ns, &raw.overrun_max_ns),
            (&mut known.nfds, &raw.nfds_max),
            (&mut known.backlog, &raw.backlog_max),
            (&mut known.requeued, &raw.requeued_max),
        ] {
            *known = (*known).max(largest(max));
        }
        (self.fd, self.asked) = (raw.fd, raw.asked);
        self.mechanism = raw.mechanism;
        match raw.mechanism as usize {
            mechanism::IO_URING | mechanism::AIO => self.least = Some(raw.highest),
            _ => self.highest_fd = raw.highest.checked_sub(1),
        }
        self.streak = raw.streak;
        self.waited |= raw.results.iter().any(|count| *count > 0);
        let base = self.base.as_deref().unwrap_or(&EMPTY);
        // No count grows faster than its loop waits.
        if raw.results.iter().zip(base.results).any(|(now, then)| now.wrapping_sub(then) > u32::MAX / 4) {
            self.fold();
        }
    }

    /// Counts what the window has so far, and goes on from there.
    fn fold(&mut self) {
        if let Some(raw) = self.raw.as_deref() {
            let base = self.base.as_deref().unwrap_or(&EMPTY);
            self.carried_totals.get_or_insert_default().advance(base, raw, self.moved);
        }
        self.rebase();
    }

    /// Makes the slot as it is the begin of what is counted.
    fn rebase(&mut self) {
        match (&self.raw, &mut self.base) {
            (Some(raw), Some(base)) => base.copy_lines(raw, self.moved),
            (Some(raw), base) => *base = Some(raw.clone()),
            (None, base) => *base = None,
        }
        self.moved = 0;
    }

    /// The thread has ended: keeps the window's figures in little room, since many threads may end in one.
    pub fn end(&mut self, thread: &Thread, of: Waitable) {
        let times = self.times(thread, of).0.since(self.base_times);
        if !self.comes_back(thread, of) {
            self.streak = 0;
        }
        self.last = Some((self.window_totals().pack(), times));
        (self.raw, self.base, self.moved, self.carried_totals) = (None, None, 0, None);
    }

    /// What was counted in the window.
    fn window_totals(&self) -> Totals {
        match &self.last {
            Some((packed, _)) => packed.unpack(),
            None => {
                let mut totals = self.carried_totals.as_deref().cloned().unwrap_or_default();
                if let Some(raw) = &self.raw {
                    totals.advance(self.base.as_deref().unwrap_or(&EMPTY), raw, self.moved);
                }
                totals
            }
        }
    }

    /// Waits of the window, while the thread lives.
    fn waits(&self) -> u64 {
        let base = self.base.as_deref().unwrap_or(&EMPTY);
        let raw = self.raw.as_deref().unwrap_or(base);
        let waits = raw.results.iter().zip(base.results).map(|(now, then)| u64::from(now.wrapping_sub(then)));
        sum::of(waits.chain(self.carried_totals.as_deref().map(Totals::waits)))
    }

    /// Takes in that its thread is waiting on it.
    pub fn waiting(&mut self, wait: &Wait) {
        (self.fd, self.asked, self.mechanism) = (wait.fd, wait.asked, wait.mechanism);
    }

    /// The slot was given up: the next reading starts from nothing.
    pub fn evicted(&mut self) {
        self.fold();
        self.base = None;
        if let Some(raw) = self.raw.take() {
            self.carried = self.carried.plus(Times::of(&raw));
        }
    }

    /// The descriptor by which the thread last waited.
    pub fn fd(&self) -> i32 {
        self.fd
    }

    /// Whether the descriptor no longer meant the instance when last looked at.
    pub fn closed(&self) -> bool {
        self.raw.as_ref().is_some_and(|raw| raw.closed != 0)
    }

    /// Whether a wait has completed.
    pub fn waited(&self) -> bool {
        self.waited
    }

    /// Whether the probes have given its slot away: if it comes back, it starts from nothing.
    pub fn is_given_away(&self) -> bool {
        self.raw.is_none() && self.last.is_none()
    }

    /// Takes in whether a descriptor means its instance.
    pub fn held(&mut self, held: bool) {
        self.unheld = !held;
    }

    /// Whether its instance is known to be closed though the probes look no more at its descriptor.
    pub fn is_unheld(&self, thread: &Thread, of: Waitable) -> bool {
        self.unheld && self.is_gone(thread, of)
    }

    /// Whether it need not be known any more.
    pub fn is_gone(&self, thread: &Thread, of: Waitable) -> bool {
        self.is_given_away() && !self.is_waiting(thread, of)
    }

    /// Whether the thread is in a wait on this waitable.
    pub fn is_waiting(&self, thread: &Thread, of: Waitable) -> bool {
        !thread.ended && thread.wait.entry_ns != 0 && Waitable::waited_on(&thread.wait, thread.tgid) == of
    }

    /// Whether poll or select calls are a loop: after so many of them, and until a gap is too long, as the probes see
    /// it when the next one begins.
    fn comes_back(&self, thread: &Thread, of: Waitable) -> bool {
        let gap = match &self.raw {
            Some(raw) if !self.is_waiting(thread, of) => thread.now_ns.saturating_sub(raw.last_exit_ns),
            _ => 0,
        };
        self.streak >= LOOP_WAITS && gap <= LOOP_GAP_NS
    }

    /// Begins a window.
    pub fn begin(&mut self, thread: &Thread, of: Waitable) {
        self.waits_before = self.waits_before.saturating_add(self.waits());
        self.rebase();
        self.carried_totals = None;
        // An open state that turns out to be no busy time (a gap in a thread's polls) takes back what an earlier window
        // has shown of it: later windows make up for that, so that their sum never says more than one window would.
        self.base_times = self.base_times.max(self.times(thread, of).0);
        self.largest = Largest::default();
    }

    /// Times since the slot was first seen, the state that it is in now included; and that state.
    fn times(&self, thread: &Thread, of: Waitable) -> (Times, Now) {
        let raw = self.raw.as_deref().unwrap_or(&EMPTY);
        let mut times = self.carried.plus(Times::of(raw));
        let in_wait = match thread.wait.entry_ns {
            0 => 0,
            entry => thread.now_ns.saturating_sub(entry),
        };
        if self.is_waiting(thread, of) {
            sum::add(&mut times.wait_ns, in_wait);
            return (times, Now::Wait(in_wait));
        }
        if raw.last_exit_ns == 0 || raw.closed != 0 {
            return (times, Now::Neither);
        }
        // The gap since its last wait: what the thread waited elsewhere, and the rest, which is busy time.
        let gap = thread.now_ns.saturating_sub(raw.last_exit_ns);
        if !of.is_object() && !self.comes_back(thread, of) {
            return (times, Now::Neither);
        }
        let elsewhere = thread.wait_ns.saturating_sub(raw.thread_wait_ns).saturating_add(in_wait).min(gap);
        sum::add(&mut times.other_wait_ns, elsewhere);
        sum::add(&mut times.busy_ns, gap - elsewhere);
        let busy = if thread.ended || in_wait > 0 { Now::Neither } else { Now::Busy(gap - elsewhere) };
        (times, busy)
    }

    /// The window. `waiters`: threads that waited on the instance within it. `reused`: its address or its
    /// descriptor is another instance's.
    pub fn window(
        &self,
        thread: &Thread,
        of: Waitable,
        instance: Option<u64>,
        waiters: usize,
        reused: bool,
    ) -> LoopWindow {
        let (times, now) = match &self.last {
            Some((_, times)) => (*times, Now::Neither),
            None => {
                let (times, now) = self.times(thread, of);
                (times.since(self.base_times), now)
            }
        };
        let totals = self.window_totals();
        let closed = self.closed() && !self.is_waiting(thread, of);
        let ended = thread.ended || reused || closed;
        let (is_loop, alone) = if of.is_object() {
            // A thread that only submits to a ring does not wait on it.
            let waits = of.space != Space::Rings || self.waited || self.is_waiting(thread, of);
            (
                waits && (waiters <= 1 || self.waits_before.saturating_add(totals.waits()) > 1),
                waits && waiters <= 1,
            )
        } else {
            let is_loop = self.comes_back(thread, of);
            (is_loop, is_loop)
        };
        LoopWindow {
            thread: thread.clone(),
            mechanism: self.mechanism,
            fd: self.fd,
            asked: self.asked,
            highest_fd: self.highest_fd,
            least: self.least,
            on_instance: of.is_instance(),
            has_backlog: false,
            instance,
            is_loop,
            alone,
            ended,
            totals,
            largest: self.largest,
            times,
            now: if ended { Now::Neither } else { now },
            listeners: Vec::new(),
        }
    }
}
