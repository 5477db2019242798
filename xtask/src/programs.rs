//! The programs that tests consist of, all built by one profile and with the same features, so that steps and machines
//! share them. Must not run any of them.

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use serde_json::Value;

use crate::process;

/// What every build of tests is given. The whole workspace, even for one program of it: with a package alone cargo unites
/// the features of fewer crates, and builds fifty of them again.
pub const OPTIONS: [&str; 4] = ["--workspace", "--locked", "--profile", "checks"];

/// A program that was built.
#[derive(Clone)]
pub struct Built {
    /// Its name, such as `exact_sums`.
    pub name: String,
    /// Where it is; in a machine it has the same path, which the tests have in them.
    pub file: PathBuf,
    /// Whether it is a test.
    pub is_test: bool,
}

/// Runs a build, with what the compiler says shown; the programs that it made or found fresh, some of them twice.
pub fn build(cargo: &mut Command) -> Result<Vec<Built>> {
    let messages = process::run_for_output(cargo.args(["--message-format", "json-render-diagnostics"]))?;
    Ok(messages.lines().filter_map(artifact).collect())
}

/// A program that a line of cargo's messages tells of.
fn artifact(line: &str) -> Option<Built> {
    let message: Value = serde_json::from_str(line).ok()?;
    let file = message.get("executable")?.as_str()?;
    let target = message.get("target")?;
    let kind = target.get("kind")?.as_array()?.first()?.as_str()?;
    Some(Built { name: target.get("name")?.as_str()?.to_owned(), file: file.into(), is_test: kind == "test" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_libraries() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"exact"},"executable":"/t/exact-1"}"#;
        let program = artifact(line).unwrap();
        assert_eq!((program.name.as_str(), program.is_test), ("exact", true));
        assert!(artifact(r#"{"target":{"kind":["lib"],"name":"loopscope"},"executable":null}"#).is_none());
        assert!(artifact("running 3 tests").is_none());
    }
}
