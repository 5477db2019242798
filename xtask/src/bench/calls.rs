//! ns per system call, with each tool attached: the same process makes the same calls under all of them, in turns.
//!
//! What a tool adds is compared within a round, where both sides share the process, its memory and the minute.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    figures::{Ratio, Spread, Target, rotated, table},
    others,
    started::Output,
    tools::{Tool, Tools},
};

/// The calls; the last one is not observed by any tool but strace.
const CALLS: [&str; 4] = ["epoll_wait", "poll", "select", "getppid"];
/// The call that the bounds are about.
const WAIT: &str = "epoll_wait";
const UNPROBED: &str = "getppid";

/// How long bench_calls may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Batches and calls per batch.
struct Amount {
    batches: u32,
    calls: u32,
}

impl Amount {
    /// strace makes a call a hundred times as slow.
    fn of(tool: Tool, quick: bool) -> Amount {
        match (tool, quick) {
            (Tool::Strace, true) => Amount { batches: 5, calls: 20 },
            (Tool::Strace, false) => Amount { batches: 25, calls: 100 },
            (_, true) => Amount { batches: 50, calls: 1000 },
            (_, false) => Amount { batches: 400, calls: 1000 },
        }
    }
}

/// What bench_calls says of a call: ns per call, the least and the median of its batches.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Timing {
    best: f64,
    median: f64,
}

/// What was measured in a round: per tool and call.
#[derive(Default, Serialize)]
struct Round {
    timings: BTreeMap<Tool, BTreeMap<String, Timing>>,
    /// Who else observed system calls meanwhile.
    disturbed_by: Vec<String>,
}

/// One cell of the table, over all rounds.
#[derive(Serialize)]
struct Cell {
    tool: Tool,
    call: &'static str,
    /// The least ns per call of any batch.
    best: f64,
    /// Of the rounds' medians.
    nanos: Spread,
    /// Of what is added to the bare call, each round by itself.
    added: Spread,
}

/// What a way of loopscope adds, compared.
#[derive(Serialize)]
struct Compared {
    backend: Tool,
    call: &'static str,
    /// (ours - bare) / (empty - bare)
    to_empty: Option<Ratio>,
    /// (ours - bare) / (bpftrace - bare)
    to_bpftrace: Option<Ratio>,
    /// ours - empty, ns
    beyond_empty: Option<Spread>,
}

/// The result of this part.
#[derive(Serialize)]
pub struct Calls {
    cpu: u32,
    cells: Vec<Cell>,
    compared: Vec<Compared>,
    rounds: Vec<Round>,
}

/// Measures.
pub fn measure(tools: &Tools, rounds: u32, quick: bool) -> Result<Calls> {
    let mut patience = others::patience(quick);
    let mut measured = Vec::new();
    let mut cpu = 0;
    for i in 0..rounds {
        println!("system calls: round {} of {rounds}", i + 1);
        let (round, on) = measure_round(tools, i, quick, &mut patience)?;
        cpu = on;
        measured.push(round);
    }
    Ok(Calls { cpu, cells: cells(tools, &measured), compared: compared(tools, &measured), rounds: measured })
}

/// One round, again if others came in between and there is time; and the CPU.
fn measure_round(tools: &Tools, number: u32, quick: bool, patience: &mut Duration) -> Result<(Round, u32)> {
    loop {
        let mut others = others::wait_until_alone(patience);
        let started = Instant::now();
        let mut calls = tools.example("bench_calls", &[])?;
        let hello: Hello = serde_json::from_str(&calls.wait_for(Output::Out, "cpu")?)?;
        let mut round = Round::default();
        for tool in rotated(&tools.usable, number) {
            let attached = tools.attach(tool, calls.pid())?;
            let amount = Amount::of(tool, quick);
            let said = calls.ask(&format!("{} {}", amount.batches, amount.calls))?;
            let timings = serde_json::from_str(&said).with_context(|| format!("read `{said}`"))?;
            others.append(&mut others::observing(attached.pid()));
            attached.detach()?;
            round.timings.insert(tool, timings);
        }
        calls.finish(PATIENCE)?;
        if others.is_empty() || patience.is_zero() {
            round.disturbed_by = others.into_iter().collect();
            return Ok((round, hello.cpu));
        }
        *patience = patience.saturating_sub(started.elapsed());
        println!("  again: {} came in between", others::list(&others));
    }
}

