//! Makes epoll waits and epoll_ctl calls that it counts itself, and prints the counts as JSON: what the tests of
//! loopscope compare a report with.
//!
//! `workload [--name COMM] [--go] [--quit] SCENARIO [NUMBER...]`: one JSON object per line on stdout; stays until
//! stdin ends, unless `--quit`; starts at the first line on stdin with `--go`. Its times are CLOCK_MONOTONIC ns,
//! as the probes'. It must not use loopscope's own code: what it says has to come from another source.

mod aio;
mod asked;
mod calls;
mod ctl;
mod edges;
mod gaps;
mod hot;
mod inspected;
mod instances;
mod lives;
mod odd;
mod ready;
mod rest;
mod results;
mod rings;
mod sets;
mod tally;
mod timing;
mod watching;

use std::{env, ffi::CString, io, io::Write as _};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What the command line asks for.
struct Options {
    quit: bool,
    scenario: String,
    numbers: Vec<u64>,
}

impl Options {
    /// The n-th number after the scenario.
    fn number(&self, n: usize) -> Result<u64> {
        self.numbers.get(n).copied().with_context(|| format!("{} needs a number {}", self.scenario, n + 1))
    }
}

fn main() -> Result<()> {
    let options = options()?;
    if let Some(done) = run(&options)? {
        say(&done)?;
    }
    if !options.quit {
        linger();
    }
    Ok(())
}

/// Reads the command line; a name and `--go` take effect at once.
fn options() -> Result<Options> {
    let mut options = Options { quit: false, scenario: String::new(), numbers: Vec::new() };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--name" => name(&words.next().context("--name needs a name")?)?,
            "--go" => drop(hear()),
            "--quit" => options.quit = true,
            _ if options.scenario.is_empty() => options.scenario = word,
            _ => options.numbers.push(word.parse().with_context(|| format!("{word} is no number"))?),
        }
    }
    Ok(options)
}

/// Runs a scenario; None where it has printed by itself.
fn run(options: &Options) -> Result<Option<Value>> {
    let n = |i| options.number(i);
    Ok(Some(match options.scenario.as_str() {
        "results" => results::run(n(0)?)?,
        "plain" => results::plain(n(0)?)?,
        "ctl" => ctl::run()?,
        "instances" => instances::several(n(0)?, n(1)?)?,
        "instances-closed" => instances::several_closed(n(0)?, n(1)?)?,
        "rush" => instances::rush(n(0)?)?,
        "shared" => instances::shared(n(0)?, n(1)?)?,
        "generations" => instances::generations(n(0)?)?,
        "threads" => lives::threads(n(0)?, n(1)?)?,
        "crowd" => lives::crowd(n(0)?)?,
        "processes" => lives::processes(n(0)?, n(1)?)?,
        "exec" => return lives::exec(n(0)?, n(1)?),
        "exec-thread" => return lives::exec_from_thread(n(0)?, n(1)?),
        "fork" => lives::fork(n(0)?)?,
        "ready" => ready::run(n(0)?, n(1)?, n(2)?)?,
        "watching" => watching::many(n(0)?, n(1)?, n(2)?)?,
        "watching-inherited" => watching::inherited(n(0)?, n(1)?)?,
        "watching-passed" => return watching::passed(n(0)?, n(1)?).map(|()| None),
        "watching-waited" => return watching::waited(n(0)?).map(|()| None),
        "watching-nested" => watching::nested()?,
        "watching-moving" => watching::moving(n(0)?, n(1)?)?,
        "closed" => lives::closed(n(0)?)?,
        "busy" => timing::busy(n(0)?, n(1)?)?,
        "two" => timing::two(n(0)?)?,
        "sets" => sets::run(n(0)?, n(1)?)?,
        "sets-streaks" => sets::streaks()?,
        "sets-one" => sets::one(n(0)?, n(1)?)?,
        "sets-between" => sets::between(n(0)?, n(1)?)?,
        "sets-highest" => sets::highest(n(0)?)?,
        "sets-gaps" => gaps::run()?,
        "sums" => gaps::sums(n(0)?, n(1)?)?,
        "singles" => instances::singles(n(0)?)?,
        "many" => instances::many(n(0)?)?,
        "rest" => rest::run(n(0)?, n(1)?, n(2)?)?,
        "hot" => hot::run()?,
        "inspected" => return inspected::run().map(|()| None),
        "inspected-kinds" => inspected::kinds()?,
        "inspected-inherited" => return inspected::inherited(n(0)? == 1).map(|()| None),
        "inspected-calls" => asked::run()?,
        "inspected-shared" => return inspected::shared(n(0)?).map(|()| None),
        "headless" => return edges::headless(n(0)?),
        "same-process" => edges::same_process()?,
        "same-thread" => edges::same_thread()?,
        #[cfg(target_arch = "x86_64")]
        "compat" => edges::compat(n(0)?)?,
        "refused" => edges::refused(n(0)?)?,
        "rings" => rings::run(n(0)?)?,
        "rings-epoll" => rings::epoll(n(0)?)?,
        "rings-sums" => rings::sums(n(0)?)?,
        "rings-submits" => return rings::submits(n(0)?).map(|()| None),
        "rings-open" => return rings::open().map(|()| None),
        "aio" => aio::run(n(0)?)?,
        "nanos" => odd::nanos(n(0)?)?,
        "busy-poll" => odd::busy_poll(n(0)?)?,
        "traced" => odd::traced(n(0)?)?,
        "vfork" => odd::vfork(n(0)?)?,
        "inner" => odd::inner(n(0)?)?,
        "echo" => return timing::echo().map(|()| None),
        other => bail!("no scenario {other:?}"),
    }))
}

/// Names this process.
fn name(comm: &str) -> Result<()> {
    Ok(rustix::thread::set_name(&CString::new(comm)?)?)
}

/// Prints one object, in one write: processes share the pipe.
fn say(value: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{value}\n").as_bytes())?;
    Ok(out.flush()?)
}

/// Waits for a line on stdin; None at its end.
fn hear() -> Option<String> {
    let mut line = String::new();
    (io::stdin().read_line(&mut line).ok()? > 0).then_some(line)
}

/// Stays until stdin ends.
fn linger() {
    while hear().is_some() {}
}
