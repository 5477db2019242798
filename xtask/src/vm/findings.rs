//! What a boot showed: the agent's own findings, the tests' counts, and what was refused, as data. `docs/kernels.json`
//! holds the same; the comparison with it says what stopped working. Must not boot or print.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::machine::{Boot, Ended};

/// How much more the verifier may go through than the table says: compilers and patch releases move it by a tenth.
pub const VERIFIED_MOST: f64 = 1.3;
/// What works, in the table.
pub const WORKS: &str = "works";

/// Everything that is known of all kernels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// By `ARCH SERIES`.
    pub kernels: BTreeMap<String, Kernel>,
    /// Other boots: by `ARCH SERIES KIND`, whether the main job works, or the line that says why not.
    pub boots: BTreeMap<String, String>,
}

/// One kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    /// By probe and backend: [`WORKS`], or why not.
    pub probes: BTreeMap<String, BTreeMap<String, String>>,
    /// By program: instructions that the verifier went through, with whichever backend it was loaded.
    pub verified: BTreeMap<String, u32>,
    /// By backend and program of tests: tests that passed.
    pub tests: BTreeMap<String, BTreeMap<String, u32>>,
}

impl Findings {
    /// Adds what a boot of the suite showed. Gives what failed.
    pub fn add_suite(&mut self, key: &str, release: &str, boot: &Boot) -> Result<Vec<String>> {
        let mut kernel = Kernel { release: release.to_owned(), ..Kernel::default() };
        let mut failed = Vec::new();
        for step in &boot.steps {
            let mut words = step.name.split(':').skip(1);
            let backend = words.next().unwrap_or_default();
            match step.name.starts_with("check:") {
                true => kernel.add_check(backend, step)?,
                false => match passed(step) {
                    Ok(count) => {
                        let program = words.next().unwrap_or_default().to_owned();
                        kernel.tests.entry(backend.to_owned()).or_default().insert(program, count);
                    }
                    Err(why) => failed.push(format!("{key} {}: {why}", step.name)),
                },
            }
        }
        self.kernels.insert(key.to_owned(), kernel);
        Ok(failed)
    }

    /// Adds what a short boot showed. Gives what failed: a test, or an end without one clear line.
    pub fn add_short(&mut self, key: &str, boot: &Boot) -> Vec<String> {
        let mut failed = Vec::new();
        let mut works = true;
        for step in boot.steps.iter().filter(|step| !step.name.starts_with("test:")) {
            let key = match step.name.split_once(':') {
                Some(("run", name)) => format!("{key} {name}"),
                _ => key.to_owned(),
            };
            match main_job(step) {
                Ok(said) => {
                    works = said == WORKS;
                    self.boots.insert(key, said);
                }
                Err(why) => failed.push(format!("{key}: {why}")),
            }
        }
        // Where the main job is refused the test has nothing to count.
        if works {
            let tests = boot.steps.iter().filter(|step| step.name.starts_with("test:"));
            failed.extend(
                tests.filter_map(|step| Some(format!("{key} {}: {}", step.name, passed(step).err()?))),
            );
        }
        failed
    }

    /// What worked in `before` and does not now, among the kernels and boots that are in both.
    pub fn stopped(&self, before: &Findings) -> Vec<String> {
        let mut stopped = Vec::new();
        for (key, now) in &self.kernels {
            let Some(then) = before.kernels.get(key) else { continue };
            for (probe, ways) in &then.probes {
                for (backend, _) in ways.iter().filter(|(_, said)| *said == WORKS) {
                    let said = now.probes.get(probe).and_then(|ways| ways.get(backend));
                    match said.map(String::as_str) {
                        Some(WORKS) => {}
                        Some(why) => stopped.push(format!("{key}: {probe} by {backend}: {why}")),
                        None => stopped.push(format!("{key}: {probe} by {backend} is no longer tried")),
                    }
                }
            }
            for (backend, programs) in &then.tests {
                let now = now.tests.get(backend);
                for (program, then) in programs {
                    // A program that was not asked for is not there; one that failed is told of elsewhere.
                    if let Some(now) = now.and_then(|now| now.get(program)).filter(|now| *now < then) {
                        stopped.push(format!(
                            "{key}: {now} tests of {program} passed by {backend}, {then} before"
                        ));
                    }
                }
            }
            for (program, then) in &then.verified {
                let Some(now) = now.verified.get(program) else { continue };
                let most = f64::from(*then) * VERIFIED_MOST;
                if f64::from(*now) > most {
                    stopped.push(format!(
                        "{key}: the verifier goes through {now} instructions of {program}, {most:.0} at most"
                    ));
                }
            }
        }
        for (key, said) in self.boots.iter().filter(|(_, said)| *said != WORKS) {
            if before.boots.get(key).is_some_and(|then| then == WORKS) {
                stopped.push(format!("{key}: {said}"));
            }
        }
        stopped
    }

