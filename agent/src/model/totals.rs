//! Sums that never wrap, from the kernel's counts that do.

use std::mem::offset_of;

use loopscope_probe::{
    Ctl, Line, Loop, ctl_errno, ctl_flag, ctl_op,
    histogram::{COUNT_BUCKETS, TIME_BUCKETS},
    line_of, result, timeout,
};

use super::sum;

/// Adds to each sum the difference between two readings of a u32 counter that wraps.
fn add<'a, const N: usize>(
    sums: &mut [u64; N],
    old: impl IntoIterator<Item = &'a u32>,
    new: impl IntoIterator<Item = &'a u32>,
) {
    for ((sum, old), new) in sums.iter_mut().zip(old).zip(new) {
        sum::add(sum, u64::from(new.wrapping_sub(*old)));
    }
}

/// As [`add`], of a histogram of which only some lines differ: bit i of `set` is its line i.
fn add_lines<const N: usize>(sums: &mut [u64; N], old: &[u32; N], new: &[u32; N], set: u64) {
    const COUNTS: usize = size_of::<Line>() / size_of::<u32>();
    let lines = sums.as_chunks_mut::<COUNTS>().0.iter_mut();
    let lines = lines.zip(old.as_chunks::<COUNTS>().0).zip(new.as_chunks::<COUNTS>().0).enumerate();
    for (_, ((sums, old), new)) in lines.filter(|(i, _)| set >> i & 1 == 1) {
        add(sums, old, new);
    }
}

/// Takes from each sum its earlier value.
fn subtract<const N: usize>(sums: &mut [u64; N], base: &[u64; N]) {
    for (sum, base) in sums.iter_mut().zip(base) {
        *sum = sum.saturating_sub(*base);
    }
}

/// Adds to each sum another one.
fn plus(sums: &mut [u64], others: &[u64]) {
    sum::add_each(sums, others.iter().copied());
}

/// What a loop did: counts, and times in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Waits by [`result`].
    pub results: [u64; result::NAMES.len()],
    /// Waits by [`timeout`].
    pub timeouts: [u64; timeout::NAMES.len()],
    /// Waits that returned as many events as were asked for.
    pub saturated: u64,
    /// Events returned.
    pub events: u64,
    /// Wait time of the waits counted above.
    pub wait_ns: u64,
    /// Busy time of the busy times counted below.
    pub busy_ns: u64,
    /// Time beyond finite time-outs.
    pub overrun_ns: u64,
    /// Sum of the nfds of poll or select.
    pub nfds: u64,
    /// Bytes of descriptor sets copied in, and out (poll and select); of a ring, the requests that it took, and the
    /// completions for which it had no room.
    pub bytes: [u64; 2],
    /// Wait times by bucket.
    pub wait: [u64; TIME_BUCKETS],
    /// Busy times by bucket.
    pub busy: [u64; TIME_BUCKETS],
    /// Events per wait by bucket.
    pub events_per_wait: [u64; COUNT_BUCKETS],
    /// Times beyond finite time-outs by bucket.
    pub overrun: [u64; TIME_BUCKETS],
    /// nfds of poll or select by bucket.
    pub nfds_per_wait: [u64; COUNT_BUCKETS],
    /// Sum of the ready lists' lengths, of their requeued entries, and the lists that were not walked to their end.
    pub backlog: [u64; 3],
    /// Lengths of ready lists by bucket.
    pub backlog_per_wait: [u64; COUNT_BUCKETS],
    /// Their requeued entries by bucket.
    pub requeued_per_wait: [u64; COUNT_BUCKETS],
}

impl Default for Totals {
    fn default() -> Self {
        Totals {
            results: Default::default(),
            timeouts: Default::default(),
            saturated: 0,
            events: 0,
            wait_ns: 0,
            busy_ns: 0,
            overrun_ns: 0,
            nfds: 0,
            bytes: [0; 2],
            wait: [0; TIME_BUCKETS],
            busy: [0; TIME_BUCKETS],
            events_per_wait: [0; COUNT_BUCKETS],
            overrun: [0; TIME_BUCKETS],
            nfds_per_wait: [0; COUNT_BUCKETS],
            backlog: [0; 3],
            backlog_per_wait: [0; COUNT_BUCKETS],
            requeued_per_wait: [0; COUNT_BUCKETS],
        }
    }
}

