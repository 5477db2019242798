//! Losses that are provoked are shown, and bound what is missing: memory that the kernel refuses, exits without an
//! entry. And the agent does nothing that makes the kernel skip runs (see `exact_missed`).
//!
//! Makes a control group of its own and removes it again. A full ring buffer is in `exact_lives`.
#![cfg(test)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use common::{
    Report, Workload, cannot_run,
    compare::{assert_busy, assert_counts, assert_only_lost, count, list, row, rows_of, sum},
    require_bpf, until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[test]
fn exits_without_an_entry_are_unpaired_and_no_waits() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("refused 25");
    let said = workload.said();
    let report = report.stop();
    let done = &said["rows"][0];
    let row = row(&report, done);
    assert_counts(row, done);
    assert_busy(row, done);
    // A call that a filter refuses does not come to its function: by programs there nothing is seen of it.
    let by_functions = list(&report["probes"]).iter().any(|probe| probe["backend"] == "fentry");
    let refused = if by_functions { 0 } else { count(&said["refused"]) };
    assert_only_lost(&report, "unpaired", refused);
    workload.finish();
}

/// A control group of the memory controller with a limit; gone with the value.
struct Limited {
    folder: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl Limited {
    /// In whichever hierarchy has the memory controller.
    fn make() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let name = format!("loopscope-losses-{}", std::process::id());
        for mount in mounts.lines() {
            let fields: Vec<&str> = mount.split(' ').collect();
            let old = fields[2] == "cgroup" && fields[3].split(',').any(|option| option == "memory");
            let unified = fields[2] == "cgroup2"
                && fs::read_to_string(Path::new(fields[1]).join("cgroup.subtree_control"))
                    .is_ok_and(|controllers| controllers.split_whitespace().any(|name| name == "memory"));
            if !old && !unified {
                continue;
            }
            let folder = Path::new(fields[1]).join(&name);
            fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let (limit, usage) = match old {
                true => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
                false => ("memory.max", "memory.current"),
            };
            return Ok(Limited { folder, limit, usage });
        }
        Err("no control group hierarchy has the memory controller".to_owned())
    }

    /// Moves a process to the group around this one: what it has is still charged here, what it asks for from now on
    /// is not.
    fn release(&self, pid: u32) {
        let around = self.folder.parent().unwrap().join("cgroup.procs");
        fs::write(around, pid.to_string()).unwrap();
    }

    /// No more than what is charged now, but for a little.
    fn close(&self) {
        let usage: u64 = fs::read_to_string(self.folder.join(self.usage)).unwrap().trim().parse().unwrap();
        fs::write(self.folder.join(self.limit), (usage + (256 << 10)).to_string()).unwrap();
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{} stays", self.folder.display());
    }
}

#[test]
fn threads_without_memory_for_a_record_are_counted_and_the_others_are_exact() {
    if !require_bpf() {
        return;
    }
    let group = match Limited::make() {
        Ok(group) => group,
        Err(reason) => return cannot_run(&reason),
    };
    // The kernel charges a map's memory to the group of the process that made the map: the agent's.
    let mut command = Command::new("sh");
    let start = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.folder.display());
    command.args(["-c", &start, "sh", env!("CARGO_BIN_EXE_loopscope")]);
    command.args(["report", "--duration", "10m", "--format", "json"]).stdin(Stdio::null());
    if let Some(backend) = std::env::var_os("LOOPSCOPE_TEST_BACKEND") {
        command.arg("--backend").arg(backend);
    }
    let report = Report::run(&mut command);
    group.release(report.pid());
    group.close();
    let workload = Workload::start("many 1500");
    let said = workload.said();
    let pid = workload.pid();
    let report = report.stop();
    workload.kill();
    let rows = rows_of(&report, pid);
    let dones = list(&said["rows"]);
    let lost = count(&report["lost"]["records"]);
    let made: u64 = dones.iter().map(|done| count(&done["waits"])).sum();
    println!("{} of {} waits in {} rows, {lost} lost", sum(&rows, "waits"), made, rows.len());
    assert!(lost > 0, "memory for 256 KB sufficed");
    assert!(!rows.is_empty() && rows.len() < dones.len(), "{} rows", rows.len());
    assert_only_lost(&report, "records", lost);
    for done in dones {
        // A record that came late has counted from then on.
        let row = rows.iter().find(|row| row["tid"] == done["tid"]);
        assert!(
            row.is_none_or(|row| count(&row["waits"]) <= count(&done["waits"])),
            "{row:?}\nagainst {done}"
        );
    }
    let missing = made - sum(&rows, "waits");
    assert!(missing <= lost, "{missing} waits are missing, with {lost} lost");
}

