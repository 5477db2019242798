//! A process id to what /proc says of it: executable, cgroup, unit. Reads files; asks nothing of the network.

pub mod files;

use std::{collections::HashMap, fs, path::Path, sync::Arc};

/// What is known of a process beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
}

/// Looks processes up, and remembers them for the time when they are gone.
#[derive(Default)]
pub struct Processes {
    known: HashMap<u32, Arc<Process>>,
}

/// Processes remembered at most; beyond it all are forgotten and looked up anew.
const REMEMBERED: usize = 16_384;

impl Processes {
    /// What is known of process `pid`, as the host counts. A process that is gone is as it was when last looked up.
    pub fn get(&mut self, pid: u32) -> Arc<Process> {
        let folder = Path::new("/proc").join(pid.to_string());
        let Ok(cgroups) = fs::read_to_string(folder.join("cgroup")) else {
            return self.known.get(&pid).cloned().unwrap_or_default();
        };
        let all = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).collect();
        let cgroup = cgroup(&cgroups);
        let exe = fs::read_link(folder.join("exe")).ok().map(|path| path.to_string_lossy().into_owned());
        let unit = cgroup.as_deref().and_then(unit);
        let process = Arc::new(Process { exe, cgroup, cgroups: all, unit });
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(pid, Arc::clone(&process));
        process
    }
}

/// The cgroup path in the text of /proc/PID/cgroup (cgroups(7)): lines of `hierarchy:controllers:path`.
fn cgroup(text: &str) -> Option<String> {
    let path = |controllers: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next()? == controllers).then(|| fields.next()).flatten()
        })
    };
    let unified = path("");
    match (unified, path("name=systemd")) {
        (Some("/"), Some(systemd)) if systemd != "/" => Some(systemd.to_owned()),
        (unified, systemd) => unified.or(systemd).map(str::to_owned),
    }
}

/// The systemd unit that a cgroup path belongs to: its last part that is named as one.
fn unit(cgroup: &str) -> Option<String> {
    const KINDS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
    cgroup.rsplit('/').find(|part| KINDS.iter().any(|kind| part.ends_with(kind))).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_path_counts_unless_it_is_the_root_of_a_hybrid_host() {
        let hybrid = "12:memory:/m\n1:name=systemd:/system.slice/redis.service\n0::/\n";
        assert_eq!(cgroup(hybrid).as_deref(), Some("/system.slice/redis.service"));
        assert_eq!(cgroup("0::/system.slice/a.service\n").as_deref(), Some("/system.slice/a.service"));
        assert_eq!(cgroup("4:cpu:/x\n0::/\n").as_deref(), Some("/"));
        assert_eq!(cgroup("1:name=systemd:/user.slice\n").as_deref(), Some("/user.slice"));
        assert_eq!(cgroup(""), None);
        assert_eq!(cgroup("0::/with:colon\n").as_deref(), Some("/with:colon"));
    }

    #[test]
    fn a_unit_is_the_innermost_part_that_is_named_as_one() {
        assert_eq!(unit("/system.slice/redis.service").as_deref(), Some("redis.service"));
        assert_eq!(unit("/user.slice/user@0.service/app.slice/x.scope/inner").as_deref(), Some("x.scope"));
        assert_eq!(unit("/"), None);
    }

    #[test]
    fn the_own_process_is_known_and_one_that_never_was_is_not() {
        let mut processes = Processes::default();
        let own = processes.get(std::process::id());
        assert_eq!(own.exe.as_deref(), std::env::current_exe().unwrap().to_str());
        assert_eq!(*processes.get(u32::MAX), Process::default());
    }
}
