//! The filters: what is named is counted exactly, and nothing else is there.
//!
//! Makes control groups of its own and removes them again; must not touch any other.
#![cfg(test)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use common::{
    Report, Workload, cannot_run,
    compare::{assert_counts, assert_nothing_lost, count, is_standing, list, row},
    require_bpf,
};
use serde_json::{Value, json};

/// A control group of ours, with one within it; gone with the value.
struct Cgroup {
    mount: PathBuf,
    name: String,
}

impl Cgroup {
    /// In a hierarchy.
    fn make(mount: PathBuf) -> Self {
        let cgroup = Cgroup { mount, name: format!("loopscope-test-{}", std::process::id()) };
        fs::create_dir_all(cgroup.folder("inner")).unwrap();
        cgroup
    }

    fn folder(&self, within: &str) -> PathBuf {
        self.mount.join(&self.name).join(within)
    }

    /// Moves a workload into it, or into the one within.
    fn take(&self, workload: &Workload, within: &str) {
        fs::write(self.folder(within).join("cgroup.procs"), workload.pid().to_string()).unwrap();
    }

    /// Its path as in /proc/PID/cgroup.
    fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for within in ["inner", ""] {
            if let Err(error) = fs::remove_dir(self.folder(within)) {
                eprintln!("{} stays: {error}", self.folder(within).display());
            }
        }
    }
}

/// Where a kind of hierarchy is mounted; of several, the last.
fn mount(kind: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|fields| fields[2] == kind).map(|fields| PathBuf::from(fields[1])).next_back()
}

/// Lets the workloads go and reports on them; what the report and what each workload says.
fn observe(args: &[&str], workloads: &mut [Workload]) -> (Value, Vec<Value>) {
    let report = Report::start(args);
    let said = workloads.iter_mut().map(|workload| {
        workload.tell();
        workload.said()
    });
    let said = said.collect();
    (report.stop(), said)
}

/// The workloads with these places are in the report, each with its counts, and nothing else is.
fn assert_only(report: &Value, said: &[Value], shown: &[usize]) {
    let dones: Vec<&Value> = shown.iter().map(|i| &said[*i]["rows"][0]).collect();
    for done in &dones {
        assert_counts(row(report, done), done);
    }
    let pids = |rows: &[Value]| rows.iter().map(|row| count(&row["pid"])).collect::<BTreeSet<_>>();
    let expected: BTreeSet<u64> = dones.iter().map(|done| count(&done["pid"])).collect();
    assert_eq!(pids(list(&report["loops"])), expected);
    for instance in list(&report["instances"]) {
        assert!(pids(list(&instance["holders"])).is_subset(&expected), "{instance}");
    }
    assert_eq!(list(&report["instances"]).len(), dones.len());
}

#[test]
fn a_process_is_watched_without_its_children_and_neighbours() {
    if !require_bpf() {
        return;
    }
    let mut workloads = ["--go fork 20", "--go plain 30", "--go plain 40"].map(Workload::start);
    let pids = [0, 1].map(|i: usize| workloads[i].pid().to_string());
    let report = Report::start(&["--pid", &pids[0], "--pid", &pids[1]]);
    workloads.iter_mut().for_each(Workload::tell);
    // The first says what the parent did and what the child did, in either order.
    let parent = workloads[0].pid();
    let both = [workloads[0].said(), workloads[0].said()];
    let mut said: Vec<Value> = both.into_iter().filter(|said| said["rows"][0]["pid"] == parent).collect();
    said.extend([workloads[1].said(), workloads[2].said()]);
    let report = report.stop();
    assert_nothing_lost(&report);
    assert_only(&report, &said, &[0, 1]);
    workloads.into_iter().for_each(Workload::finish);
}

#[test]
fn names_are_matched_by_pattern() {
    if !require_bpf() {
        return;
    }
    let names = ["ls-alpha= --go plain 20", "ls-beta= --go plain 30", "ls-gamma= --go plain 40"];
    let mut workloads = names.map(Workload::start);
    let (report, said) = observe(&["--comm", "ls-al*", "--comm", "ls-b?ta"], &mut workloads);
    assert_nothing_lost(&report);
    assert_only(&report, &said, &[0, 1]);
    assert_eq!(row(&report, &said[1]["rows"][0])["comm"], "ls-beta");
    let pid = workloads[2].pid().to_string();
    // Different filters must all match.
    let report = Report::start(&["--comm", "ls-alpha", "--pid", &pid]).stop();
    assert_eq!((&report["loops"], &report["instances"]), (&json!([]), &json!([])));
    workloads.into_iter().for_each(Workload::finish);
}

#[test]
fn a_cgroup_is_watched_with_those_below_it() {
    if !require_bpf() {
        return;
    }
    let Some(mount) = mount("cgroup2") else {
        return cannot_run("no cgroup2 file system is mounted");
    };
    let cgroup = Cgroup::make(mount);
    for path in [cgroup.path(), cgroup.folder("").to_string_lossy().into_owned()] {
        let mut workloads =
            ["ls-alpha= --go plain 20", "--go plain 30", "--go plain 40"].map(Workload::start);
        cgroup.take(&workloads[0], "");
        cgroup.take(&workloads[1], "inner");
        let (report, said) = observe(&["--cgroup", &path], &mut workloads);
        // In the kernel, so nothing has to be said about it.
        assert_nothing_lost(&report);
        assert_only(&report, &said, &[0, 1]);
        let inner = row(&report, &said[1]["rows"][0]);
        assert_eq!(inner["cgroup"], format!("{}/inner", cgroup.path()), "{inner}");
        workloads.into_iter().for_each(Workload::finish);
    }
}

#[test]
fn cgroup_and_name_must_both_match() {
    if !require_bpf() {
        return;
    }
    let Some(mount) = mount("cgroup2") else {
        return cannot_run("no cgroup2 file system is mounted");
    };
    let cgroup = Cgroup::make(mount);
    let names = ["ls-alpha= --go plain 20", "ls-beta= --go plain 30", "ls-alpha= --go plain 40"];
    let mut workloads = names.map(Workload::start);
    workloads[..2].iter().for_each(|workload| cgroup.take(workload, "inner"));
    let path = format!("{}/inner", cgroup.path());
    let (report, said) = observe(&["--cgroup", &path, "--comm", "ls-alpha"], &mut workloads);
    assert_nothing_lost(&report);
    assert_only(&report, &said, &[0]);
    workloads.into_iter().for_each(Workload::finish);
}

#[test]
fn a_path_of_a_v1_hierarchy_is_applied_afterwards_and_the_report_says_so() {
    if !require_bpf() {
        return;
    }
    // Hosts with the unified hierarchy alone are as common as those with both.
    let Some(mount) = mount("cgroup").filter(|mount| Path::new(mount).join("cgroup.procs").exists()) else {
        return eprintln!("not run: no v1 hierarchy is mounted");
    };
    let cgroup = Cgroup::make(mount);
    let mut workloads = ["--go plain 20", "--go plain 30", "--go plain 40"].map(Workload::start);
    cgroup.take(&workloads[0], "");
    cgroup.take(&workloads[1], "inner");
    let (report, said) = observe(&["--cgroup", &cgroup.path()], &mut workloads);
    assert_only(&report, &said, &[0, 1]);
    let notes: Vec<_> = list(&report["notes"]).iter().filter(|note| !is_standing(note)).collect();
    assert!(notes.len() == 1 && notes[0].as_str().unwrap().contains(&cgroup.path()), "{notes:?}");
    workloads.into_iter().for_each(Workload::finish);
}
