//! From the filters on the command line to what the probes watch and what is left out afterwards. Looks at /proc and
//! the cgroup file systems; starts nothing.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use globset::{Glob, GlobSet};

use super::{Failure, Filters};
use crate::{
    kernel::Watched,
    model::{Thread, Window},
    store::Filtered,
};

/// Filters, checked against this host.
pub struct Selection {
    /// What the probes can tell apart by themselves.
    pub watched: Watched,
    comms: Option<GlobSet>,
    /// As they were written.
    patterns: Vec<String>,
    /// Cgroups that are compared here, by path, because one of them is of a v1 hierarchy.
    paths: Vec<String>,
    /// Processes that are compared here, because a recording is replayed.
    pids: Vec<u32>,
    /// The filters of the recording that is replayed.
    recorded: Option<Box<Selection>>,
}

/// Where cgroup hierarchies are mounted.
struct Mounts {
    unified: Option<PathBuf>,
    v1: Vec<PathBuf>,
}

impl Selection {
    /// Checks that what the filters name is there.
    ///
    /// # Errors
    /// [`Failure::bad_input`] for a process or a cgroup that does not exist, or too many of them.
    pub fn new(filters: &Filters) -> Result<Selection, Failure> {
        for pid in &filters.pids {
            if !Path::new("/proc").join(pid.to_string()).exists() {
                return Err(Failure::bad_input(format!(
                    "--pid {pid}: no such process; `loopscope report` without it shows which there are"
                )));
            }
        }
        if filters.pids.len() > Watched::MAX_PIDS || filters.cgroups.len() > Watched::MAX_CGROUPS {
            return Err(Failure::bad_input(format!(
                "at most {} --pid and {} --cgroup can be given; name a cgroup that holds the processes",
                Watched::MAX_PIDS,
                Watched::MAX_CGROUPS
            )));
        }
        let mounts = Mounts::read(&fs::read_to_string("/proc/self/mounts").unwrap_or_default());
        let mut watched = Watched { pids: filters.pids.clone(), ..Watched::default() };
        let mut paths = Vec::new();
        let mut all_unified = true;
        for path in &filters.cgroups {
            let (relative, kernfs) = mounts.find(path)?;
            match kernfs {
                Some(cgroup) => watched.cgroups.push(cgroup),
                None => all_unified = false,
            }
            paths.push(relative);
        }
        if all_unified {
            paths.clear();
        } else {
            watched.cgroups.clear();
        }
        Ok(Selection { watched, paths, ..Selection::named(filters)? })
    }

    /// Filters for the readings of an agent that sees everything.
    ///
    /// # Errors
    /// As [`Selection::new`].
    pub fn of_agent(filters: &Filters) -> Result<Selection, Failure> {
        let checked = Selection::new(filters)?;
        let mounts = Mounts::read(&fs::read_to_string("/proc/self/mounts").unwrap_or_default());
        let paths: Result<Vec<String>, Failure> =
            filters.cgroups.iter().map(|path| Ok(mounts.find(path)?.0)).collect();
        Ok(Selection { paths: paths?, pids: filters.pids.clone(), watched: Watched::default(), ..checked })
    }

    /// Filters for a recording: those of the recording, and more. Nothing is asked of this host.
    ///
    /// # Errors
    /// Patterns that are too large.
    pub fn of_recording(filters: &Filters, filtered: &Filtered) -> Result<Selection, Failure> {
        let path = |path: &PathBuf| path.to_string_lossy().trim_start_matches("/sys/fs/cgroup").to_owned();
        let comms = filtered.comms.iter().filter_map(|comm| Glob::new(comm).ok()).collect();
        let recorded = Filters { comms, ..Filters::default() };
        let recorded = Selection { paths: filtered.paths.clone(), ..Selection::named(&recorded)? };
        Ok(Selection {
            paths: filters.cgroups.iter().map(path).collect(),
            pids: filters.pids.clone(),
            recorded: Some(Box::new(recorded)),
            ..Selection::named(filters)?
        })
    }

    /// Filters by name alone.
    fn named(filters: &Filters) -> Result<Selection, Failure> {
        Ok(Selection {
            watched: Watched::default(),
            comms: filters.comm_matcher()?,
            patterns: filters.comms.iter().map(|comm| comm.glob().to_owned()).collect(),
            paths: Vec::new(),
            pids: Vec::new(),
            recorded: None,
        })
    }

