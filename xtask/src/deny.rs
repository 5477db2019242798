//! Licences and sources of the dependencies, by cargo-deny (`deny.toml`): found, or built once into the cache.
//!
//! Known vulnerabilities are not asked for: their list is no part of the repository, so the answer would change from one
//! day to the next under the same commit. `cargo deny check advisories` does it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{process, toolchain};

/// The release that is installed.
const VERSION: &str = "0.20.2";

/// Checks what `deny.toml` accepts; needs no network, once the dependencies are there.
///
/// # Errors
/// Something is not accepted.
pub fn check(root: &Path, cargo_deny: &Path) -> Result<()> {
    let mut deny = Command::new(cargo_deny);
    deny.current_dir(root).args(["--offline", "check", "licenses", "bans", "sources"]);
    process::run(&mut deny)
}

/// cargo-deny from PATH, else from the cache, else built into the cache.
///
/// # Errors
/// It cannot be built, as where no crate can be had.
pub fn find_or_install() -> Result<PathBuf> {
    if let Some(file) = process::find("cargo-deny") {
        return Ok(file);
    }
    let root = toolchain::cache_dir()?.join(format!("loopscope/cargo-deny-{VERSION}"));
    let file = root.join("bin/cargo-deny");
    if process::is_executable(&file) {
        return Ok(file);
    }
    let root = root.display().to_string();
    println!("  installing with cargo: cargo-deny {VERSION} into {root} (it checks licences; 2-3 minutes)");
    let mut install = Command::new("cargo");
    process::isolate(&mut install);
    install.args(["install", "cargo-deny", "--version", VERSION, "--locked", "--root", &root]);
    process::run(&mut install)?;
    Ok(file)
}