/// bench_calls' first line.
#[derive(Deserialize)]
struct Hello {
    cpu: u32,
}

impl Round {
    fn nanos(&self, tool: Tool, call: &str) -> Option<f64> {
        Some(self.timings.get(&tool)?.get(call)?.median)
    }

    /// What `tool` costs more than `base`.
    fn added(&self, tool: Tool, base: Tool, call: &str) -> Option<f64> {
        Some(self.nanos(tool, call)? - self.nanos(base, call)?)
    }
}

fn cells(tools: &Tools, rounds: &[Round]) -> Vec<Cell> {
    let pairs = tools.usable.iter().flat_map(|tool| CALLS.map(|call| (*tool, call)));
    let cell = |(tool, call): (Tool, &'static str)| {
        let best = rounds.iter().filter_map(|round| Some(round.timings.get(&tool)?.get(call)?.best));
        Some(Cell {
            tool,
            call,
            best: best.min_by(f64::total_cmp)?,
            nanos: Spread::of(rounds.iter().filter_map(|round| round.nanos(tool, call)))?,
            added: Spread::of(rounds.iter().filter_map(|round| round.added(tool, Tool::Bare, call)))?,
        })
    };
    pairs.filter_map(cell).collect()
}

fn compared(tools: &Tools, rounds: &[Round]) -> Vec<Compared> {
    let pairs = tools.backends().flat_map(|backend| CALLS.map(|call| (backend, call)));
    pairs
        .map(|(backend, call)| {
            let pairs = |other: Tool| -> Vec<(f64, f64)> {
                let pair = |round: &Round| {
                    Some((round.added(backend, Tool::Bare, call)?, round.added(other, Tool::Bare, call)?))
                };
                rounds.iter().filter_map(pair).collect()
            };
            Compared {
                backend,
                call,
                to_empty: Ratio::of(&pairs(Tool::Empty)),
                to_bpftrace: Ratio::of(&pairs(Tool::Bpftrace)),
                beyond_empty: Spread::of(
                    rounds.iter().filter_map(|round| round.added(backend, Tool::Empty, call)),
                ),
            }
        })
        .collect()
}

impl Calls {
    /// The bounds that the issue sets.
    pub fn targets(&self) -> Vec<Target> {
        self.compared.iter().flat_map(|compared| self.targets_of(compared)).collect()
    }

    fn targets_of(&self, compared: &Compared) -> Vec<Target> {
        let name = compared.backend.name();
        let ratio = |other: &str, bound: f64, ratio: Option<Ratio>| {
            Some(Target {
                what: format!("{name}: added per {WAIT}, times {other}"),
                bound: format!("at most {bound}"),
                figure: ratio?.show(),
                reached: ratio?.ratio <= bound,
            })
        };
        let targets = match compared.call {
            WAIT => vec![
                ratio("what empty tracepoints add", 2.5, compared.to_empty),
                ratio("what bpftrace adds", 0.5, compared.to_bpftrace),
            ],
            UNPROBED => vec![self.unprobed(compared)],
            _ => Vec::new(),
        };
        targets.into_iter().flatten().collect()
    }

    /// A call that is not observed costs what it costs with empty tracepoints.
    fn unprobed(&self, compared: &Compared) -> Option<Target> {
        let beyond = compared.beyond_empty?;
        let empty = self.cells.iter().find(|cell| cell.tool == Tool::Empty && cell.call == UNPROBED)?;
        let percent = beyond.median / empty.nanos.median * 100.0;
        Some(Target {
            what: format!("{}: {UNPROBED} beyond {UNPROBED} with empty tracepoints", compared.backend.name()),
            bound: "at most 5 ns or 5 %".to_owned(),
            figure: format!("{} ns, {percent:.1} %", beyond.show(1)),
            reached: beyond.median <= 5.0 || percent <= 5.0,
        })
    }