impl Totals {
    /// Adds what happened between two readings of the same slot, of whose histograms only the lines of `set` differ.
    pub fn advance(&mut self, old: &Loop, new: &Loop, set: u64) {
        add(&mut self.results, &old.results, &new.results);
        add(&mut self.timeouts, &old.timeouts, &new.timeouts);
        macro_rules! histograms {
            ($($name:ident),+) => { $(
                add_lines(&mut self.$name, &old.$name, &new.$name, set >> const { line_of(offset_of!(Loop, $name)) });
            )+ };
        }
        histograms!(wait, busy, events_per_wait, overrun, nfds_per_wait, backlog_per_wait, requeued_per_wait);
        let backlog = [new.backlog.wrapping_sub(old.backlog), new.requeued.wrapping_sub(old.requeued)];
        let truncated = u64::from(new.truncated.wrapping_sub(old.truncated));
        sum::add_each(&mut self.backlog, backlog.into_iter().chain([truncated]));
        let bytes = [new.bytes_in.wrapping_sub(old.bytes_in), new.bytes_out.wrapping_sub(old.bytes_out)];
        sum::add_each(&mut self.bytes, bytes);
        sum::add(&mut self.saturated, u64::from(new.saturated.wrapping_sub(old.saturated)));
        macro_rules! scalars {
            ($($name:ident),+) => { $( sum::add(&mut self.$name, new.$name.wrapping_sub(old.$name)); )+ };
        }
        scalars!(events, wait_ns, busy_ns, overrun_ns, nfds);
    }

    /// Every count in a fixed order.
    fn counts_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let Totals {
            results,
            timeouts,
            saturated,
            events,
            wait_ns,
            busy_ns,
            overrun_ns,
            nfds,
            bytes,
            wait,
            busy,
            events_per_wait,
            overrun,
            nfds_per_wait,
            backlog,
            backlog_per_wait,
            requeued_per_wait,
        } = self;
        let scalars = [saturated, events, wait_ns, busy_ns, overrun_ns, nfds];
        let lists: [&mut [u64]; 11] = [
            results,
            timeouts,
            bytes,
            wait,
            busy,
            events_per_wait,
            overrun,
            nfds_per_wait,
            backlog,
            backlog_per_wait,
            requeued_per_wait,
        ];
        scalars.into_iter().chain(lists.into_iter().flatten())
    }

    /// The same in little room: of some 660 counts most are zero, all the more in a thread that lived for moments.
    pub fn pack(mut self) -> Packed {
        Packed(
            (0_u16..)
                .zip(self.counts_mut())
                .filter(|(_, count)| **count > 0)
                .map(|(i, count)| (i, *count))
                .collect(),
        )
    }

    /// Adds what another loop did.
    pub fn merge(&mut self, other: &Totals) {
        plus(&mut self.results, &other.results);
        plus(&mut self.timeouts, &other.timeouts);
        plus(&mut self.wait, &other.wait);
        plus(&mut self.busy, &other.busy);
        plus(&mut self.events_per_wait, &other.events_per_wait);
        plus(&mut self.overrun, &other.overrun);
        plus(&mut self.nfds_per_wait, &other.nfds_per_wait);
        plus(&mut self.backlog, &other.backlog);
        plus(&mut self.backlog_per_wait, &other.backlog_per_wait);
        plus(&mut self.requeued_per_wait, &other.requeued_per_wait);
        plus(&mut self.bytes, &other.bytes);
        macro_rules! scalars {
            ($($name:ident),+) => { $( sum::add(&mut self.$name, other.$name); )+ };
        }
        scalars!(saturated, events, wait_ns, busy_ns, overrun_ns, nfds);
    }

    /// All completed waits: the sum of their results.
    pub fn waits(&self) -> u64 {
        sum::of(self.results)
    }
}

/// The counts of [`Totals`] that are not zero, each with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed(Box<[(u16, u64)]>);

impl Packed {
    /// Sum of the counts whose places in [`Totals::counts_mut`] are these.
    fn sum(&self, places: std::ops::Range<u16>) -> u64 {
        sum::of(self.0.iter().filter(|(place, _)| places.contains(place)).map(|(_, count)| *count))
    }

