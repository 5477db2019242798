//! Whether anybody else observes system calls just now: then no figure means anything.
//!
//! Only looks, at the descriptors of other processes.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How bpf(2)'s links to tracepoints call themselves in fdinfo.
const KINDS: [&str; 3] = ["perf", "raw_tracepoint", "tracing"];

/// How long a part of the benchmark may wait in all until nobody else observes system calls.
pub fn patience(quick: bool) -> Duration {
    Duration::from_secs(if quick { 0 } else { 600 })
}

/// The processes that hold probes open, as `name (pid)`, without `own`, the one of ours.
pub fn observing(own: Option<u32>) -> BTreeSet<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let processes = processes.flatten().filter(|entry| is_process(entry, own));
    processes
        .map(|entry| entry.path())
        .filter(|process| holds_probes(process))
        .map(|process| name(&process))
        .collect()
}

fn is_process(entry: &fs::DirEntry, own: Option<u32>) -> bool {
    entry.file_name().to_string_lossy().parse::<u32>().is_ok_and(|pid| Some(pid) != own)
}

/// Waits for as long as `patience` lasts until nobody else observes; who still does.
pub fn wait_until_alone(patience: &mut Duration) -> BTreeSet<String> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let others = observing(None);
        let waited = started.elapsed();
        if others.is_empty() || waited >= *patience {
            *patience = patience.saturating_sub(waited);
            return others;
        }
        if !told {
            println!("  waiting for others that observe system calls: {}", list(&others));
            told = true;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// The names, in one line.
pub fn list(others: &BTreeSet<String>) -> String {
    others.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn holds_probes(process: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|entry| {
        let Ok(target) = fs::read_link(entry.path()) else { return false };
        match target.to_string_lossy().as_ref() {
            "anon_inode:[perf_event]" => true,
            link if link.starts_with("anon_inode:bpf") => {
                is_tracing_link(&process.join("fdinfo").join(entry.file_name()))
            }
            _ => false,
        }
    })
}

fn is_tracing_link(info: &Path) -> bool {
    let info = fs::read_to_string(info).unwrap_or_default();
    let kind = info.lines().find_map(|line| line.strip_prefix("link_type:"));
    kind.is_some_and(|kind| KINDS.contains(&kind.trim()))
}

fn name(process: &Path) -> String {
    let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
    format!("{} ({})", comm.trim(), process.file_name().unwrap_or_default().to_string_lossy())
}
