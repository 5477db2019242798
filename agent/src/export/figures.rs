//! What one scrape shows: the groups, and what the agent says of itself.

use std::time::Duration;

use loopscope_probe::Counters;

use super::{Own, groups::Groups};
use crate::{confine::Confined, kernel::ProbeState, model::costs::Costs, report::build};

/// Everything that the table's getters may look at.
pub struct Figures<'a> {
    /// The groups.
    pub groups: &'a Groups,
    /// Each probe, and how it is attached or why not.
    pub probes: &'a [ProbeState],
    /// Runs and losses of the probes since the start.
    pub counters: &'a Counters,
    /// What the probes' runs took since the start; None where it is not measured.
    pub costs: Option<&'a Costs>,
    /// Runs of probes that the kernel skipped since the start.
    pub missed: u64,
    /// Records that could not be read.
    pub damaged: u64,
    /// How long the last sample took.
    pub sample: Duration,
    /// The agent's own process.
    pub own: Own,
    /// What the process has given up.
    pub confined: &'a Confined,
}

impl Figures<'_> {
    /// Runs by the name of the probe; of those that are attached.
    pub fn runs(&self) -> impl Iterator<Item = (String, u64)> {
        build::probe_rows(self.probes, self.counters, None).into_iter().map(|row| (row.name, row.runs))
    }

    /// Seconds that runs took by the name of the probe, or of a program that runs for every system call.
    pub fn run_seconds(&self) -> impl Iterator<Item = (String, f64)> {
        let rows = build::probe_rows(self.probes, self.counters, self.costs).into_iter();
        rows.filter_map(|row| Some((row.name, row.run_seconds?)))
    }

    /// What was lost, by reason.
    pub fn lost(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = build::lost(self.counters, self.missed).reasons();
        reasons.into_iter().map(|(name, count, _)| (name, count)).chain([("damaged", self.damaged)])
    }
}

/// Adds the counters of a window to the sums since the start.
pub fn add_counters(sums: &mut Counters, window: &Counters) {
    let runs = sums.runs.iter_mut().zip(window.runs);
    for (sum, count) in runs.chain(sums.lost.iter_mut().zip(window.lost)) {
        *sum += count;
    }
}
