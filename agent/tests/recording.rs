//! Recordings of a live host: a replay says what was seen, and what is left when the recorder ends badly.
#![cfg(test)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Workload, agent, cannot_run, folder::Folder, place_in_a_frame, require_bpf, until};
use serde_json::Value;

fn run(args: &[&str]) -> Output {
    let output = agent(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_replayed_report_is_the_report_that_was_made() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("rec-same");
    let file = folder.file("a.loopscope");
    // Loops that end, one that stays, several on one instance, polls and selects.
    let stays = Workload::start("--name stays busy 100000 3");
    let args = ["report", "--record", &file, "--duration", "4s", "--format", "json"];
    let live = agent(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let before = Instant::now();
    while before.elapsed() < Duration::from_secs(3) {
        for words in ["--quit threads 20 5", "--quit shared 3 50", "--quit sets 3 3", "--quit processes 4 5"]
        {
            Workload::start(words).finish();
        }
    }
    let live = live.wait_with_output().unwrap();
    assert!(live.status.success(), "{}", text(&live.stderr));
    for format in ["json", "table", "csv"] {
        let replayed = run(&["report", "--replay", &file, "--format", format]);
        assert_eq!(text(&replayed.stderr), "");
        if format == "json" {
            let [live, replayed] = [text(&live.stdout), text(&replayed.stdout)];
            let at = live.bytes().zip(replayed.bytes()).position(|(a, b)| a != b).unwrap_or(0);
            let near = |text: &str| text[at.saturating_sub(600)..(at + 200).min(text.len())].to_owned();
            assert!(live == replayed, "at byte {at}:\n{}\n\n{}", near(live), near(replayed));
        }
    }
    let report: Value = serde_json::from_slice(&live.stdout).unwrap();
    assert!(report["loops"].as_array().unwrap().len() > 40, "{report}");
    // Filters work on a replay too.
    let some = run(&["report", "--replay", &file, "--format", "json", "--comm", "stays"]);
    let some: Value = serde_json::from_slice(&some.stdout).unwrap();
    let rows = some["loops"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["comm"] == "stays"), "{some}");
    stays.kill();
}

#[test]
fn frames_of_a_replay_are_the_windows_one_after_another() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("rec-frames");
    let file = folder.file("a.loopscope");
    let workload = Workload::start("--name recorded busy 100000 3");
    run(&["record", "-o", &file, "--duration", "3300ms", "--interval", "500ms"]);
    workload.kill();
    let frames = run(&["top", "-b", "--replay", &file, "--format", "json", "--comm", "recorded"]);
    let frames: Vec<Value> =
        text(&frames.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(frames.len() >= 6, "{}", frames.len());
    let all = run(&["report", "--replay", &file, "--format", "json", "--comm", "recorded"]);
    let all: Value = serde_json::from_slice(&all.stdout).unwrap();
    let waits = |report: &Value| report["loops"][0]["waits"].as_u64().unwrap();
    assert_eq!(frames.iter().map(waits).sum::<u64>(), waits(&all));
    let csv = run(&["top", "-b", "-n", "2", "--replay", &file, "--format", "csv"]);
    let lines: Vec<&str> = text(&csv.stdout).lines().collect();
    assert!(lines[0].starts_with("started_at,pid,tid,comm"), "{}", lines[0]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("started_at")).count(), 1);
    let table = run(&["top", "-b", "-n", "2", "--replay", &file]);
    assert_eq!(text(&table.stdout).matches("PID").count(), 2);
}

#[test]
fn what_a_killed_recorder_wrote_can_be_replayed() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("rec-killed");
    let file = folder.file("a.loopscope");
    let args = ["record", "-o", &file, "--interval", "100ms"];
    let mut recorder = agent(&args).stderr(Stdio::null()).spawn().unwrap();
    until("something is recorded", || fs::metadata(&file).is_ok_and(|meta| meta.len() > 4096));
    thread::sleep(Duration::from_secs(1));
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    let replayed = run(&["report", "--replay", &file, "--format", "json"]);
    let report: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert!(report["duration_seconds"].as_f64().unwrap() > 0.5, "{report}");
    assert!(text(&replayed.stderr).contains("was cut off"), "{}", text(&replayed.stderr));
    assert_eq!(text(&replayed.stderr).lines().count(), 1);
}

/// A file system of 128 KB.
struct Small<'a>(&'a Path);

impl Small<'_> {
    fn mount(folder: &Path) -> Option<Small<'_>> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=128k", "loopscope-test"]).arg(folder);
        mount.output().ok()?.status.success().then_some(Small(folder))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).output();
    }
}

#[test]
fn a_full_disk_ends_a_recording_and_leaves_what_was_written() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("rec-full");
    let Some(disk) = Small::mount(folder.path()) else {
        return cannot_run("it cannot mount a tmpfs");
    };
    let file = folder.file("a.loopscope");
    let workloads: Vec<Workload> = (0..12).map(|_| Workload::start("busy 100000 1")).collect();
    let output = agent(&["record", "-o", &file, "--interval", "10ms", "--duration", "60s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("No space left") && said.contains("can be replayed"), "{said}");
    let replayed = run(&["report", "--replay", &file, "--format", "json"]);
    let report: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert!(report["loops"].as_array().unwrap().len() >= 12, "{report}");
    workloads.into_iter().for_each(Workload::kill);
    drop(disk);
}

#[test]
fn a_redacted_recording_names_nobody_and_one_that_is_full_begins_anew() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("rec-redacted");
    let file = folder.file("a.loopscope");
    let workload = Workload::start("--name topsecret busy 100000 1");
    run(&["record", "-o", &file, "--interval", "10ms", "--duration", "5s", "--max-size", "64K", "--redact"]);
    workload.kill();
    let before = format!("{file}.1");
    for file in [&file, &before] {
        assert!(fs::metadata(file).unwrap().len() < 48 << 10);
        let replayed = run(&["report", "--replay", file, "--format", "json"]);
        let report = text(&replayed.stdout);
        assert!(!report.contains("topsecret") && !report.contains("workload"), "{report}");
        assert!(report.contains("\"comm\":\"x"), "{report}");
    }
}