    /// As [`Totals::waits`].
    pub fn waits(&self) -> u64 {
        self.sum(6..6 + result::NAMES.len() as u16)
    }

    /// As [`Totals::events`].
    pub fn events(&self) -> u64 {
        self.sum(1..2)
    }

    /// All counts again.
    pub fn unpack(&self) -> Totals {
        let mut totals = Totals::default();
        let mut packed = self.0.iter().peekable();
        for (i, count) in (0_u16..).zip(totals.counts_mut()) {
            if let Some((_, value)) = packed.next_if(|(place, _)| *place == i) {
                *count = *value;
            }
        }
        totals
    }
}

impl From<Packed> for Totals {
    fn from(packed: Packed) -> Totals {
        packed.unpack()
    }
}

/// The sums of either form.
pub(super) trait Sums {
    /// Waits, and their events.
    fn done(&self) -> [u64; 2];
}

impl Sums for Totals {
    fn done(&self) -> [u64; 2] {
        [self.waits(), self.events]
    }
}

impl Sums for Packed {
    fn done(&self) -> [u64; 2] {
        [self.waits(), self.events()]
    }
}

/// The epoll_ctl calls on an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CtlTotals {
    /// Calls that succeeded, by [`ctl_op`].
    pub done: [u64; ctl_op::NAMES.len()],
    /// Flags of the successful adds and mods, by [`ctl_flag`].
    pub flags: [u64; ctl_flag::NAMES.len()],
    /// Calls that failed, by [`ctl_op`] and [`ctl_errno`].
    pub errors: [[u64; ctl_errno::NAMES.len()]; ctl_op::NAMES.len()],
}

impl CtlTotals {
    /// As [`Totals::advance`].
    pub fn advance(&mut self, old: Option<&Ctl>, new: &Ctl) {
        const ZERO: [u32; loopscope_probe::CTL_ERRNO_COLUMNS] = [0; loopscope_probe::CTL_ERRNO_COLUMNS];
        add(&mut self.done, old.map_or(&[0; 4], |old| &old.done), &new.done);
        add(&mut self.flags, old.map_or(&[0; 4], |old| &old.flags), &new.flags);
        for (op, sums) in self.errors.iter_mut().enumerate() {
            let old = old.and_then(|old| old.errors.get(op)).unwrap_or(&ZERO);
            add(sums, old, new.errors.get(op).unwrap_or(&ZERO));
        }
    }

    /// What was added since `base` was a copy of this.
    #[must_use]
    pub fn since(&self, base: &CtlTotals) -> CtlTotals {
        let mut window = self.clone();
        subtract(&mut window.done, &base.done);
        subtract(&mut window.flags, &base.flags);
        for (sums, base) in window.errors.iter_mut().zip(&base.errors) {
            subtract(sums, base);
        }
        window
    }

    /// Adds another thread's calls on the same instance.
    pub fn merge(&mut self, other: &CtlTotals) {
        plus(&mut self.done, &other.done);
        plus(&mut self.flags, &other.flags);
        for (sums, others) in self.errors.iter_mut().zip(&other.errors) {
            plus(sums, others);
        }
    }
}

#[cfg(test)]
mod tests {
    use loopscope_probe::ALL_LINES;

    use super::*;

    #[test]
    fn packing_keeps_every_count() {
        let mut totals = Totals::default();
        for (i, count) in (0_u64..).zip(totals.counts_mut()) {
            *count = if i % 3 == 0 { 0 } else { i };
        }
        assert_eq!(totals.clone().pack().unpack(), totals);
        totals.events = 4711;
        let packed = totals.clone().pack();
        assert_eq!((packed.waits(), packed.events()), (totals.waits(), 4711));
        assert_eq!(Totals::default().pack(), Packed::default());
    }

    #[test]
    fn counts_that_wrapped_go_on_growing() {
        let old = Loop { saturated: u32::MAX, ..Loop::EMPTY };
        let new = Loop { saturated: 4, ..Loop::EMPTY };
        let mut totals = Totals::default();
        totals.advance(&old, &new, ALL_LINES);
        assert_eq!(totals.saturated, 5);
    }
}
