//! Running other programs: each is shown before it runs, and its failure names it.
//!
//! Must not decide what is run, and must not hide what a program prints.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// Prints the command and runs it to its end, with its output shown.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("  $ {shown}");
    let status = command.status().with_context(|| format!("start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Prints the command and runs it to its end with what it says on standard error shown; returns its standard output.
pub fn run_for_output(command: &mut Command) -> Result<String> {
    println!("  $ {}", show(command));
    capture(command.stderr(Stdio::inherit()))
}

/// Runs the command unseen and returns what it wrote to standard output.
pub fn capture(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed: {}: {}", output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of `{shown}`"))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Takes out of the child's environment what cargo and rustup put into ours, and whatever a user's shell may
/// add: a `RUSTC` or `RUSTFLAGS` of the outer build would otherwise choose the compiler of the inner one.
pub fn isolate(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_build_variable) {
            command.env_remove(&name);
        }
    }
    command
}

fn is_build_variable(name: &str) -> bool {
    // Where things are kept and how the network is reached is the user's business; the rest changes the build.
    let kept = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "RUSTUP_"];
    if name != "RUSTUP_TOOLCHAIN" && kept.iter().any(|family| name.starts_with(family)) {
        return false;
    }
    name == "CARGO" || name.starts_with("CARGO_") || name.starts_with("RUST") || name == "LD_LIBRARY_PATH"
}

/// The first executable of that name on PATH, or in the system directories that a user's PATH may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(extra).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

/// Whether there is a file that may be executed.
pub fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether this process runs as uid 0.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// The root of the workspace: the parent of xtask's own folder.
pub fn workspace_root() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask ...`")?;
    let xtask = PathBuf::from(manifest);
    let root = xtask.parent().context("find the folder above xtask")?;
    root.canonicalize().with_context(|| format!("resolve {}", root.display()))
}

/// The user's home, if the environment names one.
pub fn home() -> Option<PathBuf> {
    env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_build_does_not_reach_the_inner_one() {
        for name in ["RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO", "CARGO_PROFILE_PROBE_OPT_LEVEL"] {
            assert!(is_build_variable(name), "{name}");
        }
        for name in
            ["CARGO_HOME", "RUSTUP_HOME", "CARGO_HTTP_PROXY", "RUSTUP_AUTO_INSTALL", "PATH", "https_proxy"]
        {
            assert!(!is_build_variable(name), "{name}");
        }
    }

    #[test]
    fn programs_are_found_on_the_path_only_when_executable() {
        assert!(find("sh").is_some_and(|file| is_executable(&file)));
        assert_eq!(find("no-such-program-of-loopscope"), None);
    }
}
