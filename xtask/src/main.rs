//! `cargo xtask`: the project's own tools, one file per command.
//!
//! This file only parses the command line and maps errors to the exit code; it must not do work of its own.
//! Nothing here may end up in the agent: the agent is what a user runs, this is what a contributor runs.

mod bench;
mod build_probe;
mod dashboards;
mod debian;
mod deny;
mod dist;
mod fuzz;
mod lockfile;
mod process;
mod programs;
mod provenance;
mod test;
mod tidy;
mod toolchain;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tools.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                 everything that CI runs; as root on Debian it installs what it needs
  cargo xtask build-probe          compile the eBPF programs into probe-ebpf/prebuilt/ (commit the result)
  cargo xtask build-probe --check  prove that the committed object is what the sources give
  cargo xtask tidy                 the house rules that no other tool checks
  cargo xtask dashboards --verify  evaluate every expression of dashboards and rules against a real agent; as root
  cargo xtask dist                 static programs, a Debian package and a tar, in target/dist
  cargo xtask bench                what loopscope costs, beside what the alternatives cost; as root

Only stable Rust is needed for the agent: the compiled eBPF programs are part of the repository.
`build-probe` needs more (a compiler with the standard library's sources, and bpf-linker); it says what it
finds, and on Debian as root it installs what is missing. See CONTRIBUTING.md.";

#[derive(Subcommand)]
enum Command {
    /// Compile the eBPF programs into probe-ebpf/prebuilt/loopscope-probe.o
    ///
    /// Finds the compiler (Debian's rustc-web with rust-web-src, or rustup's nightly with rust-src) and
    /// bpf-linker 0.13, or installs them, and prints which it uses. Writes the stripped object and build.json,
    /// which records the versions, the flags and the hash of the sources. Built from the same sources with the
    /// same versions, the object is equal byte for byte wherever it is built.
    BuildProbe {
        /// Write nothing into the source tree: prove that the committed object is what the sources give
        ///
        /// Rebuilds into target/probe/rebuilt.o. With the recorded versions at hand the two must be equal byte
        /// for byte; with others that is not possible, and the command says so and names the rebuilt object,
        /// which LOOPSCOPE_PROBE_OBJECT makes the tests use.
        #[arg(long)]
        check: bool,
    },
    /// Run every check and every test: what CI runs
    ///
    /// Formatting, clippy, `build-probe --check`, build, unit tests, tests against the running kernel (root),
    /// documentation, licences, `tidy`. All steps run even when one fails; a table at the end sums up.
    /// As root on Debian it installs the programs that the tests observe, and says which.
    Test,
    /// Measure what loopscope costs, and what the alternatives cost
    ///
    /// ns per system call, bare and under empty tracepoints, each backend of loopscope, bpftrace and strace;
    /// throughput of nginx and redis off and on; CPU and memory of agent and kernel by loops and by rate. All in
    /// interleaved rounds, in half an hour, on a machine that should have nothing else to do. Needs root; on Debian
    /// it installs what it compares with. Writes docs/bench/latest.md and latest.json, or, when only a part or a
    /// quick run was asked for, the same into target/bench.
    Bench(bench::BenchArgs),
    /// Make Grafana's dashboards and Prometheus' rules, check them, or see them work
    ///
    /// Writes dashboards/*.json and dashboards/rules/ from the tables in xtask/src/dashboards, after every name in them
    /// was found in the agent's table of metrics. `--verify` starts Prometheus, the agent and real load on loopback and
    /// evaluates every expression of every panel and rule, for all groups and for each; it needs root, and on Debian it
    /// installs what it starts.
    Dashboards(dashboards::DashboardsArgs),
    /// Run the fuzz targets of fuzz/, ten minutes each where nothing else is said
    ///
    /// BTF reader, record decoder, configuration, recording reader and HTTP request handling, each from a corpus of seeds;
    /// stable Rust and a C++ compiler are enough. What is found stays under target/fuzz.
    Fuzz(fuzz::FuzzArgs),
    /// Boot other kernels in QEMU, and run the agent and its tests there
    ///
    /// Debian's 6.12 and 6.1 kernels, by software emulation: needs no root and no virtualisation, and installs nothing but
    /// QEMU (and, for arm64, a linker). Kernels come by apt into the user's cache.
    Vm(vm::VmArgs),
    /// Build what users install into target/dist: static programs, a Debian package and a tar for each architecture
    ///
    /// With man page, completions, the unit and its configuration. As root it installs the package into a folder, runs
    /// what it brought, and removes it. Another architecture than this one takes Debian, whose compiler is used.
    Dist(dist::DistArgs),
    /// Check the house rules: file headers, file length, SAFETY comments, no paths of one machine
    Tidy,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::BuildProbe { check: false } => build_probe::build(),
        Command::BuildProbe { check: true } => build_probe::check().map(drop),
        Command::Test => test::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Dashboards(args) => dashboards::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