    /// What a recording has to keep of it.
    pub fn filtered(&self) -> Filtered {
        Filtered { comms: self.patterns.clone(), paths: self.paths.clone(), notes: self.notes() }
    }

    /// Other names from now on.
    pub fn set_comms(&mut self, comms: Option<GlobSet>) {
        self.comms = comms;
    }

    /// What is said about a filter that does not work in the kernel.
    pub fn notes(&self) -> Vec<String> {
        if self.paths.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "--cgroup {}: of a v1 hierarchy, so it is applied after the fact; the probes recorded every process",
            self.paths.join(", ")
        )]
    }

    /// Leaves out of a window what the probes could not.
    pub fn apply<L: AsRef<Thread>>(&self, window: &mut Window<L>) {
        if let Some(recorded) = &self.recorded {
            recorded.apply(window);
        }
        if self.comms.is_none() && self.paths.is_empty() && self.pids.is_empty() {
            return;
        }
        window.loops.retain(|looped| self.keeps(looped.as_ref()));
        let pids: HashSet<u32> = window.loops.iter().map(|looped| looped.as_ref().tgid).collect();
        window.instances.retain(|instance| instance.holders.iter().any(|(pid, _)| pids.contains(pid)));
        window.ctls.retain(|ctl| pids.contains(&ctl.tgid));
    }

    fn keeps(&self, thread: &Thread) -> bool {
        let named = self.comms.as_ref().is_none_or(|comms| comms.is_match(&thread.comm));
        let placed = self.paths.is_empty()
            || thread
                .process
                .cgroups
                .iter()
                .any(|own| self.paths.iter().any(|path| Path::new(own).starts_with(path)));
        named && placed && (self.pids.is_empty() || self.pids.contains(&thread.tgid))
    }
}

impl Mounts {
    /// From the text of /proc/self/mounts.
    fn read(text: &str) -> Mounts {
        let of = |kind: &str| {
            let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let matching = lines.filter(|fields| fields.get(2) == Some(&kind));
            matching.filter_map(|fields| fields.get(1).map(PathBuf::from)).collect::<Vec<_>>()
        };
        Mounts { unified: of("cgroup2").into_iter().next(), v1: of("cgroup") }
    }

    /// The path within its hierarchy, and, if that is the v2 one, kernfs id and depth.
    fn find(&self, path: &Path) -> Result<(String, Option<(u64, u64)>), Failure> {
        let refuse = |why: &str| Failure::bad_input(format!("--cgroup {}: {why}", path.display()));
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(refuse("must not contain .."));
        }
        let within = |mount: &PathBuf| match path.strip_prefix(mount) {
            Ok(relative) => Path::new("/").join(relative),
            Err(_) => path.to_owned(),
        };
        let folder = |mount: &PathBuf| mount.join(within(mount).strip_prefix("/").unwrap_or(path));
        if let Some(mount) = &self.unified
            && let Ok(meta) = fs::metadata(folder(mount))
            && meta.is_dir()
        {
            let relative = within(mount);
            let level = relative.components().filter(|part| matches!(part, Component::Normal(_))).count();
            return Ok((relative.to_string_lossy().into_owned(), Some((meta.ino(), level as u64))));
        }
        match self.v1.iter().find(|mount| folder(mount).is_dir()) {
            Some(mount) => Ok((within(mount).to_string_lossy().into_owned(), None)),
            None => Err(refuse("no such cgroup; give a path as /proc/PID/cgroup has it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_among_the_mounts() {
        let mounts = Mounts::read(
            "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
        );
        assert_eq!(mounts.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(mounts.v1, [Path::new("/sys/fs/cgroup/cpu")]);
    }

    #[test]
    fn a_process_or_cgroup_that_is_not_there_is_bad_input() {
        let filters = Filters { pids: vec![(1 << 22) - 1], ..Filters::default() };
        let failure = Selection::new(&filters).err().unwrap();
        assert_eq!(failure.code, 2);
        assert!(failure.message.contains("no such process"), "{failure}");
        let filters = Filters { cgroups: vec!["/no/such/cgroup".into()], ..Filters::default() };
        assert_eq!(Selection::new(&filters).err().unwrap().code, 2);
    }
}
