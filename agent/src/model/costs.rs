//! What the probes' programs took, by probe. The kernel measures whole programs, and some serve several probes: what such a
//! one took between two readings is shared out by the runs of its probes in between. No time is counted twice or left out.

use std::collections::BTreeMap;

use loopscope_probe::{Counters, PROBE_COUNTERS};

use super::sum;
use crate::kernel::{ProbeState, RunTime, fentry::FUNCTIONS, table::Hook};

/// What the programs took in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// By number of [`loopscope_probe::probe`], ns; None where no program serves that probe alone or with others.
    pub probes: [Option<u64>; PROBE_COUNTERS],
    /// Programs that run for calls of no probe too, as those of all system calls do: time in ns, and runs. To share it
    /// out by runs would charge the probes with what other calls cost.
    pub programs: BTreeMap<String, [u64; 2]>,
}

impl Costs {
    /// Adds another window.
    pub fn add(&mut self, window: &Costs) {
        for (sum, more) in self.probes.iter_mut().zip(window.probes) {
            if let Some(more) = more {
                sum::add(sum.get_or_insert_default(), more);
            }
        }
        for (name, more) in &window.programs {
            let sums = self.programs.entry(name.clone()).or_default();
            sum::add_each(sums, more.iter().copied());
        }
    }
}

/// Makes windows of readings.
#[derive(Debug, Default)]
pub struct Meter {
    /// What was given of each program's time so far, ns, and its runs at the last reading.
    given: BTreeMap<String, [u64; 2]>,
    /// The probes' own runs at the last reading.
    runs: [u64; PROBE_COUNTERS],
    window: Costs,
}

impl Meter {
    /// Takes in a reading of the programs, and the probes' own counts of the same time.
    pub fn take(&mut self, reading: &[RunTime], counters: &Counters, probes: &[ProbeState]) {
        for program in reading {
            let [given, runs] = self.given.entry(program.program.clone()).or_default();
            let more = program.ns.saturating_sub(*given);
            let served = served(&program.program, probes);
            if !served.is_empty() {
                // What division leaves over, or what nobody ran for yet, is for the next reading.
                let shared = share(&mut self.window.probes, &served, more, &self.runs, &counters.runs);
                sum::add(given, shared);
            } else if program.runs > 0 {
                let sums = self.window.programs.entry(program.program.clone()).or_default();
                let both = [more, program.runs.saturating_sub(*runs)];
                sum::add_each(sums, both);
                *given = program.ns;
            }
            *runs = program.runs;
        }
        self.runs = counters.runs;
    }

    /// What was measured since the last [`Meter::begin`].
    pub fn window(&self) -> &Costs {
        &self.window
    }

    /// Begins the next window.
    pub fn begin(&mut self) {
        self.window.probes.iter_mut().flatten().for_each(|ns| *ns = 0);
        self.window.programs.values_mut().for_each(|sums| *sums = [0; 2]);
    }
}

/// The probes that are attached by this program, as numbers.
fn served(program: &str, probes: &[ProbeState]) -> Vec<usize> {
    let by_it = probes.iter().filter(|state| match (state.backend(), &state.probe.hook) {
        (Some("fentry"), _) => FUNCTIONS.iter().any(|function| {
            function.probe == state.probe.index
                && (function.entry == Some(program) || function.exit == program)
        }),
        (Some("tracepoint"), Hook::Syscall(points)) => points.iter().any(|(_, name)| *name == program),
        (Some("tp_btf"), Hook::Btf(_, name)) => *name == program,
        _ => false,
    });
    by_it.map(|state| state.probe.index).collect()
}

