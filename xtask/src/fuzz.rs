//! `cargo xtask fuzz`: builds the targets of fuzz/ with the stable compiler and runs each for a while.
//!
//! Coverage instrumentation is a matter of stable flags; what a nightly would add is the address sanitizer, which finds
//! little in a program that has hardly any unsafe code. `cargo fuzz run TARGET` builds the same with it. Keeps what a run
//! finds under target/, and must not write into the seeds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process;

/// As cargo-fuzz sets them: LLVM's coverage for libFuzzer, and the checks that a debug build has.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

const TARGET_DIR: &str = "target/fuzz";

/// Arguments of `fuzz`.
#[derive(Args)]
pub struct FuzzArgs {
    /// Seconds for each target
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Only these: btf, config, decode, http, recording
    targets: Vec<String>,
}

impl FuzzArgs {
    /// What every run of the tests does: each target for half a minute, since everything has to fit into an hour.
    pub fn short() -> FuzzArgs {
        FuzzArgs { seconds: 30, targets: Vec::new() }
    }
}

/// Runs the command.
pub fn run(args: &FuzzArgs) -> Result<()> {
    let root = process::workspace_root()?;
    let all = targets(&root)?;
    if let Some(unknown) = args.targets.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(", "));
    }
    let wanted = if args.targets.is_empty() { all } else { args.targets.clone() };
    let programs = build(&root)?;
    // All of them, so that one finding does not hide another one.
    let failed: Vec<String> =
        wanted.into_iter().filter(|target| !survives(&root, &programs, target, args.seconds)).collect();
    if !failed.is_empty() {
        bail!(
            "findings in {}: the input is under {TARGET_DIR}/findings, the report above",
            failed.join(", ")
        );
    }
    Ok(())
}

/// Every target, which is every file of the folder.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let stems = entries.flatten().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = stems.collect();
    names.sort();
    Ok(names)
}

/// Builds all targets; gives the folder that they are in.
fn build(root: &Path) -> Result<PathBuf> {
    let about = process::capture(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("read rustc's host")?;
    let mut cargo = Command::new("cargo");
    process::isolate(&mut cargo).current_dir(root).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    // With a target, so that build scripts and macros are built without the flags.
    cargo.args(["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target", host]);
    process::run(cargo.args(["--target-dir", TARGET_DIR]))?;
    Ok(root.join(TARGET_DIR).join(host).join("release"))
}

/// Runs a target from its seeds and from what earlier runs found; whether nothing was wrong.
fn survives(root: &Path, programs: &Path, target: &str, seconds: u32) -> bool {
    let run = || -> Result<()> {
        let found = root.join(TARGET_DIR).join("corpus").join(target);
        let findings = root.join(TARGET_DIR).join("findings").join(target);
        for folder in [&found, &findings] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let mut command = Command::new(programs.join(target));
        command.arg(format!("-max_total_time={seconds}")).args(["-timeout=20", "-rss_limit_mb=3000"]);
        command.args(["-max_len=65536", "-verbosity=0", "-print_final_stats=1"]);
        command.arg(format!("-artifact_prefix={}/", findings.display()));
        process::run(command.arg(found).arg(root.join("fuzz/corpus").join(target)))
    };
    run().inspect_err(|error| println!("  {target}: {error:#}")).is_ok()
}
