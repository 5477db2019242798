//! `cargo xtask bench`: what loopscope costs, measured beside what the alternatives cost.
//!
//! Builds, runs the parts one after the other and writes a table and JSON. Every figure is compared with another of
//! the same run, taken moments before or after, because machines differ and drift. Must not end, pin or reconfigure
//! anything that it did not start, and must not judge by its exit code: the figures are read, not passed.

mod calls;
mod document;
mod figures;
mod interest;
mod kernel_memory;
mod loops;
mod machine;
mod others;
pub mod servers;
pub mod started;
mod tools;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::process;
use document::Document;
use tools::Tools;

/// The examples of the agent that do the work which is measured.
const EXAMPLES: [&str; 4] = ["bench_calls", "bench_empty", "bench_interest", "bench_loops"];

/// Options of the command.
#[derive(Args)]
pub struct BenchArgs {
    /// How often everything is measured; the figures are medians over the rounds
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Two short rounds: shows that everything runs; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Only this part; repeatable
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// ns per system call
    Calls,
    /// Throughput of nginx and redis
    Servers,
    /// CPU and memory of the agent and the kernel, by loops and by rate
    Loops,
    /// Reading interest sets, beside /proc/PID/fdinfo
    Interest,
}

impl BenchArgs {
    fn rounds(&self) -> u32 {
        if self.quick { 2 } else { self.rounds }
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// Measures, prints the table, and writes it with the JSON: into docs/bench after a whole run, else into target/bench.
pub fn run(args: &BenchArgs) -> Result<()> {
    if !process::is_root() {
        bail!("the benchmark attaches probes: run it as root");
    }
    let root = process::workspace_root()?;
    let tools = Tools::new(build(&root)?)?;
    let mut document = Document::new(&root, args.rounds(), args.quick, &tools)?;
    if args.wants(Part::Calls) {
        document.calls = Some(calls::measure(&tools, args.rounds(), args.quick)?);
    }
    if args.wants(Part::Servers) {
        document.servers = servers::measure(&tools, args.rounds(), args.quick)?;
    }
    if args.wants(Part::Loops) {
        document.loops = Some(loops::measure(&tools, args.rounds(), args.quick)?);
    }
    if args.wants(Part::Interest) {
        document.interest = Some(interest::measure(&tools, args.rounds())?);
    }
    document.judge();
    let whole = !args.quick && args.only.is_empty();
    let folder = root.join(if whole { "docs/bench" } else { "target/bench" });
    document.write(&folder)
}

/// Builds the agent and the examples as users get them; the folder of the results.
fn build(root: &Path) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["build", "--quiet", "--release", "--locked", "--package", "loopscope"]);
    command.args(["--bin", "loopscope"]).args(EXAMPLES.iter().flat_map(|name| ["--example", name]));
    process::run(&mut command)?;
    // Ours is in the same target folder, whatever it is called: TARGET/debug/xtask.
    let own = env::current_exe().context("find the target folder")?;
    let target = own.parent().and_then(Path::parent).context("find the target folder")?;
    Ok(target.join("release"))
}