/// Shares `ns` out to the probes by their runs between two readings; how much that was.
fn share(
    sums: &mut [Option<u64>; PROBE_COUNTERS],
    served: &[usize],
    ns: u64,
    before: &[u64; PROBE_COUNTERS],
    now: &[u64; PROBE_COUNTERS],
) -> u64 {
    let at = |counts: &[u64; PROBE_COUNTERS], probe: usize| counts.get(probe).copied().unwrap_or(0);
    let runs = |probe: usize| u128::from(at(now, probe).wrapping_sub(at(before, probe)));
    let all: u128 = served.iter().map(|probe| runs(*probe)).sum();
    let mut given = 0;
    for probe in served {
        let part = (u128::from(ns) * runs(*probe)).checked_div(all).unwrap_or(0) as u64;
        if let Some(sum) = sums.get_mut(*probe) {
            sum::add(sum.get_or_insert_default(), part);
            sum::add(&mut given, part);
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use loopscope_probe::probe;

    use super::*;
    use crate::kernel::{Attempt, table::PROBES};

    fn states(backend: &'static str) -> Vec<ProbeState> {
        let attempt = Attempt { backend, error: None };
        PROBES.iter().map(|probe| ProbeState { probe, attempts: vec![attempt.clone()] }).collect()
    }

    fn read(program: &str, ns: u64, runs: u64) -> RunTime {
        RunTime { program: program.to_owned(), ns, runs }
    }

    fn runs(pairs: &[(usize, u64)]) -> Counters {
        let mut counters = Counters::default();
        pairs.iter().for_each(|(probe, runs)| counters.runs[*probe] = *runs);
        counters
    }

    #[test]
    fn what_serves_several_probes_is_shared_out_by_their_runs_and_nothing_falls_or_gets_lost() {
        let (mut meter, states) = (Meter::default(), states("tracepoint"));
        let mut sums = Costs::default();
        // Of an odd number of ns to three probes whose runs do not divide it, first one and then others at work.
        let steps =
            [(1_001, 3, 0, 0), (1_002, 3, 4, 0), (9_999, 3, 4, 11), (10_000, 3, 4, 11), (10_007, 5, 4, 11)];
        for (ns, pwait, pwait2, poll) in steps {
            let counters =
                runs(&[(probe::EPOLL_PWAIT, pwait), (probe::EPOLL_PWAIT2, pwait2), (probe::PPOLL, poll)]);
            let before = sums.clone();
            meter.take(&[read("exit_wait", ns, 99)], &counters, &states);
            sums.add(meter.window());
            meter.begin();
            for (now, before) in sums.probes.iter().zip(before.probes) {
                assert!(*now >= before, "{now:?} {before:?}");
            }
        }
        let given: u64 = sums.probes.iter().flatten().sum();
        assert!((10_005..=10_007).contains(&given), "all but what division leaves over: {given}");
        assert!(sums.probes[probe::PPOLL].unwrap() > 8_000, "it alone ran then: {sums:?}");
        assert_eq!(sums.probes[probe::TASK_EXIT], None, "another program serves it");
    }

    #[test]
    fn time_without_a_run_that_was_counted_yet_waits_for_one() {
        let (mut meter, states) = (Meter::default(), states("tracepoint"));
        meter.take(&[read("exit_epoll_ctl", 500, 1)], &runs(&[]), &states);
        assert_eq!(meter.window().probes[probe::EPOLL_CTL], Some(0));
        meter.take(&[read("exit_epoll_ctl", 500, 1)], &runs(&[(probe::EPOLL_CTL, 1)]), &states);
        assert_eq!(meter.window().probes[probe::EPOLL_CTL], Some(500));
    }

    #[test]
    fn what_runs_for_every_call_is_nobodys_share() {
        let (mut meter, states) = (Meter::default(), states("raw"));
        let counters = runs(&[(probe::EPOLL_PWAIT, 2)]);
        meter.take(&[read("sys_enter", 700, 10), read("exit_wait", 0, 0)], &counters, &states);
        meter.begin();
        meter.take(&[read("sys_enter", 950, 15), read("exit_wait", 0, 0)], &counters, &states);
        assert_eq!(meter.window().programs, BTreeMap::from([("sys_enter".to_owned(), [250, 5])]));
        assert_eq!(meter.window().probes, [None; PROBE_COUNTERS]);
    }
}
