//! The figures that follow from a document's own fields: the only place that divides them.
//!
//! Every function is pure and says `None` where the figure has no meaning; none of them formats.

use std::cmp::Ordering;

use super::document::{Counts, Ctl, InstanceRow, LoopRow, Lost, Report, Seconds};

impl Report {
    /// `count` per second of the window; 0 for a window without length.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.duration_seconds > 0.0 { count as f64 / self.duration_seconds } else { 0.0 }
    }

    /// Rows that are loops, and rows that are waiters only.
    pub fn loops_and_waiters(&self) -> (usize, usize) {
        let loops = self.loops.iter().filter(|row| row.is_loop).count();
        (loops, self.loops.len() - loops)
    }

    /// Completed waits of all rows.
    pub fn waits(&self) -> u64 {
        self.loops.iter().map(|row| row.waits).sum()
    }

    /// Events of all rows.
    pub fn events(&self) -> u64 {
        self.loops.iter().map(|row| row.events).sum()
    }
}

impl Lost {
    /// Each reason: its name, its count and what it means, in the contract's order.
    pub fn reasons(&self) -> [(&'static str, u64, &'static str); 6] {
        [
            ("records", self.records, "waiters without a record: no memory, or a limit was reached"),
            ("events", self.events, "records that found the ring buffer full"),
            ("missed", self.missed, "runs of a probe that the kernel skipped"),
            ("unpaired", self.unpaired, "exits of a wait whose entry was not seen"),
            ("clamped", self.clamped, "negative time differences, taken as zero"),
            ("unseen", self.unseen, "32-bit tasks, whose calls this way of attaching cannot read"),
        ]
    }
}

impl LoopRow {
    /// The share of waits that were saturated; None without a wait or where the call has no maxevents.
    pub fn saturated_share(&self) -> Option<f64> {
        self.maxevents.and_then(|_| share(self.saturated, self.waits))
    }

    /// The share of waits that asked not to wait and found nothing; None without a wait.
    pub fn empty_share(&self) -> Option<f64> {
        share(self.results.empty, self.waits)
    }

    /// The order of the human views: the most utilised first, rows without a utilisation after all others,
    /// then the most waits; ids break ties, so that two runs over the same rows agree.
    pub fn by_utilization(a: &Self, b: &Self) -> Ordering {
        // Below every real utilisation, which is 0 to 1.
        let key = |row: &Self| row.utilization.unwrap_or(-1.0);
        key(b).total_cmp(&key(a)).then_with(|| b.waits.cmp(&a.waits)).then_with(|| {
            (a.pid, a.tid, a.mechanism, a.instance).cmp(&(b.pid, b.tid, b.mechanism, b.instance))
        })
    }
}

/// What one run of a probe costs, seconds: half of what `cargo xtask bench` measures for a wait, which is a run at its
/// entry and one at its exit.
const RUN_SECONDS: f64 = 498e-9 / 2.0;

impl Report {
    /// Time that the probes took in the window, as an estimate: their runs times what one was measured to cost.
    pub fn estimated_probe_seconds(&self) -> f64 {
        self.probes.iter().map(|probe| probe.runs as f64).sum::<f64>() * RUN_SECONDS
    }

    /// The same as the kernel measured it; None unless it did (--probe-stats).
    pub fn measured_probe_seconds(&self) -> Option<f64> {
        self.probes.iter().filter_map(|probe| probe.run_seconds).reduce(|sum, more| sum + more)
    }

    /// `seconds` of CPU time as a share of the window on `cpus` processors; None for a window without length.
    pub fn share_of_machine(&self, seconds: f64, cpus: usize) -> Option<f64> {
        let whole = self.duration_seconds * cpus as f64;
        (whole > 0.0).then(|| seconds / whole)
    }
}

impl Lost {
    /// What was lost in both windows.
    #[must_use]
    pub fn plus(self, other: Lost) -> Lost {
        Lost {
            records: self.records + other.records,
            events: self.events + other.events,
            missed: self.missed + other.missed,
            unpaired: self.unpaired + other.unpaired,
            clamped: self.clamped + other.clamped,
            unseen: self.unseen + other.unseen,
        }
    }
}

impl InstanceRow {
    /// By what its watched descriptors are triggered: `ET`, `LT` or `LT+ET`; None until they were read, or without any.
    pub fn trigger(&self) -> Option<&'static str> {
        let watched = self.watched?;
        match (watched.level > 0, watched.edge > 0) {
            (true, true) => Some("LT+ET"),
            (true, false) => Some("LT"),
            (false, true) => Some("ET"),
            (false, false) => None,
        }
    }
}

