//! What the figures depend on: the machine, its kernel, and what was measured.

use std::{fs, path::Path, process::Command, thread};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::process;

/// The machine and the state of the project.
#[derive(Serialize)]
pub struct Machine {
    /// When, UTC.
    pub date: String,
    pub kernel: String,
    pub arch: &'static str,
    pub cpu: String,
    pub cpus: usize,
    /// Whether a hypervisor is below.
    pub is_virtual: bool,
    /// What makes every program dearer: the interpreter in place of the JIT, statistics, a hardened JIT.
    pub bpf: String,
    /// The one-minute load before the start.
    pub load: String,
    /// The commit, `+` where files differ from it.
    pub commit: String,
}

impl Machine {
    /// This one, now.
    pub fn this(root: &Path) -> Result<Machine> {
        let cpuinfo = read("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line =
                cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let flags = field("flags").unwrap_or_default();
        Ok(Machine {
            date: process::capture(Command::new("date").args(["-u", "+%F %H:%M UTC"]))?.trim().to_owned(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            arch: std::env::consts::ARCH,
            cpu: field("model name").unwrap_or_else(|| "unknown CPU".to_owned()),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            is_virtual: flags.split_whitespace().any(|flag| flag == "hypervisor"),
            bpf: bpf(),
            load: read("/proc/loadavg")?.split_whitespace().next().unwrap_or_default().to_owned(),
            commit: commit(root),
        })
    }

    /// One line.
    pub fn show(&self) -> String {
        let below = if self.is_virtual { ", a virtual machine" } else { "" };
        format!(
            "{}; Linux {} {}; {} x {}{below}; {}; load before the start {}; commit {}",
            self.date, self.kernel, self.arch, self.cpus, self.cpu, self.bpf, self.load, self.commit
        )
    }
}

/// The settings of the kernel that programs depend on.
fn bpf() -> String {
    let settings = [
        ("JIT", "net/core/bpf_jit_enable"),
        ("JIT hardening", "net/core/bpf_jit_harden"),
        ("statistics", "kernel/bpf_stats_enabled"),
    ];
    let show = |(name, file)| {
        let value = fs::read_to_string(format!("/proc/sys/{file}"));
        format!("{name} {}", value.as_deref().map_or("unknown", str::trim))
    };
    format!("BPF: {}", settings.map(show).join(", "))
}

/// The commit that is checked out; nothing where there is no git.
fn commit(root: &Path) -> String {
    let git = |args: &[&str]| process::capture(Command::new("git").current_dir(root).args(args));
    let Ok(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_ok_and(|files| !files.trim().is_empty());
    format!("{}{}", commit.trim(), if changed { "+" } else { "" })
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}
