//! `cargo xtask test`: every check and every test, in one command; CI runs nothing else.
//!
//! Runs all steps even when an early one fails, and sums up. Must not let anything that was not run look as if
//! it had passed: in CI (environment variable CI) it is a failure, elsewhere the table says "not run" and why.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::build_probe::{self, Checked};
use crate::fuzz::{self, FuzzArgs};
use crate::vm::{self, VmArgs};
use crate::{dashboards, debian, deny, process, programs, tidy, toolchain};

/// What the tests observe or compare with: the program and the Debian package that has it.
const OBSERVED: [(&str, &str); 11] = [
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    ("memcached", "memcached"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("strace", "strace"),
    ("bpftrace", "bpftrace"),
    ("bpftool", "bpftool"),
    ("tmux", "tmux"),
    ("prometheus", "prometheus"),
    ("chromium", "chromium"),
];

/// How a step ended.
enum Outcome {
    Passed,
    Failed(String),
    NotRun(String),
}

struct Step {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

struct Session {
    root: PathBuf,
    ci: bool,
    /// What the tests see beside our own environment.
    environment: Vec<(&'static str, OsString)>,
    steps: Vec<Step>,
}

/// Runs all steps; fails when one of them failed.
pub fn run() -> Result<()> {
    let ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    let mut session =
        Session { root: process::workspace_root()?, ci, environment: Vec::new(), steps: Vec::new() };
    if ci || process::is_root() {
        // Then a test that cannot load its programs fails; without it, it says so and is left out.
        session.environment.push(("LOOPSCOPE_REQUIRE_BPF", "1".into()));
    }
    // Packages put servers into /usr/sbin, which the PATH of a plain user lacks.
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    session.environment.extend(env::join_paths(dirs).ok().map(|path| ("PATH", path)));
    session.all();
    session.sum_up()
}

impl Session {
    fn all(&mut self) {
        self.step("set-up", |_| set_up());
        self.cargo_step("format", &["fmt", "--all", "--check"]);
        self.cargo_step(
            "clippy",
            &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        );
        self.step("probe", Session::check_probe);
        self.cargo_step("build", &["build", "--workspace", "--release", "--locked"]);
        self.step("test programs", Session::build_tests);
        self.step("unit tests", |session| session.test(&["--no-fail-fast", "--lib", "--bins"]));
        self.step("doc tests", |session| session.test(&["--doc"]));
        self.step("kernel tests", |session| session.kernel_tests(&["*"], &[]));
        self.step("kernel tests, raw backend", |session| {
            session.kernel_tests(&["exact", "exact_*", "inspect"], &[("LOOPSCOPE_TEST_BACKEND", "raw")])
        });
        self.step("native histograms", Session::native_histograms);
        self.step("kernels", |session| session.kernels());
        self.step("dashboards", |session| session.dashboards());
        self.step("fuzzing", |_| fuzz::run(&FuzzArgs::short()).map(|()| Outcome::Passed));
        self.step("documentation", |session| session.documentation());
        self.step("licences", |session| session.licences());
        self.step("tidy", |_| tidy::run().map(|()| Outcome::Passed));
    }

    fn step(&mut self, name: &'static str, run: impl FnOnce(&mut Session) -> Result<Outcome>) {
        println!("\n=== {name}");
        let start = Instant::now();
        let outcome = run(self).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let took = start.elapsed();
        let (said, why) = outcome.words();
        println!(
            "=== {name}: {said} after {:.1} s{}{why}",
            took.as_secs_f64(),
            if why.is_empty() { "" } else { ": " }
        );
        self.steps.push(Step { name, outcome, took });
    }

    fn cargo_step(&mut self, name: &'static str, args: &[&str]) {
        self.step(name, |session| process::run(session.cargo().args(args)).map(|()| Outcome::Passed));
    }

    /// The cargo that runs us (rustup's cargo chooses the same toolchain again), with the environment of the tests.
    fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.current_dir(&self.root).envs(environment);
        command
    }

    /// Tests of the one profile and the same features, so that all steps share what was built.
    fn test(&self, words: &[&str]) -> Result<Outcome> {
        process::run(self.cargo().arg("test").args(programs::OPTIONS).args(words)).map(|()| Outcome::Passed)
    }

    /// Builds all of them before the first runs: a compiler beside a test that watches the host disturbs it.
    fn build_tests(&mut self) -> Result<Outcome> {
        self.test(&["--no-run", "--lib", "--bins", "--test", "*"])?;
        let mut cargo = self.cargo();
        cargo.arg("build").args(programs::OPTIONS).args(["--example", "workload"]);
        let built = programs::build(&mut cargo)?;
        let workload = built.into_iter().find(|program| program.name == "workload");
        let workload = workload.context("find the example workload in what cargo built")?;
        self.environment.push(("LOOPSCOPE_TEST_WORKLOAD", workload.file.into_os_string()));
        Ok(Outcome::Passed)
    }

    /// Proves the committed object; where that takes another compiler than is at hand, tests the rebuilt one.
    fn check_probe(&mut self) -> Result<Outcome> {
        build_probe::check_recorded(&self.root)?;
        if !toolchain::can_be_had() {
            return self.left_out(
                "no compiler for the eBPF programs here, and no way to install one (CONTRIBUTING.md)",
            );
        }
        if let Checked::Rebuilt(object) = build_probe::check()? {
            self.environment.push(("LOOPSCOPE_PROBE_OBJECT", object.into_os_string()));
        }
        Ok(Outcome::Passed)
    }

    /// The tests that load the programs into the running kernel: one at a time, since they observe the whole host.
    /// The tests in `agent/tests` whose names match, with more in their environment.
    fn kernel_tests(&self, names: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
        if !has_rust_files(&self.root.join("agent/tests")) {
            return self.left_out("there are none in agent/tests");
        }
        if !process::is_root() {
            return self.left_out("they need root");
        }
        let names = names.iter().flat_map(|name| ["--test", name]);
        let mut cargo = self.cargo();
        cargo.arg("test").args(programs::OPTIONS).arg("--no-fail-fast").args(names);
        process::run(cargo.args(["--", "--test-threads=1"]).envs(environment.iter().copied()))?;
        Ok(Outcome::Passed)
    }

    /// The one cargo feature: its lints and tests.
    fn native_histograms(&mut self) -> Result<Outcome> {
        const FEATURE: [&str; 2] = ["--features", "loopscope/native-histograms"];
        let lints = ["--workspace", "--locked", "--all-targets", "--", "-D", "warnings"];
        process::run(self.cargo().arg("clippy").args(FEATURE).args(lints))?;
        let tests = ["--lib", "--test", "agent_native"];
        self.test(&[&FEATURE[..], &["--no-run"], &tests].concat())?;
        self.test(&[&FEATURE[..], &["--lib", "export"]].concat())?;
        if process::is_root() {
            self.test(&[&FEATURE[..], &["--test", "agent_native"]].concat())?;
        }
        Ok(Outcome::Passed)
    }

    /// Debian's kernels in QEMU: a part of what `cargo xtask vm` does.
    fn kernels(&self) -> Result<Outcome> {
        if !debian::is_debian() {
            return self.left_out("the kernels are Debian's and come by apt-get, which is not here");
        }
        if process::find("qemu-system-x86_64").is_none() && !debian::can_install() {
            return self.left_out("qemu-system-x86_64 is not on PATH (Debian package qemu-system-x86)");
        }
        println!("  a part: the whole is `cargo xtask vm`");
        vm::run(&VmArgs::short()).map(|()| Outcome::Passed)
    }

    /// Are the committed dashboards and rules what the tables give, do the rules fire as they should, and does each
    /// expression have data when a real agent is scraped?
    fn dashboards(&self) -> Result<Outcome> {
        dashboards::check_committed(&self.root)?;
        for arguments in [
            ["check", "config", "dashboards/prometheus.example.yml"],
            ["check", "rules", "dashboards/rules/loopscope.rules.yml"],
            ["test", "rules", "dashboards/rules/loopscope.test.yml"],
        ] {
            if process::find("promtool").is_none() {
                return self.left_out("promtool is not on PATH (Debian package prometheus)");
            }
            process::run(Command::new("promtool").current_dir(&self.root).args(arguments))?;
        }
        if !process::is_root() {
            return self.left_out("the verification needs root");
        }
        dashboards::verify(&self.root)?;
        Ok(Outcome::Passed)
    }

    fn documentation(&self) -> Result<Outcome> {
        let args = ["doc", "--workspace", "--no-deps", "--locked"];
        process::run(self.cargo().env("RUSTDOCFLAGS", "-Dwarnings").args(args))?;
        Ok(Outcome::Passed)
    }

    fn licences(&self) -> Result<Outcome> {
        match deny::find_or_install() {
            Ok(cargo_deny) => deny::check(&self.root, &cargo_deny).map(|()| Outcome::Passed),
            Err(error) => self.left_out(&format!("no cargo-deny: {error:#}")),
        }
    }

    fn left_out(&self, why: &str) -> Result<Outcome> {
        if self.ci {
            bail!("not run, which CI does not accept: {why}");
        }
        Ok(Outcome::NotRun(why.to_owned()))
    }

    fn sum_up(&self) -> Result<()> {
        println!("\n=== summary");
        self.steps.iter().for_each(|step| println!("{}", step.line()));
        let (passed, failed, skipped) = tally(&self.steps);
        println!("steps: {passed} passed, {failed} failed, {skipped} skipped");
        if failed > 0 {
            bail!("{failed} of {} steps failed", self.steps.len());
        }
        Ok(())
    }
}

impl Outcome {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Outcome::Passed => ("ok", ""),
            Outcome::Failed(why) => ("FAILED", why),
            Outcome::NotRun(why) => ("not run", why),
        }
    }
}