    /// The part of the document.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "## System calls, ns per call\n\n\
             Median over {} rounds (of each round's median batch); in brackets what is added to the bare call, median \
             and spread of the rounds' differences; last the best batch of all. One process pinned to CPU {}, under \
             each tool in turns. The waits have one ready descriptor and do not sleep, so this is the cost itself.\n\n",
            self.rounds.len(),
            self.cpu
        );
        let tools: Vec<Tool> =
            Tool::ALL.into_iter().filter(|tool| self.cells.iter().any(|cell| cell.tool == *tool)).collect();
        let rows: Vec<Vec<String>> = tools.iter().map(|tool| self.row(*tool)).collect();
        text += &table(&["", CALLS[0], CALLS[1], CALLS[2], CALLS[3]], &rows);
        text +=
            "\nWhat loopscope adds, relative to what the others add (median, least and greatest round):\n\n";
        let ratio = |ratio: &Option<Ratio>| ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.show());
        let rows: Vec<Vec<String>> = self
            .compared
            .iter()
            .filter(|compared| compared.call != UNPROBED)
            .map(|row| {
                vec![
                    row.backend.name().to_owned(),
                    row.call.to_owned(),
                    ratio(&row.to_empty),
                    ratio(&row.to_bpftrace),
                ]
            })
            .collect();
        text += &table(&["", "call", "of empty tracepoints", "of bpftrace"], &rows);
        let disturbed = self.rounds.iter().filter(|round| !round.disturbed_by.is_empty()).count();
        if disturbed > 0 {
            text += &format!(
                "\n**{disturbed} of {} rounds are disturbed**: somebody else observed system calls at the time (the \
                 JSON says who), which makes every line dearer, the bare one too.\n",
                self.rounds.len()
            );
        }
        text
    }

    fn row(&self, tool: Tool) -> Vec<String> {
        let cell = |call: &str| {
            let cell = self.cells.iter().find(|cell| cell.tool == tool && cell.call == call);
            cell.map_or_else(|| "-".to_owned(), Cell::show)
        };
        std::iter::once(tool.name().to_owned()).chain(CALLS.map(cell)).collect()
    }
}

impl Cell {
    fn show(&self) -> String {
        let added =
            if self.tool == Tool::Bare { String::new() } else { format!(" [+{}]", self.added.show(0)) };
        format!("{:.0}{added}, best {:.0}", self.nanos.median, self.best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(nanos: [(Tool, f64); 3]) -> Round {
        let timings =
            |nanos| BTreeMap::from([(WAIT.to_owned(), Timing { best: nanos - 1.0, median: nanos })]);
        Round {
            timings: nanos.into_iter().map(|(tool, nanos)| (tool, timings(nanos))).collect(),
            disturbed_by: Vec::new(),
        }
    }

    #[test]
    fn what_is_added_is_compared_within_a_round() {
        let rounds = [
            round([(Tool::Bare, 100.0), (Tool::Empty, 150.0), (Tool::Tracepoint, 200.0)]),
            round([(Tool::Bare, 300.0), (Tool::Empty, 350.0), (Tool::Tracepoint, 410.0)]),
        ];
        let usable = vec![Tool::Bare, Tool::Empty, Tool::Tracepoint];
        let tools = Tools::already(usable);
        let compared = compared(&tools, &rounds);
        let ratio = compared.iter().find(|row| row.call == WAIT).unwrap().to_empty.unwrap();
        assert_eq!((ratio.ratio, ratio.rounds.min, ratio.rounds.max), (2.1, 2.0, 2.2));
        let calls = Calls { cpu: 0, cells: cells(&tools, &rounds), compared, rounds: Vec::new() };
        assert!(calls.targets().iter().all(|target| target.reached));
        assert!(calls.markdown().contains("| empty tracepoints | 250 [+50 (50 to 50)], best 149 |"));
    }
}
