//! Counts for equality where threads and ids are not what one expects: a process without its first thread, ids that
//! are used again, and calls of 32-bit tasks, which are unseen and never taken for other calls.
//!
//! Nothing here may depend on how fast this machine is.
#![cfg(test)]

mod common;

use std::{collections::BTreeSet, thread, time::Duration};

#[cfg(target_arch = "x86_64")]
use common::compare::{assert_only_lost, is_standing};
use common::{
    Report, Workload,
    compare::{assert_busy, assert_counts, assert_nothing_lost, assert_state, count, list, row, rows_of},
    require_bpf,
};
use serde_json::{Value, json};

/// The counts that `rows` of a report have in any order: waits and empty ones.
fn waits(rows: &[&Value]) -> Vec<(u64, u64)> {
    let mut waits: Vec<(u64, u64)> =
        rows.iter().map(|row| (count(&row["waits"]), count(&row["results"]["empty"]))).collect();
    waits.sort_unstable();
    waits
}

fn distinct(rows: &[&Value], key: &str) -> usize {
    rows.iter().map(|row| row[key].to_string()).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_first_thread_that_ended_keeps_its_counts_and_the_others_go_on() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("headless 30");
    let said = workload.said();
    let pid = workload.pid();
    // A pass sees the zombie.
    thread::sleep(Duration::from_millis(1200));
    let report = report.stop();
    let dones = list(&said["rows"]);
    for (i, done) in dones.iter().enumerate() {
        let row = row(&report, done);
        assert_counts(row, done);
        assert_busy(row, done);
        assert_eq!((&row["ended"], &row["comm"]), (&json!(i == 0), &json!("workload")), "{row}");
        assert_state(row, if i == 0 { "none" } else { "busy" });
    }
    // The fourth waits for stdin.
    let rows = rows_of(&report, pid);
    let waiting: Vec<&&Value> = rows.iter().filter(|row| row["state"] == "wait").collect();
    assert_eq!((dones.len(), rows.len(), waiting.len()), (3, 4, 1), "{rows:?}");
    assert_eq!((&waiting[0]["waits"], &waiting[0]["ended"]), (&json!(0), &json!(false)), "{}", waiting[0]);
    assert_eq!((distinct(&rows, "tid"), distinct(&rows, "instance")), (4, 4));
    workload.finish();
    assert_nothing_lost(&report);
}

/// The only row of a process whose first thread was a zombie when the probes were attached.
fn headless_at_attach() -> Value {
    let mut workload = Workload::start("headless 3");
    workload.said();
    let pid = workload.pid();
    // The thread that waits on for stdin began to when it had said what the others did.
    common::until("the last thread waits", || {
        let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.any(|thread| {
            let call = std::fs::read_to_string(thread.unwrap().path().join("syscall")).unwrap_or_default();
            call.starts_with("232 ") || call.starts_with("22 ")
        })
    });
    let report = Report::start(&["--pid", &pid.to_string()]);
    thread::sleep(Duration::from_millis(300));
    workload.tell();
    thread::sleep(Duration::from_millis(100));
    let report = report.stop();
    assert_nothing_lost(&report);
    workload.finish();
    let rows = rows_of(&report, pid);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

#[test]
fn a_process_whose_first_thread_ended_before_the_probes_is_seen() {
    if !require_bpf() {
        return;
    }
    let row = headless_at_attach();
    // Its wait was in progress at attach; what went before is in no count.
    assert_eq!((&row["waits"], &row["comm"], &row["ended"]), (&json!(0), &json!("workload"), &json!(false)));
    assert!(row["tid"] != row["pid"], "{row}");
    assert!(row["time"]["wait"].as_f64().unwrap() >= 0.3, "{row}");
    assert_state(&row, "busy");
}

#[test]
fn the_executable_of_a_process_whose_first_thread_ended_is_known() {
    if !require_bpf() {
        return;
    }
    let row = headless_at_attach();
    assert!(row["exe"].as_str().is_some_and(|exe| exe.ends_with("/workload")), "{row}");
}

/// The rows of a thread that waited on so many instances and closed them all, once passes had the time to see that.
fn assert_closed(instances: usize) {
    let report = Report::start(&[]);
    let workload = Workload::start(&format!("instances-closed {instances} 3"));
    let said = workload.said();
    thread::sleep(Duration::from_millis(2200));
    let report = report.stop();
    for done in list(&said["rows"]) {
        assert_counts(row(&report, done), done);
    }
    let rows = rows_of(&report, workload.pid());
    let open: Vec<&Value> =
        rows.iter().filter(|row| row["ended"] == false).map(|row| &row["instance"]).collect();
    assert_eq!((rows.len(), open.len()), (instances, 0), "not ended: {}", json!(open));
    workload.finish();
    assert_nothing_lost(&report);
}

#[test]
fn as_many_instances_as_a_thread_has_slots_have_ended_when_they_are_closed() {
    if require_bpf() {
        assert_closed(8);
    }
}

#[test]
fn more_instances_than_a_thread_has_slots_have_ended_when_they_are_closed() {
    if require_bpf() {
        assert_closed(20);
    }
}

#[test]
fn two_processes_of_one_id_are_two() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("same-process");
    let said = workload.said();
    let report = report.stop();
    let rows = rows_of(&report, u32::try_from(count(&said["pid"])).unwrap());
    assert!(rows.iter().all(|row| row["ended"] == true && row["tid"] == said["pid"]), "{rows:?}");
    let (shared, own): (Vec<&Value>, Vec<&Value>) =
        rows.iter().partition(|row| row["epfd"] == said["shared"]);
    assert_eq!(waits(&shared), [(3, 3), (5, 5)], "{shared:?}");
    assert_eq!((waits(&own), distinct(&own, "instance")), (vec![(3, 0), (5, 0)], 2), "{own:?}");
    assert_eq!(distinct(&shared, "instance"), 1, "{shared:?}");
    let shared = common::compare::instance(&report, &shared[0]["instance"]);
    assert_eq!(shared["waiters"], 2, "{shared}");
    workload.finish();
    assert_nothing_lost(&report);
}

