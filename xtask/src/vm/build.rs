//! The agent, the workload and the tests as static programs, since a machine's memory holds no libraries.
//!
//! Must not use the folders of other builds, which have other flags.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{debian, process};

use super::{Arch, packages::Archive};

const PROFILE: &str = "vm";
const TARGET_DIR: &str = "target/vm";
/// What every machine has.
const PROGRAMS: [&str; 7] = ["build", "--bin", "loopscope", "--example", "workload", "--example", "vm_init"];
/// The tests that compare what the agent counts with what the workload counts.
const TESTS: [&str; 6] = ["test", "--no-run", "--test", "exact", "--test", "exact_*"];

/// A program that was built.
pub struct Built {
    /// Its name, such as `exact_sums`.
    pub name: String,
    /// Where it is; in the machine it has the same path, which the tests have in them.
    pub file: PathBuf,
    /// Whether it is a test.
    pub is_test: bool,
}

/// Builds for one architecture.
pub fn build(root: &Path, arch: Arch, archive: &Archive, with_tests: bool) -> Result<Vec<Built>> {
    println!("  building static programs for {} into {TARGET_DIR}", arch.triple());
    // `cargo test` would make tests of the examples too: those are built by themselves.
    let wanted: &[&[&str]] = if with_tests { &[&PROGRAMS, &TESTS] } else { &[&PROGRAMS] };
    let mut built: Vec<Built> = Vec::new();
    for words in wanted {
        let mut command = match arch {
            Arch::Amd64 => native(),
            Arch::Arm64 => cross(archive)?,
        };
        command.current_dir(root).args(*words);
        command.args(["--quiet", "--locked", "--package", "loopscope", "--profile", PROFILE]);
        command.args(["--target", arch.triple(), "--target-dir", TARGET_DIR]);
        command.args(["--message-format", "json-render-diagnostics"]);
        let messages = process::capture(&mut command)?;
        let programs = messages.lines().filter_map(artifact);
        // The tests need the agent, so that cargo tells of it twice.
        for program in programs {
            if built.iter().all(|known| known.file != program.file) {
                built.push(program);
            }
        }
    }
    if built.is_empty() {
        bail!("the build for {} made no program", arch.triple());
    }
    Ok(built)
}

/// A program that a line of cargo's messages tells of.
fn artifact(line: &str) -> Option<Built> {
    let message: Value = serde_json::from_str(line).ok()?;
    let file = message.get("executable")?.as_str()?;
    let target = message.get("target")?;
    let kind = target.get("kind")?.as_array()?.first()?.as_str()?;
    Some(Built { name: target.get("name")?.as_str()?.to_owned(), file: file.into(), is_test: kind == "test" })
}

/// The cargo that runs us.
fn native() -> Command {
    let mut command = Command::new("cargo");
    command.env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
    command
}

/// Debian's compiler, with the standard library of the other architecture out of its archive and a linker of Debian's.
fn cross(archive: &Archive) -> Result<Command> {
    const RUSTC: &str = "/usr/bin/rustc";
    const LINKER: &str = "aarch64-linux-gnu-gcc";
    let missing = [
        (process::find(LINKER).is_none(), "gcc-aarch64-linux-gnu"),
        (process::find(LINKER).is_none(), "libc6-dev-arm64-cross"),
        (!process::is_executable(Path::new(RUSTC)), "rustc-web"),
        (!process::is_executable(Path::new("/usr/bin/cargo")), "cargo-web"),
    ];
    let missing: Vec<&str> = missing.iter().filter(|(missing, _)| *missing).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        debian::install(&missing, "to build for arm64")?;
    }
    let about = process::capture(Command::new(RUSTC).arg("-vV"))?;
    let library = archive.unpacked("libstd-rust-web-dev")?;
    let release = about.lines().find_map(|line| line.strip_prefix("release: "));
    let release = release.with_context(|| format!("read the release in `{RUSTC} -vV`"))?;
    if !library.to_string_lossy().contains(&format!("_{release}+")) {
        bail!("{RUSTC} is of release {release}, and the standard library for arm64 is {}", library.display());
    }
    let mut command = Command::new("/usr/bin/cargo");
    process::isolate(&mut command);
    let sysroot = library.join("usr");
    command.env("RUSTC", RUSTC).env(
        "CARGO_ENCODED_RUSTFLAGS",
        ["-Ctarget-feature=+crt-static", "--sysroot", &sysroot.to_string_lossy()].join("\u{1f}"),
    );
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
    command.env("CC_aarch64_unknown_linux_gnu", LINKER);
    Ok(command)
}
