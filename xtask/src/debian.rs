//! Installing Debian packages: only as root, only on a Debian-like system, never removing anything.
//!
//! Must not start services, and must not leave a policy file behind that would stop others from starting them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::process;

/// The package lists are fetched once per run, and only when something is missing.
static LISTS_FETCHED: AtomicBool = AtomicBool::new(false);

/// Whether packages can be installed here without asking anyone.
pub fn can_install() -> bool {
    process::is_root() && is_debian()
}

/// Whether apt and dpkg are there.
pub fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && process::find("apt-get").is_some()
}

/// Installs the packages, saying first which and why; says what to do where it cannot.
pub fn install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if !can_install() {
        bail!("missing: {list} ({why}); on Debian, as root: apt-get install {list}");
    }
    println!("  installing with apt-get: {list} ({why})");
    if !LISTS_FETCHED.load(Ordering::Relaxed) {
        process::run(apt_get().args(["-q", "update"]))?;
        LISTS_FETCHED.store(true, Ordering::Relaxed);
    }
    // --no-remove: a package that conflicts with one of the user's is an error, never a removal.
    let options = ["-q", "-y", "--no-remove", "--no-install-recommends", "install"];
    process::run(apt_get().args(options).args(packages))
}

/// Stops servers that were installed just now for the tests alone. RUNLEVEL=1 below does so before they start,
/// but systemd takes no notice of it.
pub fn stop_services(services: &[&str]) -> Result<()> {
    if services.is_empty() || !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    println!("  the tests start servers of their own; stopping those that the packages started");
    process::run(Command::new("systemctl").args(["disable", "--now"]).args(services))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // RUNLEVEL=1 is how a maintainer script's invoke-rc.d is told that this is no time to start services.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    command
}