impl Step {
    fn line(&self) -> String {
        let (said, why) = self.outcome.words();
        let line = format!("  {said:<8} {:<14} {:>7.1} s  {why}", self.name, self.took.as_secs_f64());
        line.trim_end().to_owned()
    }
}

fn tally(steps: &[Step]) -> (usize, usize, usize) {
    let count = |said: &str| steps.iter().filter(|step| step.outcome.words().0 == said).count();
    (count("ok"), count("FAILED"), count("not run"))
}

/// Installs the programs that the tests observe, where that is possible, else says what is missing.
fn set_up() -> Result<Outcome> {
    let missing = OBSERVED.iter().filter(|(program, _)| process::find(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        println!("  everything that the tests observe is installed");
    } else {
        debian::install(&missing, "the tests observe them or compare with them")?;
        let servers = [
            ("haproxy", "haproxy"),
            ("nginx-light", "nginx"),
            ("memcached", "memcached"),
            ("redis-server", "redis-server"),
            ("prometheus", "prometheus"),
        ];
        let installed = servers.iter().filter(|(package, _)| missing.contains(package));
        debian::stop_services(&installed.map(|(_, service)| *service).collect::<Vec<_>>())?;
    }
    Ok(Outcome::Passed)
}

fn has_rust_files(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|ext| ext == "rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(outcome: Outcome) -> Step {
        Step { name: "clippy", outcome, took: Duration::from_millis(1500) }
    }

    #[test]
    fn what_was_not_run_is_neither_passed_nor_failed() {
        let steps =
            [step(Outcome::Passed), step(Outcome::NotRun("why".into())), step(Outcome::Failed("x".into()))];
        assert_eq!(tally(&steps), (1, 1, 1));
        assert_eq!(
            steps.map(|step| step.line()),
            [
                "  ok       clippy             1.5 s",
                "  not run  clippy             1.5 s  why",
                "  FAILED   clippy             1.5 s  x",
            ]
        );
    }

    #[test]
    fn ci_accepts_nothing_that_was_left_out() {
        let session = |ci| Session { root: PathBuf::new(), ci, environment: Vec::new(), steps: Vec::new() };
        assert!(session(true).left_out("they need root").is_err());
        assert!(matches!(session(false).left_out("they need root"), Ok(Outcome::NotRun(_))));
    }
}
