//! Least privilege: what the agent gives up once its probes are attached, and what it keeps.
//!
//! Uid 0 stays, since only it can read the ids of tracepoints and what /proc says of others; its power goes. Each part
//! works or does not by itself; what a kernel or a container does not allow is said, and stops nothing. Only takes away:
//! nothing here gives anything back.
//!
//! Why the whole process is not in a Landlock domain: such a process may not look at one outside of its domain in the way
//! of ptrace(2), whatever its capabilities, and so loses /proc/PID/exe and /proc/PID/fd of all others: executables, and
//! which listener a loop serves. So files are confined by mounts and by seccomp, and the thread that hears the network,
//! which needs no file at all, by Landlock ([`server`]).

mod calls;
mod capabilities;
mod server;

use std::path::PathBuf;

use crate::kernel::mounts;

pub use capabilities::KEPT;
use capabilities::{Kept, limit};
pub use server::server;

/// Every part, by the name that metrics and `check` have for it.
pub const PARTS: [&str; 6] = ["files", "capabilities", "bounding_set", "no_new_privs", "calls", "server"];

/// Why there is none where the user wants none.
const UNWANTED: &str = "--no-confine";

/// What is still needed when the probes are attached.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Folders in which files are made or removed: absolute paths without links.
    pub writable: Vec<PathBuf>,
    /// Folders of others among them, for which CAP_DAC_OVERRIDE has to stay.
    pub overrides: bool,
}

/// What became of each part.
#[derive(Clone, Debug, Default)]
pub struct Confined(Vec<(&'static str, Result<(), String>)>);

impl Confined {
    /// Nothing is given up.
    pub fn unwanted() -> Confined {
        Confined(PARTS.iter().map(|part| (*part, Err(UNWANTED.to_owned()))).collect())
    }

    /// Each part that was tried, and whether it is in force.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.0.iter().map(|(part, result)| (*part, result.is_ok()))
    }

    /// What is not in force, and why, in a line each.
    pub fn notes(&self) -> Vec<String> {
        if self.0.iter().any(|(_, result)| result.as_ref().is_err_and(|why| why == UNWANTED)) {
            return vec![format!("{UNWANTED}: the agent keeps all of its rights; for debugging alone")];
        }
        let failed = self.0.iter().filter_map(|(part, result)| Some((part, result.as_ref().err()?)));
        failed.map(|(part, why)| format!("not confined ({part}): {why}")).collect()
    }

    fn note<E: std::fmt::Display>(&mut self, part: &'static str, result: Result<(), E>) {
        self.0.push((part, result.map_err(|error| format!("{error:#}"))));
    }
}

/// A process that is on its way to less.
pub struct Confinement {
    plan: Plan,
    files: anyhow::Result<()>,
}

impl Confinement {
    /// The first half: files. Before other threads are started, which would keep the old view of them.
    pub fn begin(plan: Plan) -> Confinement {
        let files = mounts::read_only_but(&plan.writable);
        let files = if mounts::is_read_only() { Ok(()) } else { files };
        Confinement { plan, files }
    }

    /// The second half, when the probes are attached: the calling thread's capabilities, and what no thread of the process
    /// may call. `server` is what became of [`server()`], where there is one.
    pub fn complete(self, server: Option<Result<(), String>>) -> Confined {
        self.finish(calls::Reach::Process, server)
    }

    fn finish(self, reach: calls::Reach, server: Option<Result<(), String>>) -> Confined {
        let Confinement { plan, files } = self;
        let mut confined = Confined::default();
        let Kept { bounding, effective } = limit(plan.overrides);
        let writes = if plan.writable.is_empty() { calls::Writes::Refused } else { calls::Writes::Allowed };
        let calls = calls::refuse(writes, reach);
        // A process that can open nothing for writing needs no mounts for it.
        let files = if writes == calls::Writes::Refused && calls.is_ok() { Ok(()) } else { files };
        confined.note("files", files);
        confined.note("capabilities", effective);
        confined.note("bounding_set", bounding);
        confined.note("no_new_privs", capabilities::no_new_privileges());
        confined.note("calls", calls);
        if let Some(server) = server {
            confined.note("server", server);
        }
        confined
    }
}

/// For commands that a user runs for a while: the calling thread's capabilities, and those that a new program could get.
/// What does not work is left: the user's own terminal is no one else's. `writes`: files are still made.
pub fn step_down(unwanted: bool, writes: bool) {
    if !unwanted {
        let _ = (limit(writes), capabilities::no_new_privileges());
    }
}

/// What would become of each part here: tried in a thread that ends, so that nothing is given up.
pub fn trial() -> Confined {
    let whole = || {
        let confinement = Confinement::begin(Plan::default());
        // Before the calls that it takes are refused; its capabilities are given up in any case.
        let server = server::landlock().map_err(|error| format!("{error:#}"));
        confinement.finish(calls::Reach::Thread, Some(server))
    };
    std::thread::scope(|scope| scope.spawn(whole).join().unwrap_or_default())
}