#[test]
fn what_cannot_be_replayed_is_one_line_and_bad_input() {
    let folder = Folder::new("rec-bad");
    let file = folder.file("bad");
    fs::write(&file, "no recording").unwrap();
    let missing = folder.file("missing");
    for args in [
        &["report", "--replay", &file][..],
        &["inspect", "1", "--replay", &file],
        &["compare", &file, &missing],
        &["report", "--replay", &missing],
        &["top", "-b", "--replay", &file],
        &["top", "--replay", &missing],
        &["record", "-o", &file, "--redact", "--comm", "x"],
        &["record", "-o", &file, "--max-size", "1"],
        &["top", "--sort", "NOTHING"],
    ] {
        let output = agent(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

/// A good recording, and what may have become of it.
#[test]
fn every_command_that_replays_refuses_what_is_damaged_in_one_line() {
    let folder = Folder::new("rec-damaged");
    let good = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/v1.loopscope")).unwrap();
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        bytes
    };
    let mut newer = good.clone();
    newer[8] = 99;
    let middle = place_in_a_frame(&good);
    for (name, bytes, why) in [
        ("empty", Vec::new(), "is empty"),
        ("short", good[..15].to_vec(), "ends within"),
        ("head", changed(40), "head is damaged"),
        ("newer", newer, "format version 99"),
        ("foreign", b"PK\x03\x04".to_vec(), "no recording"),
        ("middle", changed(middle), "damaged at byte"),
    ] {
        let file = folder.file(name);
        fs::write(&file, bytes).unwrap();
        for args in [
            &["report", "--replay", &file][..],
            &["top", "-b", "--replay", &file],
            &["inspect", "1", "--replay", &file],
            &["compare", &file, &file],
        ] {
            let output = agent(args).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert!(said.lines().count() == 1 && said.contains(name), "{args:?}: {said}");
            // compare takes documents too, and so may say that it is neither.
            assert!(said.contains(why) || args[0] == "compare", "{args:?}: {said}");
        }
    }
}

#[test]
fn shared_listeners_and_interest_sets_are_in_a_recording() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("rec-shared");
    let file = folder.file("a.loopscope");
    let mut workload = Workload::start("inspected-shared 2");
    let made = workload.said();
    let address = made["address"].as_str().unwrap();
    let args = ["report", "--record", &file, "--duration", "3s", "--format", "json"];
    let mut live = agent(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(live.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "watching"), "report ended before it watched");
    workload.tell();
    workload.said();
    let live = live.wait_with_output().unwrap();
    let replayed = run(&["report", "--replay", &file, "--format", "json"]);
    assert!(live.stdout == replayed.stdout, "{}\n\n{}", text(&live.stdout), text(&replayed.stdout));
    let report: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    let shares = |report: &Value| -> Vec<f64> {
        let instances = report["instances"].as_array().unwrap().iter();
        let listeners = instances.flat_map(|row| row["listeners"].as_array().cloned().unwrap_or_default());
        let ours = listeners.filter(|row| row["listener"] == address);
        ours.filter_map(|row| row["events_share"].as_f64()).collect()
    };
    // One took one connection, the other two.
    let mut of_each = shares(&report);
    of_each.sort_by(f64::total_cmp);
    assert_eq!(of_each, [1.0 / 3.0, 2.0 / 3.0], "{report}");
    let child = made["children"][0].to_string();
    let shown = run(&["inspect", &child, "--replay", &file]);
    for wanted in [address, "1 other", "WATCHED", "in,exclusive", "a recording has no descriptors"] {
        assert!(text(&shown.stdout).contains(wanted), "{wanted} in\n{}", text(&shown.stdout));
    }
    let document: Value =
        serde_json::from_slice(&run(&["inspect", &child, "--replay", &file, "--format", "json"]).stdout)
            .unwrap();
    assert_eq!(document["fds"].as_array().unwrap().len(), 1, "{document}");
    assert_eq!((&document["fds"][0]["events"], &document["fds"][0]["kind"]), (&Value::Null, &Value::Null));
    assert_eq!(document["process"]["open_fds"], Value::Null);
    let nobody = agent(&["inspect", "4194304", "--replay", &file]).output().unwrap();
    assert_eq!((nobody.status.code(), text(&nobody.stderr).lines().count()), (Some(2), 1));
    // Redacted, the address is a token, and the shares are what they were.
    let redacted = folder.file("redacted.loopscope");
    run(&["record", "-o", &redacted, "--redact", "--duration", "500ms"]);
    let redacted = run(&["report", "--replay", &redacted, "--format", "json"]);
    let said = text(&redacted.stdout);
    assert!(!said.contains(address) && said.contains("\"listener\":\"x"), "{said}");
    workload.kill();
}