/// A child that ends with the value at the latest.
struct Running(Child);

impl Running {
    /// Asks it to end, and waits for that.
    fn end(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An strace that watches the bpf(2) calls of a process.
struct Strace {
    running: Running,
    file: PathBuf,
}

impl Strace {
    fn start(pid: u32) -> Option<Self> {
        let file = std::env::temp_dir().join(format!("loopscope-strace-{}-{pid}", std::process::id()));
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=bpf,ioctl", "-o"]).arg(&file).args(["-p", &pid.to_string()]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let strace = Strace { running: Running(child), file };
        let status = format!("/proc/{pid}/status");
        until("strace is there", || {
            fs::read_to_string(&status).unwrap().contains(&format!("TracerPid:\t{}\n", strace.running.0.id()))
        });
        Some(strace)
    }

    /// Lets the process go; what it did.
    fn stop(mut self) -> String {
        self.running.end(Signal::INT);
        let calls = fs::read_to_string(&self.file).unwrap();
        fs::remove_file(&self.file).unwrap();
        calls
    }
}

/// Fails where one of the calls changes a map, or where the oracle has not even seen an iterator being made, as each
/// pass needs one.
fn assert_changes_nothing(calls: &str) {
    let made: Vec<&str> = calls.lines().filter(|line| line.contains("bpf(")).collect();
    assert!(made.iter().any(|line| line.contains("BPF_ITER_CREATE")), "{calls}");
    let changes = ["BPF_MAP_UPDATE", "BPF_MAP_DELETE", "BPF_MAP_LOOKUP_AND_DELETE", "BPF_MAP_FREEZE"];
    let changing: Vec<&&str> =
        made.iter().filter(|line| changes.iter().any(|change| line.contains(change))).collect();
    assert!(changing.is_empty(), "{changing:#?}");
    println!("{} calls of bpf(2), none of which changes a map", made.len());
}

/// Everything that an agent reacts to: loops that come and go, more instances than slots, exec.
fn stir() {
    let workloads =
        ["threads 200 16", "instances 12 20", "generations 100", "old-program= exec 20 30", "ctl"];
    let workloads: Vec<Workload> = workloads.into_iter().map(Workload::start).collect();
    workloads.iter().for_each(|workload| drop(workload.said()));
    workloads.into_iter().for_each(Workload::finish);
}

#[test]
fn a_report_changes_no_map_while_it_watches() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let Some(strace) = Strace::start(report.pid()) else {
        return cannot_run("strace cannot be started; install it");
    };
    stir();
    // Two passes or three.
    thread::sleep(Duration::from_millis(2500));
    let calls = strace.stop();
    let report = report.stop();
    // Not that nothing is lost: an agent that is traced is slow to empty the ring buffer.
    assert_eq!(
        (&report["lost"]["missed"], &report["lost"]["records"]),
        (&json!(0), &json!(0)),
        "{}",
        report["lost"]
    );
    assert_changes_nothing(&calls);
}

#[test]
fn an_exporter_changes_no_map_while_it_is_scraped() {
    if !require_bpf() {
        return;
    }
    let mut command = common::agent(&["agent", "--listen", "127.0.0.1:0", "--socket", "none"]);
    if let Some(backend) = std::env::var_os("LOOPSCOPE_TEST_BACKEND") {
        command.arg("--backend").arg(backend);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let mut exporter = Running(child);
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let first = lines.next().unwrap();
    let address = first.strip_prefix("listening on http://").and_then(|url| url.strip_suffix("/metrics"));
    let address = address.unwrap_or_else(|| panic!("{first}")).to_owned();
    assert!(lines.any(|line| line == "watching"), "it does not watch");
    let strace = Strace::start(exporter.0.id());
    let calls = strace.map(|strace| {
        for _ in 0..5 {
            stir();
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("loopscope_waits_total"),
                "{answer}"
            );
        }
        strace.stop()
    });
    let status = exporter.end(Signal::TERM);
    let Some(calls) = calls else {
        return cannot_run("strace cannot be started; install it");
    };
    assert!(status.success(), "{status}");
    assert_changes_nothing(&calls);
}
