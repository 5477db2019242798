//! Views that take their readings from a running agent: the same counts, who is let in, and what is said when it ends.
#![cfg(test)]

mod common;

use std::{
    fs,
    io::Read,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Stdio,
    thread,
    time::Duration,
};

use common::{Report, Workload, agent, exporter::Agent, folder::Folder, require_bpf, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A socket in a folder that the agent makes.
const SOCKET: &str = "run/agent.sock";

fn rows<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    // A program of Rust's calls poll once, at its start.
    let epoll = |row: &&Value| row["comm"] == name && row["mechanism"] == "epoll";
    report["loops"].as_array().unwrap().iter().filter(epoll).collect()
}

fn waits(report: &Value, name: &str) -> u64 {
    rows(report, name).iter().map(|row| row["waits"].as_u64().unwrap()).sum()
}

#[test]
fn a_report_and_top_say_what_the_workload_did_without_probes_of_their_own() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("fed-same");
    let socket = folder.file(SOCKET);
    let running = Agent::start(&["--socket", &socket]);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(folder.path().join("run")).unwrap().permissions().mode() & 0o777, 0o700);
    let mut stays = Workload::start("--name fed-stays --go plain 500");
    // Two views at a time, and what one asks for the other gets too.
    let report = ["report", "--socket", &socket, "--duration", "4s", "--format", "json"];
    let mut report = agent(&report).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let top =
        ["top", "-b", "-n", "8", "-i", "500ms", "--socket", &socket, "--format", "json", "--comm", "fed-*"];
    let top = agent(&top).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    until("the report watches", || {
        let mut byte = [0];
        report.stderr.as_mut().unwrap().read_exact(&mut byte).unwrap();
        said.push(byte[0]);
        said.ends_with(b"watching\n")
    });
    assert_eq!(said, b"watching\n");
    thread::sleep(Duration::from_millis(1200));
    stays.tell();
    let done = stays.said();
    Workload::start("--name fed-ends --quit plain 300").finish();
    let (report, top) = (report.wait_with_output().unwrap(), top.wait_with_output().unwrap());
    assert!(report.status.success() && top.status.success(), "{report:?}\n{top:?}");
    assert_eq!(String::from_utf8_lossy(&top.stderr), "watching\n");
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(done["rows"].as_array().map(Vec::len), Some(1), "{done}");
    for (name, made) in [("fed-stays", 500), ("fed-ends", 300)] {
        assert_eq!(waits(&report, name), made, "{name}");
    }
    let notes = report["notes"].to_string();
    assert!(notes.contains("running agent") && notes.contains(&running.pid().to_string()), "{notes}");
    // The probes' runs are those of one set, and the reports' own loops are seen by it.
    assert!(rows(&report, "loopscope").len() >= 3, "agent, report and top: {report}");
    let text = String::from_utf8(top.stdout).unwrap();
    let frames: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(frames.len(), 8);
    for name in ["fed-stays", "fed-ends"] {
        let sum: u64 = frames.iter().map(|frame| waits(frame, name)).sum();
        assert_eq!(sum, waits(&report, name), "{name}");
    }
    stays.kill();
    assert!(running.end(Signal::TERM).success());
    // The file stays, since the confined agent removes none.
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_err(), "nobody listens any more");
    let output = agent(&["report", "--socket", &socket, "--duration", "300ms", "--format", "json"]).output();
    let alone: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert!(!alone["notes"].to_string().contains("running agent"), "{alone}");
}

