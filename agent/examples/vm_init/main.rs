//! The first process of the machines that `cargo xtask vm` boots: mounts what a host has, runs the steps of
//! /vm/plan.json one after the other, and switches the machine off.
//!
//! Each line that a step prints goes to the console behind a word that says what it is: `@begin NAME`, `@out LINE`,
//! `@err LINE`, `@end NAME STATUS SECONDS`, and `@done` at the end. Must not judge what a step does, and must not run
//! anywhere but as process 1, since it mounts and switches off.

mod steps;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use rustix::{
    mount::{MountFlags, mount, mount_bind},
    process::{Resource, Rlimit, setrlimit},
    system::{RebootCommand, reboot},
};
use serde::Deserialize;

/// What this boot is to do.
#[derive(Deserialize)]
struct Plan {
    /// File systems that are not mounted, by their type.
    #[serde(default)]
    unmounted: Vec<String>,
    /// Folders over which an empty one is mounted.
    #[serde(default)]
    hidden: Vec<String>,
    /// Text that is written into files of /proc and /sys.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    steps: Vec<steps::Step>,
}

/// (type, where, options). /tmp and /run stay in the root file system, which is memory: the programs may lie below them.
const FILE_SYSTEMS: [(&str, &str, Option<&std::ffi::CStr>); 9] = [
    ("proc", "/proc", None),
    ("sysfs", "/sys", None),
    ("devtmpfs", "/dev", None),
    ("devpts", "/dev/pts", None),
    ("tmpfs", "/dev/shm", None),
    ("securityfs", "/sys/kernel/security", None),
    ("debugfs", "/sys/kernel/debug", None),
    ("tracefs", "/sys/kernel/tracing", None),
    ("cgroup2", "/sys/fs/cgroup", None),
];
/// Without it no group below the root has the controller.
const CONTROLLERS: (&str, &str) = ("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
/// Descriptors of a process: what the kernel allows at most (fs.nr_open). It begins with 1,024; the largest interest set
/// of the tests has 15,000.
const DESCRIPTORS: u64 = 1 << 20;
/// Programs need this to reach each other by loopback.
const LOOPBACK: [&str; 5] = ["/bin/busybox", "ifconfig", "lo", "127.0.0.1", "up"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, rest @ ..] = arguments.as_slice()
        && word == "as"
    {
        // Comes back only if it failed.
        let error = steps::become_another(rest);
        eprintln!("vm_init: {error:#}");
        return ExitCode::FAILURE;
    }
    if std::process::id() != 1 {
        eprintln!("vm_init: runs only as the first process of a machine of `cargo xtask vm`");
        return ExitCode::FAILURE;
    }
    match run() {
        Ok(()) => say("@done"),
        Err(error) => say(&format!("@failed {error:#}")),
    }
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    ExitCode::FAILURE
}

/// Prints one line; in one write, so that the kernel's lines do not come between.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

fn run() -> Result<()> {
    let plan = fs::read("/vm/plan.json").context("read /vm/plan.json")?;
    let plan: Plan = serde_json::from_slice(&plan).context("read /vm/plan.json")?;
    for (kind, place, options) in FILE_SYSTEMS {
        if plan.unmounted.iter().any(|unmounted| unmounted == kind) {
            continue;
        }
        // sysfs has these folders only where the kernel has what is mounted there.
        if place.starts_with("/sys/") && !Path::new(place).exists() {
            say(&format!("@note no {place} on this kernel"));
            continue;
        }
        fs::create_dir_all(place).with_context(|| format!("create {place}"))?;
        mount(kind, place, kind, MountFlags::empty(), options)
            .with_context(|| format!("mount {kind} on {place}"))?;
    }
    fs::write(CONTROLLERS.0, CONTROLLERS.1).context("give groups the memory controller")?;
    fs::create_dir_all("/run/empty").context("create /run/empty")?;
    for folder in &plan.hidden {
        mount_bind("/run/empty", folder.as_str()).with_context(|| format!("hide {folder}"))?;
    }
    for (file, text) in &plan.settings {
        if let Err(error) = fs::write(file, text) {
            bail!("write {text} into {file}: {error}");
        }
    }
    let [program, arguments @ ..] = LOOPBACK;
    let status = std::process::Command::new(program).args(arguments).status().context("start ifconfig")?;
    if !status.success() {
        bail!("ifconfig lo up: {status}");
    }
    let most = Some(DESCRIPTORS);
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).context("allow more descriptors")?;
    for step in &plan.steps {
        step.run()?;
    }
    Ok(())
}
