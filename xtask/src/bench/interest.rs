//! What reading interest sets costs the reader, and the process that is read, beside reads of /proc/PID/fdinfo.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    figures::{Spread, Target, table},
    tools::Tools,
};

/// How long one run of the example may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest epoll_ctl beside something, us.
#[derive(Deserialize, Serialize)]
struct Longest {
    longest: f64,
    p9999: f64,
    calls: u64,
}

/// As [`Longest`], beside each of the three.
#[derive(Deserialize, Serialize)]
struct Stalls {
    alone: Longest,
    passes: Longest,
    fdinfo: Longest,
}

/// What the example bench_interest says.
#[derive(Deserialize, Serialize)]
struct Round {
    entries: u64,
    us_per_1000_fds: f64,
    ns_per_entry: f64,
    longest_run_us: f64,
    longest_ctl_us: Stalls,
    backlog_ns: Backlog,
}

/// ns of an epoll_wait that finds 64 entries ready.
#[derive(Deserialize, Serialize)]
struct Backlog {
    bare: f64,
    off: f64,
    on: f64,
}

impl Backlog {
    /// What the probes add with the ready list's length, over what they add without.
    fn ratio(&self) -> f64 {
        (self.on - self.bare) / (self.off - self.bare)
    }
}

/// The result of this part.
#[derive(Serialize)]
pub struct Interest {
    ns_per_entry: Spread,
    us_per_1000_fds: Spread,
    longest_run_us: Spread,
    ctl_alone_us: Spread,
    ctl_beside_passes_us: Spread,
    ctl_beside_fdinfo_us: Spread,
    backlog_ratio: Spread,
    rounds: Vec<Round>,
}

/// Runs the example so many times.
pub fn measure(tools: &Tools, rounds: u32) -> Result<Interest> {
    let mut all: Vec<Round> = Vec::new();
    for round in 1..=rounds {
        println!("interest sets: round {round} of {rounds}");
        let said = tools.example("bench_interest", &[])?.finish(PATIENCE)?;
        all.push(serde_json::from_str(said.trim()).with_context(|| format!("bench_interest said {said:?}"))?);
    }
    let of = |figure: fn(&Round) -> f64| Spread::of(all.iter().map(figure)).context("a figure is no number");
    Ok(Interest {
        ns_per_entry: of(|round| round.ns_per_entry)?,
        us_per_1000_fds: of(|round| round.us_per_1000_fds)?,
        longest_run_us: of(|round| round.longest_run_us)?,
        ctl_alone_us: of(|round| round.longest_ctl_us.alone.longest)?,
        ctl_beside_passes_us: of(|round| round.longest_ctl_us.passes.longest)?,
        ctl_beside_fdinfo_us: of(|round| round.longest_ctl_us.fdinfo.longest)?,
        backlog_ratio: of(|round| round.backlog_ns.ratio())?,
        rounds: all,
    })
}

impl Interest {
    /// The bounds of the issue.
    pub fn targets(&self) -> Vec<Target> {
        let target = |what: &str, bound: &str, figure: String, reached: bool| Target {
            what: what.to_owned(),
            bound: bound.to_owned(),
            figure,
            reached,
        };
        let stall = self.ctl_beside_fdinfo_us.median / self.ctl_beside_passes_us.median;
        vec![
            target("a watched entry", "60 ns", self.ns_per_entry.show(0), self.ns_per_entry.median <= 60.0),
            target(
                "1,000 descriptors",
                "12 us",
                self.us_per_1000_fds.show(1),
                self.us_per_1000_fds.median <= 12.0,
            ),
            target(
                "longest run of the walk",
                "200 us",
                self.longest_run_us.show(0),
                self.longest_run_us.median <= 200.0,
            ),
            target("longest epoll_ctl, fdinfo over passes", "10", format!("{stall:.1}"), stall >= 10.0),
            target(
                "added with backlog over without, 64 ready",
                "1.3",
                self.backlog_ratio.show(2),
                self.backlog_ratio.median <= 1.3,
            ),
        ]
    }

    /// For readers.
    pub fn markdown(&self) -> String {
        let row = |what: &str, spread: &Spread| vec![what.to_owned(), spread.show(1)];
        let rows = [
            row("CPU time for an entry more, of 15,000 (ns)", &self.ns_per_entry),
            row("CPU time for 1,000 descriptors more, none of them epoll (us)", &self.us_per_1000_fds),
            row("longest run of the program (us)", &self.longest_run_us),
            row("longest epoll_ctl, alone (us)", &self.ctl_alone_us),
            row("longest epoll_ctl beside passes (us)", &self.ctl_beside_passes_us),
            row("longest epoll_ctl beside reads of fdinfo (us)", &self.ctl_beside_fdinfo_us),
            vec![
                "added to an epoll_wait that finds 64 ready, with backlog over without".to_owned(),
                self.backlog_ratio.show(2),
            ],
        ];
        format!("## Interest sets\n\n{}", table(&["what", "median (least to greatest round)"], &rows))
    }
}