#[test]
fn when_the_agent_ends_its_views_say_so_in_one_line() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("fed-ends");
    let socket = folder.file(SOCKET);
    let running = Agent::start(&["--socket", &socket]);
    let top = ["top", "-b", "-i", "100ms", "--socket", &socket];
    let mut top = agent(&top).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 64];
    top.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert!(running.end(Signal::KILL).code().is_none());
    let output = top.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.ends_with("start again, or with --standalone\n") && said.lines().count() == 2, "{said}");
    // What it left does not stand in the way of the next one.
    let next = Agent::start(&["--socket", &socket]);
    let output = agent(&["report", "--socket", &socket, "--duration", "200ms", "--format", "json"]).output();
    let report: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert!(report["notes"].to_string().contains(&format!("process {}", next.pid())), "{}", report["notes"]);
    assert!(next.end(Signal::TERM).success());
}

#[test]
fn other_users_are_refused_even_where_the_file_lets_them_in() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("fed-others");
    let socket = folder.file(SOCKET);
    let running = Agent::start(&["--socket", &socket]);
    let program = folder.path().join("loopscope");
    fs::copy(env!("CARGO_BIN_EXE_loopscope"), &program).unwrap();
    for open in [false, true] {
        if open {
            fs::set_permissions(folder.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        }
        let mut command = std::process::Command::new(&program);
        command.args(["top", "-b", "-n", "1", "--socket", &socket]).stdin(Stdio::null());
        let output = command.uid(65534).gid(65534).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty() && said.contains("CAP_"), "{said}");
        assert_eq!(said.contains("refuses"), open, "{said}");
    }
    assert!(running.end(Signal::TERM).success());
}

#[test]
fn an_agent_that_sees_a_part_is_not_asked_for_the_whole() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("fed-part");
    let socket = folder.file(SOCKET);
    let own = std::process::id().to_string();
    let running = Agent::start(&["--socket", &socket, "--pid", &own]);
    let output = agent(&["report", "--socket", &socket, "--duration", "300ms", "--format", "json"]).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("it watches some processes alone; attaching probes"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!rows(&report, "loopscope").is_empty());
    assert!(running.end(Signal::TERM).success());
}

#[test]
fn an_inspection_takes_the_agents_readings_and_counts_beside_it_what_each_descriptor_delivers() {
    if !require_bpf() {
        return;
    }
    let folder = Folder::new("fed-inspect");
    let socket = folder.file(SOCKET);
    let running = Agent::start(&["--socket", &socket]);
    let mut load = Workload::start("--name fed-seen --go plain 500");
    let pid = load.pid().to_string();
    let inspect = ["inspect", &pid, "--duration", "10m", "--format", "json", "--socket", &socket];
    let report = Report::run(&mut agent(&inspect));
    load.tell();
    load.said();
    let document = report.stop();
    assert_eq!(waits(&document, "fed-seen"), 500, "{document}");
    let notes = document["notes"].to_string();
    assert!(notes.contains(&format!("running agent, process {}", running.pid())), "{notes}");
    assert!(notes.contains("probes of this command, which saw the 1 processes"), "{notes}");
    // The loop is the agent's, its descriptors' events are the probes' beside it, what they are comes from /proc.
    let fds = document["fds"].as_array().unwrap();
    assert!(!fds.is_empty() && fds.iter().all(|row| row["kind"].is_string()), "{document}");
    // The workload adds and deletes its descriptor again and again, so that nobody knows whose the events were.
    let sums = &document["delivered"][0];
    assert_eq!(
        (&sums["gone"], &sums["known"]),
        (&rows(&document, "fed-seen")[0]["events"], &json!(0)),
        "{document}"
    );
    assert_eq!(document["instances"][0]["watched"]["total"], fds.len());
    assert_eq!(document["process"]["comm"], "fed-seen");

    let alone =
        [&inspect[..2], &["--duration", "300ms", "--format", "json", "--socket", &socket, "--standalone"]]
            .concat();
    let output = agent(&alone).output().unwrap();
    let alone: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!alone["notes"].to_string().contains("running agent"), "{alone}");
    assert!(alone["fds"].as_array().unwrap().iter().all(|row| row["delivered"] == "known"), "{alone}");
    load.kill();
    assert!(running.end(Signal::TERM).success());
}
