//! A process id to what /proc says of it: executable, cgroup, unit, container, pod. Reads files, and asks
//! the kernel for the other ends of unix sockets; asks nothing of the network.

mod cgroup;
pub mod files;
mod pods;
pub mod polled;
mod unix;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

pub use pods::Pod;
use pods::Pods;

/// What is known of a process beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Process {
    /// Path of the executable, as the process sees it.
    pub exe: Option<String>,
    /// Path of its cgroup: of the v2 hierarchy, or where it is in the root of that one, of systemd's own v1
    /// hierarchy.
    pub cgroup: Option<String>,
    /// Its path in every hierarchy.
    pub cgroups: Vec<String>,
    /// The systemd unit that the cgroup belongs to.
    pub unit: Option<String>,
    /// The id of the container that it is in.
    pub container: Option<String>,
    /// The Kubernetes pod that it is in.
    pub pod: Option<Pod>,
    /// CLOCK_MONOTONIC of its start, ns, to a clock tick.
    pub started_ns: Option<u64>,
    /// Its id in the innermost of its pid namespaces; None where that is ours.
    pub ns_pid: Option<u32>,
}

/// Looks processes up, and remembers them for the time when they are gone.
pub struct Processes {
    proc: PathBuf,
    pods: Pods,
    known: HashMap<u32, Arc<Process>>,
}

/// Processes remembered at most; beyond it all are forgotten and looked up anew.
const REMEMBERED: usize = 16_384;

impl Default for Processes {
    fn default() -> Self {
        Processes::below(Path::new("/"))
    }
}

impl Processes {
    /// Those of the host whose file system is at `root`.
    fn below(root: &Path) -> Processes {
        Processes {
            proc: root.join("proc"),
            pods: Pods::new(&root.join("var/log/pods")),
            known: HashMap::new(),
        }
    }

    /// What is known of process `pid`, as the host counts. A process that is gone is as it was when last looked up.
    pub fn get(&mut self, pid: u32) -> Arc<Process> {
        let folder = self.proc.join(pid.to_string());
        let Ok(cgroups) = fs::read_to_string(folder.join("cgroup")) else {
            return self.known.get(&pid).cloned().unwrap_or_default();
        };
        let paths = cgroup::Paths::new(&cgroups);
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        let process = Arc::new(Process {
            exe: executable(&folder),
            unit: paths.main().and_then(cgroup::unit),
            container: paths.find(cgroup::container),
            pod: paths.find(cgroup::pod).map(|uid| self.pods.get(uid)),
            cgroup: paths.main().map(str::to_owned),
            cgroups: paths.all(),
            started_ns: started(&stat).map(since_boot_to_monotonic),
            ns_pid: self.inner_pid(&folder),
        });
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(pid, Arc::clone(&process));
        process
    }
}

/// The path of a process's executable. One whose first thread has ended shows it by another thread's folder alone.
fn executable(process: &Path) -> Option<String> {
    let link = |folder: &Path| fs::read_link(folder.join("exe")).ok();
    let of_a_thread =
        || fs::read_dir(process.join("task")).ok()?.flatten().find_map(|thread| link(&thread.path()));
    link(process).or_else(of_a_thread).map(|path| path.to_string_lossy().into_owned())
}

impl Processes {
    /// The innermost id of a process in another pid namespace than ours: most are in ours, which a link says at less cost
    /// than the status.
    fn inner_pid(&self, folder: &Path) -> Option<u32> {
        let namespace = |folder: &Path| fs::read_link(folder.join("ns/pid")).ok();
        let of_process = namespace(folder)?;
        if namespace(&self.proc.join("self")).is_none_or(|own| own == of_process) {
            return None;
        }
        innermost(&fs::read_to_string(folder.join("status")).ok()?)
    }
}

/// The last number of the line NSpid in the text of /proc/PID/status (proc(5)); the first is as we count.
fn innermost(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The start in the text of /proc/PID/stat (proc(5)): its 22nd field, in clock ticks since boot; as ns. A name, the
/// second field, may hold blanks and parentheses.
fn started(stat: &str) -> Option<u64> {
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks.saturating_mul(1_000_000_000 / clock_ticks_per_second().max(1)))
}

/// CLOCK_BOOTTIME, which goes on while the host is suspended, to CLOCK_MONOTONIC.
fn since_boot_to_monotonic(ns: u64) -> u64 {
    let now = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    };
    ns.saturating_sub(now(ClockId::Boottime).saturating_sub(now(ClockId::Monotonic)))
}

#[cfg(test)]
mod tests;