    /// Takes over what another one knows. What did not run there stays, where the release is the same.
    pub fn merge(&mut self, newer: Findings) {
        for (key, kernel) in newer.kernels {
            match self.kernels.get_mut(&key).filter(|known| known.release == kernel.release) {
                Some(known) => known.merge(kernel),
                None => {
                    self.kernels.insert(key, kernel);
                }
            }
        }
        self.boots.extend(newer.boots);
    }
}

impl Kernel {
    /// As [`Findings::merge`].
    fn merge(&mut self, newer: Kernel) {
        for (probe, ways) in newer.probes {
            self.probes.entry(probe).or_default().extend(ways);
        }
        for (backend, tests) in newer.tests {
            self.tests.entry(backend).or_default().extend(tests);
        }
        self.verified.extend(newer.verified);
    }

    /// Reads what `check --format json` printed.
    fn add_check(&mut self, backend: &str, step: &Ended) -> Result<()> {
        let text = step.stdout.join("");
        let document: Value = serde_json::from_str(&text).with_context(|| {
            format!("read what `loopscope check --backend {backend}` said: {text} {:?}", step.stderr)
        })?;
        for probe in list(&document, "probes") {
            let name = said_of(probe, "name").unwrap_or_default().to_owned();
            // A probe that no backend changes, such as the end of a thread, has a way of its own.
            let first = list(probe, "tried").next().and_then(|tried| said_of(tried, "backend"));
            let way = said_of(probe, "backend").or(first).unwrap_or(backend);
            let mut tried = list(probe, "tried").filter_map(|tried| said_of(tried, "error"));
            let said = match probe.get("ok").and_then(Value::as_bool) {
                Some(true) => WORKS.to_owned(),
                _ => tried.next_back().unwrap_or("refused").to_owned(),
            };
            self.probes.entry(name).or_default().insert(way.to_owned(), said);
        }
        for program in list(&document, "programs") {
            let count = program
                .get("verified_instructions")
                .and_then(Value::as_u64)
                .and_then(|count| u32::try_from(count).ok());
            if let (Some(name), Some(count)) = (said_of(program, "name"), count) {
                self.verified.insert(name.to_owned(), count);
            }
        }
        if document.get("main_job").and_then(Value::as_bool) != Some(true) {
            bail!("the main job cannot be done by {backend}: {}", step.stderr.join(" "));
        }
        Ok(())
    }
}

/// The objects of a list in a document.
fn list<'a>(value: &'a Value, name: &str) -> impl DoubleEndedIterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// A text in a document.
fn said_of<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// How many tests passed, or what did not.
fn passed(step: &Ended) -> Result<u32, String> {
    let result = step.stdout.iter().find_map(|line| line.strip_prefix("test result: "));
    let count = result.and_then(|line| line.split_once(". ")?.1.split(' ').next()?.parse().ok());
    match (step.succeeded(), count) {
        (true, Some(count)) => Ok(count),
        _ => {
            let failures =
                step.stdout.iter().filter(|line| line.ends_with("FAILED") || line.contains("panicked at"));
            let mut why: Vec<&str> = failures.map(String::as_str).collect();
            // The test that it was in when its time was up.
            why.extend(step.stdout.last().map(String::as_str).filter(|_| why.is_empty()));
            Err(format!("ended with {} after {:.0} s: {}", step.status, step.seconds, why.join("; ")))
        }
    }
}