#[test]
fn two_threads_of_one_id_are_two() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("same-thread");
    let said = workload.said();
    let report = report.stop();
    let rows = rows_of(&report, workload.pid());
    assert!(rows.iter().all(|row| row["ended"] == true && row["tid"] == said["tid"]), "{rows:?}");
    assert_eq!((waits(&rows), distinct(&rows, "instance")), (vec![(3, 3), (5, 5)], 1), "{rows:?}");
    workload.finish();
    assert_nothing_lost(&report);
}

/// Whether the raw programs serve the waits; then those of 32-bit tasks are counted. For the tracepoints of single
/// calls the kernel hides such tasks.
#[cfg(target_arch = "x86_64")]
fn counts_unseen(report: &Value) -> bool {
    let probe = list(&report["probes"]).iter().find(|probe| probe["name"] == "poll");
    probe.is_some_and(|probe| probe["backend"] == "raw")
}

/// As [`assert_nothing_lost`], but for so many waits of 32-bit tasks.
#[cfg(target_arch = "x86_64")]
fn assert_unseen(report: &Value, waits: u64) {
    assert_only_lost(report, "unseen", if counts_unseen(report) { waits } else { 0 });
    let says = list(&report["notes"]).iter().any(is_standing);
    assert_eq!(says, !counts_unseen(report), "what is not counted is said: {}", report["notes"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_32_bit_numbers_between_others_are_unseen_and_spoil_nothing() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("compat 20");
    let said = workload.said();
    let report = report.stop();
    let done = &said["rows"][0];
    let row = row(&report, done);
    assert_counts(row, done);
    assert_busy(row, done);
    // In 32-bit numbers the main thread made a poll of 8 ms and a waitpid, whose number is the 64-bit poll's; its one
    // poll here is that of Rust's runtime before main.
    let rows = list(&report["loops"]).iter().filter(|row| row["pid"] == done["pid"]);
    let polls: u64 = rows.filter(|row| row["mechanism"] != "epoll").map(|row| count(&row["waits"])).sum();
    assert!(polls <= 1, "{polls} polls: {}", report["loops"]);
    assert_unseen(&report, count(&said["compat"]));
    workload.finish();
}

/// A static 32-bit program for x86: 50 times poll(0, 0, 1), epoll_wait(-1, 0, 1, 0) and waitpid(-1, 0, WNOHANG), whose
/// number is the 64-bit poll's; then exit(0).
#[cfg(target_arch = "x86_64")]
fn program_of_32_bits() -> Vec<u8> {
    const BASE: u32 = 0x0800_0000;
    const HEADERS: u32 = 52 + 32;
    #[rustfmt::skip]
    let code: &[u8] = &[
        0xbd, 50, 0, 0, 0,              // mov ebp, 50
        0x31, 0xf6,                     // again: xor esi, esi
        0x31, 0xdb, 0x31, 0xc9,         // xor ebx, ebx; xor ecx, ecx
        0xba, 1, 0, 0, 0,               // mov edx, 1
        0xb8, 168, 0, 0, 0, 0xcd, 0x80, // mov eax, poll; int 0x80
        0xbb, 0xff, 0xff, 0xff, 0xff,   // mov ebx, -1
        0xb8, 0, 1, 0, 0, 0xcd, 0x80,   // mov eax, epoll_wait; int 0x80
        0xb8, 7, 0, 0, 0, 0xcd, 0x80,   // mov eax, waitpid; int 0x80
        0x4d, 0x75, 0xd8,               // dec ebp; jnz again
        0x31, 0xdb,                     // xor ebx, ebx
        0xb8, 1, 0, 0, 0, 0xcd, 0x80,   // mov eax, exit; int 0x80
    ];
    let size = HEADERS + u32::try_from(code.len()).unwrap();
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves =
        |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let words = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    // An executable for the 386; entry, program headers, no sections.
    halves(&mut file, &[2, 3]);
    words(&mut file, &[1, BASE + HEADERS, 52, 0, 0]);
    halves(&mut file, &[52, 32, 1, 0, 0, 0]);
    // One segment to load: everything, to read and to execute.
    words(&mut file, &[1, 0, BASE, BASE, size, size, 5, 0x1000]);
    file.extend(code);
    file
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_process_is_unseen_and_in_no_row() {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};
    if !require_bpf() {
        return;
    }
    let path = std::env::temp_dir().join(format!("loopscope-edges-{}", std::process::id()));
    fs::write(&path, program_of_32_bits()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let report = Report::start(&[]);
    let started = Command::new(&path).spawn();
    let ended = started.map(|mut child| (child.id(), child.wait().unwrap()));
    let report = report.stop();
    fs::remove_file(&path).unwrap();
    let (pid, status) = match ended {
        Ok(ended) => ended,
        Err(error) => return common::cannot_run(&format!("no 32-bit programs on this kernel: {error}")),
    };
    assert!(status.success(), "{status}");
    // Before it executed the program it was one of 64 bits, which made no epoll wait.
    let rows: Vec<&Value> = list(&report["loops"]).iter().filter(|row| row["pid"] == pid).collect();
    assert!(rows.iter().all(|row| row["comm"] != path.file_name().unwrap().to_str().unwrap()), "{rows:?}");
    assert_eq!(rows_of(&report, pid).len(), 0, "{rows:?}");
    assert_unseen(&report, 100);
}
