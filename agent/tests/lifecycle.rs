//! How the agent starts and ends: exit codes, single lines of error, and that nothing of it stays in the kernel or
//! on the host.
//!
//! Ends only agents that it started.
#![cfg(test)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;
use common::{Report, agent, folder::Folder, require_bpf, until};
use rustix::process::Signal;
use serde_json::Value;

/// Start to `watching` at most; measured 0.3 s where nothing else runs.
const START_LIMIT: Duration = Duration::from_secs(2);
/// The agent's resident memory at most, kB.
const MEMORY_LIMIT: u64 = 40 * 1024;

/// It ended with a code, one line on stderr that has a word, and nothing on stdout.
fn assert_refused(what: &str, output: &Output, code: i32, word: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{what}: {stderr}");
    assert!(stderr.starts_with("loopscope: error: ") && stderr.contains(word), "{what}: {stderr}");
    assert!(output.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
}

/// The programs that a process holds, by the kernel's ids.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = descriptors.filter_map(|descriptor| fs::read_to_string(descriptor.path()).ok());
    texts
        .flat_map(|text| {
            let ids = text.lines().filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
            ids.collect::<Vec<u32>>()
        })
        .collect()
}

/// Which of the programs are loaded.
fn still_loaded(ids: &BTreeSet<u32>) -> Vec<String> {
    // One that goes while the list is made is gone.
    let loaded = loaded_programs().filter_map(Result::ok).filter(|program| ids.contains(&program.id()));
    loaded.map(|program| program.name_as_str().unwrap_or("?").to_owned()).collect()
}

#[test]
fn bad_input_is_refused_in_one_line_before_anything_starts() {
    let gone = u32::MAX >> 10;
    let gone = gone.to_string();
    let wrong: [(&[&str], &str); 12] = [
        (&["report", "--pid", &gone], &gone),
        (&["report", "--pid", "0"], "--pid"),
        (&["report", "--pid", "me"], "--pid"),
        (&["report", "--duration", "soon"], "--duration"),
        (&["report", "--duration", "0"], "--duration"),
        (&["report", "--duration", "-3s"], "--duration"),
        (&["report", "--cgroup", "/no/such/cgroup"], "/no/such/cgroup"),
        (&["report", "--cgroup", "relative"], "--cgroup"),
        (&["report", "--comm", "a-name-that-is-too-long"], "--comm"),
        (&["report", "--format", "xml"], "--format"),
        (&["report", "--no-such-option"], "--no-such-option"),
        (&["no-such-command"], "no-such-command"),
    ];
    for (args, word) in wrong {
        let output = agent(args).output().unwrap();
        assert_refused(&args.join(" "), &output, 2, word);
    }
}

#[test]
fn a_btf_file_that_is_missing_or_damaged_is_bad_input() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("lifecycle");
    let good = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let mut damaged = good.clone();
    damaged.iter_mut().skip(24).step_by(97).for_each(|byte| *byte ^= 0x5a);
    let files = [
        folder.write("empty", b""),
        folder.write("text", b"this is no BTF\n"),
        folder.write("half", &good[..good.len() / 2]),
        folder.write("damaged", &damaged),
        folder.file("missing"),
        folder.path().to_string_lossy().into_owned(),
    ];
    for file in &files {
        let output = agent(&["report", "--duration", "1s", "--btf", file]).output().unwrap();
        assert_refused(file, &output, 2, file);
    }
    // What is good elsewhere is good here.
    let copy = folder.write("copy", &good);
    let output = agent(&["report", "--duration", "100ms", "--btf", &copy]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_user_without_capabilities_is_told_which_one_is_missing() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not run: only root can become somebody else");
    }
    let folder = Folder::new("lifecycle");
    let program = folder.write("loopscope", fs::read(env!("CARGO_BIN_EXE_loopscope")).unwrap());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output =
        Command::new(&program).args(["report", "--duration", "1s"]).uid(65534).gid(65534).output().unwrap();
    assert_refused("nobody's report", &output, 1, "CAP_BPF");
    let output =
        Command::new(&program).args(["check", "--format", "json"]).uid(65534).gid(65534).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["main_job"]), (Some(1), &Value::Bool(false)), "{document}");
}

#[test]
fn check_finds_that_the_main_job_can_be_done() {
    if !require_bpf() {
        return;
    }
    let output = agent(&["check", "--format", "json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["main_job"]), (Some(0), &Value::Bool(true)), "{document}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    for probe in document["probes"].as_array().unwrap() {
        assert_eq!(probe["ok"], true, "{probe}");
    }
}

#[test]
fn a_report_ends_by_itself_or_by_a_signal_with_what_was_seen() {
    if !require_bpf() {
        return;
    }
    let output = agent(&["report", "--duration", "300ms", "--format", "json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let seconds = document["duration_seconds"].as_f64().unwrap();
    assert!(output.status.success() && (0.3..0.5).contains(&seconds), "{seconds} s, {output:?}");
    for signal in [Signal::INT, Signal::TERM] {
        let ended = Report::start(&[]).signal(signal);
        assert!(ended.status.success() && ended.stderr.is_empty(), "{}: {:?}", ended.status, ended.stderr);
        let document: Value = serde_json::from_str(&ended.stdout[0]).unwrap();
        assert!(document["duration_seconds"].as_f64().unwrap() < 60.0);
    }
}

#[test]
fn a_reader_that_went_away_ends_it_quietly_and_a_full_disk_does_not() {
    if !require_bpf() {
        return;
    }
    for format in ["table", "json", "csv"] {
        let mut child = agent(&["report", "--duration", "200ms", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "watching\n", "{format}");
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        agent(&["report", "--duration", "200ms"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 2), "{stderr}");
}

#[test]
fn no_probe_stays_after_the_agent() {
    if !require_bpf() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let report = Report::start(&[]);
        let programs = programs_of(report.pid());
        let names = still_loaded(&programs);
        assert!(names.len() >= 10 && names.iter().any(|name| name == "sample"), "{names:?}");
        let ended = report.signal(signal);
        assert_eq!(ended.status.success(), signal != Signal::KILL, "{}", ended.status);
        // The kernel frees programs a moment after their last user.
        until("the probes are gone", || still_loaded(&programs).is_empty());
    }
}

#[test]
fn no_mount_is_left_on_the_host() {
    if !require_bpf() {
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    let report = Report::start(&[]);
    let while_watching = mounts();
    report.stop();
    assert_eq!((&before, &before), (&while_watching, &mounts()));
}

#[test]
fn it_starts_soon_and_stays_small() {
    if !require_bpf() {
        return;
    }
    let reports: Vec<Duration> = (0..3)
        .map(|_| {
            let report = Report::start(&[]);
            let time = report.start_time;
            report.stop();
            time
        })
        .collect();
    let started = Instant::now();
    let report = Report::start(&[]);
    println!("start to `watching`: {:?}, before that {reports:?}", report.start_time);
    assert!(report.start_time < START_LIMIT, "{:?}", report.start_time);
    thread::sleep(Duration::from_secs(10).saturating_sub(started.elapsed()));
    let status = fs::read_to_string(format!("/proc/{}/status", report.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    println!("resident after 10 s: {resident} kB");
    assert!(resident < MEMORY_LIMIT, "{line}");
    report.stop();
}
