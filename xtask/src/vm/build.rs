//! The agent, the workload and the tests for a machine. For this architecture they are those that run here too, and the
//! machine gets the libraries that they are linked with; for another one they are static.
//!
//! Must not put programs of other flags into the folders of other builds.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    debian, process,
    programs::{self, Built},
};

use super::{Arch, packages::Archive};

/// Where programs of another architecture go.
const TARGET_DIR: &str = "target/vm";
/// What every machine has.
const PROGRAMS: [&str; 7] = ["build", "--bin", "loopscope", "--example", "workload", "--example", "vm_init"];
/// The tests that compare what the agent counts with what the workload counts.
const TESTS: [&str; 6] = ["test", "--no-run", "--test", "exact", "--test", "exact_*"];

/// Builds for one architecture.
pub fn build(root: &Path, arch: Arch, archive: &Archive, with_tests: bool) -> Result<Vec<Built>> {
    // `cargo test` would make tests of the examples too: those are built by themselves.
    let wanted: &[&[&str]] = if with_tests { &[&PROGRAMS, &TESTS] } else { &[&PROGRAMS] };
    let mut built: Vec<Built> = Vec::new();
    for words in wanted {
        let mut cargo = match arch {
            Arch::Amd64 => Command::new("cargo"),
            Arch::Arm64 => cross(archive)?,
        };
        cargo.current_dir(root).args(*words).arg("--quiet").args(programs::OPTIONS);
        if arch == Arch::Arm64 {
            cargo.args(["--target", arch.triple(), "--target-dir", TARGET_DIR]);
        }
        // The tests need the agent, so that cargo tells of it twice.
        for program in programs::build(&mut cargo)? {
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

/// The libraries that programs of this architecture are linked with, and what loads them; static programs have none.
pub fn libraries(arch: Arch, built: &[Built]) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for program in built.iter().filter(|_| arch == Arch::Amd64) {
        let said = process::capture(Command::new("ldd").arg(&program.file))?;
        // `NAME => FILE (ADDRESS)`, or the loader's FILE alone.
        libraries.extend(said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
    }
    Ok(libraries)
}

/// Debian's compiler, with the standard library of the other architecture out of its archive and a linker of Debian's.
pub fn cross(archive: &Archive) -> Result<Command> {
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