/// Whether the main job works: [`WORKS`], or the one line that says why not. An end of another kind is an error.
fn main_job(step: &Ended) -> Result<String, String> {
    let lines = step.stderr.iter().filter(|line| *line != "watching").collect::<Vec<_>>();
    match (step.status.as_str(), lines.as_slice()) {
        ("0", []) => Ok(WORKS.to_owned()),
        ("1", [line]) => match line.strip_prefix("loopscope: error: ") {
            Some(line) => Ok(line.to_owned()),
            None => Err(format!("no error of loopscope's: {line}")),
        },
        (status, lines) => Err(format!("status {status} and {} lines on stderr: {lines:?}", lines.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(said: &str, verified: u32) -> Findings {
        let ways = BTreeMap::from([("raw".to_owned(), said.to_owned())]);
        let kernel = Kernel {
            probes: BTreeMap::from([("poll".to_owned(), ways)]),
            verified: BTreeMap::from([("enter_poll".to_owned(), verified)]),
            ..Kernel::default()
        };
        Findings { kernels: BTreeMap::from([("amd64 6.1".to_owned(), kernel)]), boots: BTreeMap::new() }
    }

    #[test]
    fn what_stopped_working_is_named_and_what_never_did_is_not() {
        assert_eq!(kernel(WORKS, 100).stopped(&kernel(WORKS, 100)), Vec::<String>::new());
        assert_eq!(kernel("no", 100).stopped(&kernel(WORKS, 100)), ["amd64 6.1: poll by raw: no"]);
        assert_eq!(kernel("no", 100).stopped(&kernel("no", 100)), Vec::<String>::new());
        assert_eq!(kernel("no", 100).stopped(&Findings::default()), Vec::<String>::new());
        let missing = Findings {
            kernels: BTreeMap::from([("amd64 6.1".to_owned(), Kernel::default())]),
            ..Findings::default()
        };
        assert_eq!(missing.stopped(&kernel(WORKS, 1)), ["amd64 6.1: poll by raw is no longer tried"]);
    }

    #[test]
    fn fewer_tests_than_before_are_a_failure_and_programs_that_did_not_run_are_not() {
        let passed = |program: &str, count: u32| {
            let programs = BTreeMap::from([(program.to_owned(), count)]);
            let tests = BTreeMap::from([("raw".to_owned(), programs)]);
            let kernel = Kernel { tests, ..Kernel::default() };
            Findings { kernels: BTreeMap::from([("amd64 6.1".to_owned(), kernel)]), ..Findings::default() }
        };
        assert!(passed("exact", 11).stopped(&passed("exact", 11)).is_empty());
        assert_eq!(passed("exact", 10).stopped(&passed("exact", 11)).len(), 1);
        assert!(passed("exact_sets", 1).stopped(&passed("exact", 11)).is_empty());
    }

    #[test]
    fn the_verifier_may_go_through_a_little_more() {
        assert!(kernel(WORKS, 130).stopped(&kernel(WORKS, 100)).is_empty());
        assert_eq!(kernel(WORKS, 131).stopped(&kernel(WORKS, 100)).len(), 1);
    }

    #[test]
    fn a_refusal_is_one_line_and_anything_else_a_failure() {
        let ended = |status: &str, lines: &[&str]| Ended {
            status: status.to_owned(),
            stderr: lines.iter().map(|line| (*line).to_owned()).collect(),
            ..Ended::default()
        };
        assert_eq!(main_job(&ended("0", &["watching"])), Ok(WORKS.to_owned()));
        assert_eq!(main_job(&ended("1", &["loopscope: error: no"])), Ok("no".to_owned()));
        assert!(main_job(&ended("1", &["loopscope: error: no", "more"])).is_err());
        assert!(main_job(&ended("101", &["loopscope: error: no"])).is_err());
        assert!(main_job(&ended("timeout", &[])).is_err());
    }

    #[test]
    fn what_did_not_run_stays_known_of_the_same_release() {
        let ran = |release: &str, backend: &str, count: u32| {
            let tests = BTreeMap::from([(backend.to_owned(), BTreeMap::from([("exact".to_owned(), count)]))]);
            let kernel = Kernel { release: release.to_owned(), tests, ..Kernel::default() };
            Findings { kernels: BTreeMap::from([("amd64 6.12".to_owned(), kernel)]), ..Findings::default() }
        };
        let mut known = ran("6.12.1", "raw", 11);
        known.merge(ran("6.12.1", "tracepoint", 9));
        assert_eq!(known.kernels["amd64 6.12"].tests.len(), 2);
        known.merge(ran("6.12.2", "tracepoint", 9));
        assert_eq!(known.kernels["amd64 6.12"].tests.len(), 1);
    }

    #[test]
    fn passed_tests_are_counted() {
        let step = |status: &str, line: &str| Ended {
            status: status.to_owned(),
            stdout: vec![line.to_owned()],
            ..Ended::default()
        };
        let line =
            "test result: ok. 11 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 3.41s";
        assert_eq!(passed(&step("0", line)), Ok(11));
        assert!(passed(&step("101", "test result: FAILED. 10 passed; 1 failed;")).is_err());
        assert!(passed(&step("timeout", "test a ... ")).is_err());
    }
}