impl Counts {
    /// The mean; None for one that saw nothing.
    pub fn mean(&self) -> Option<f64> {
        share(self.sum, self.count)
    }
}

impl Ctl {
    /// All calls, the failed ones included.
    pub fn calls(&self) -> u64 {
        self.add + self.r#mod + self.del + self.errors.values().sum::<u64>()
    }
}

impl InstanceRow {
    /// The order of the human views: the most epoll_ctl calls first.
    pub fn by_calls(a: &Self, b: &Self) -> Ordering {
        b.ctl.calls().cmp(&a.ctl.calls()).then_with(|| a.instance.cmp(&b.instance))
    }
}

impl LoopRow {
    /// Takes another row of the same program in, as far as rows tell: counts and times add up; of quantiles, which
    /// cannot be added, the greater one stays.
    pub fn add(&mut self, other: &Self) {
        self.waits += other.waits;
        self.events += other.events;
        self.saturated += other.saturated;
        self.wait_seconds.worst(&other.wait_seconds);
        match (&mut self.busy_seconds, &other.busy_seconds) {
            (Some(busy), Some(other)) => busy.worst(other),
            (busy @ None, Some(other)) => *busy = Some(*other),
            (_, None) => {}
        }
        if let (Some(late), Some(other)) = (&mut self.overrun_seconds, &other.overrun_seconds) {
            late.worst(other);
        }
        if let Some(more) = other.time.busy {
            // Without a busy time of its own, what it waited says nothing of a loop.
            self.time.wait = other.time.wait + if self.time.busy.is_some() { self.time.wait } else { 0.0 };
            self.time.busy = Some(self.time.busy.unwrap_or(0.0) + more);
        }
        self.utilization =
            self.time.busy.and_then(|busy| fraction(busy, busy + self.time.wait)).or(self.utilization);
    }
}

impl Seconds {
    /// Adds what can be added, and takes the greater of what cannot.
    fn worst(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        for (own, other) in [
            (&mut self.p50, other.p50),
            (&mut self.p90, other.p90),
            (&mut self.p99, other.p99),
            (&mut self.max, other.max),
        ] {
            // None is below every number.
            *own = if other > *own { other } else { *own };
        }
    }
}

/// How many times `before` `after` is; None where there was nothing.
pub fn ratio(before: f64, after: f64) -> Option<f64> {
    (before > 0.0).then(|| after / before)
}

fn fraction(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// A part of a whole; None of nothing.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::super::document::{Mechanism, ProbeRow};
    use super::*;

    #[test]
    fn a_share_of_nothing_is_unknown_not_zero() {
        let row = LoopRow::default();
        assert_eq!((row.saturated_share(), row.empty_share()), (None, None));
        assert_eq!(row.events_per_wait.mean(), None);
        assert_eq!(Report::default().per_second(7), 0.0);
    }

    #[test]
    fn what_probes_cost_is_what_was_measured_or_else_half_of_a_wait_for_each_run() {
        let row = |runs, run_seconds| ProbeRow { runs, run_seconds, ..ProbeRow::default() };
        let mut report = Report { probes: vec![row(1_999_990, None), row(10, None)], ..Report::default() };
        assert_eq!(report.measured_probe_seconds(), None);
        assert!((report.estimated_probe_seconds() - 0.498).abs() < 1e-9, "a million waits");
        report.probes[1].run_seconds = Some(0.25);
        assert_eq!(report.measured_probe_seconds(), Some(0.25));
    }

    #[test]
    fn poll_is_never_saturated() {
        let row = LoopRow { mechanism: Mechanism::Poll, waits: 5, ..LoopRow::default() };
        assert_eq!(row.saturated_share(), None);
    }

    #[test]
    fn rows_without_a_utilisation_come_last_and_ties_are_broken_by_ids() {
        let row = |pid, utilization, waits| LoopRow { pid, utilization, waits, ..LoopRow::default() };
        let mut rows = [row(1, None, 900), row(4, Some(0.0), 1), row(3, Some(0.0), 1), row(2, Some(0.5), 0)];
        rows.sort_by(LoopRow::by_utilization);
        assert_eq!(rows.iter().map(|row| row.pid).collect::<Vec<_>>(), [2, 3, 4, 1]);
    }
}
