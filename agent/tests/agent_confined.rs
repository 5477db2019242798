//! Least privilege: what a running agent has left, what it can no longer do, and that it goes on counting.
#![cfg(test)]

mod common;

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    os::unix::{fs::chown, net::UnixDatagram, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{
    Workload, agent, cannot_run,
    compare::{count, list},
    exporter::Agent,
    require_bpf,
};
use loopscope::{
    confine::{Confinement, KEPT, PARTS, Plan},
    kernel::{Kernel, Options},
    reactor::Reactor,
};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    process::{Signal, getppid, kill_process, test_kill_process},
};

/// In its environment: the folder that the child of [`what_is_given_up_cannot_be_done`] may write to, or nothing.
const VICTIM: &str = "LOOPSCOPE_TEST_VICTIM";

/// A field of /proc/PID/task/TID/status.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

/// What /proc says of each thread: its name and its status.
fn threads(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    tasks
        .map(|task| fs::read_to_string(task.join("status")).unwrap())
        .map(|it| (field(&it, "Name:"), it))
        .collect()
}

fn mask() -> String {
    format!("{:016x}", KEPT.iter().fold(0, |mask, (bit, ..)| mask | bit.bits()))
}

#[test]
fn a_running_agent_has_four_capabilities_left_and_its_server_none() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&[]);
    let none = format!("{:016x}", 0);
    let threads = threads(agent.pid());
    assert!(threads.len() >= 2, "{threads:?}");
    for (name, status) in &threads {
        let kept = if name == "http" { none.clone() } else { mask() };
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(field(status, set), kept, "{name} {set}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(field(status, set), none, "{name} {set}");
        }
        assert_eq!(
            (field(status, "NoNewPrivs:"), field(status, "Seccomp:")),
            ("1".to_owned(), "2".to_owned()),
            "{name}"
        );
        assert_eq!(field(status, "Uid:").split_whitespace().next(), Some("0"), "{name}");
    }
    let series = agent.scrape();
    for part in PARTS {
        assert_eq!(series.0[&format!("loopscope_confined{{part=\"{part}\"}}")], 1.0, "{part}");
    }
    // Seen from inside, by one who has every right: its mounts cannot be written to.
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", agent.pid())).unwrap();
    let options = mounts.lines().filter_map(|line| line.split(' ').nth(5)).collect::<Vec<_>>();
    assert!(
        !options.is_empty() && options.iter().all(|options| options.split(',').any(|it| it == "ro")),
        "{mounts}"
    );
    assert_eq!(agent.end(Signal::TERM).code(), Some(0));
}

#[test]
fn a_confined_agent_goes_on_counting_and_reading_proc() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&["--group-by", "exe", "--comm", "confined-load"]);
    let exe = fs::canonicalize(common::workload_program()).unwrap();
    let mut waits = 0.0;
    for _ in 0..3 {
        let workload = Workload::start("confined-load= results 40");
        let done = workload.said();
        thread::sleep(Duration::from_millis(150));
        let series = agent.scrape();
        let rows = list(&done["rows"]).iter().chain(list(&done["without_instance"]));
        waits += rows.map(|row| count(&row["waits"])).sum::<u64>() as f64;
        // The executable is known only to one who may look into the process.
        let key = format!("loopscope_wait_seconds_count{{exe=\"{}\",mechanism=\"epoll\"}}", exe.display());
        assert_eq!(series.0.get(&key), Some(&waits), "{done}");
        workload.finish();
    }
}

#[test]
fn without_confinement_everything_is_kept_and_said() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&["--no-confine"]);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    for (name, status) in threads(agent.pid()) {
        assert_eq!(field(&status, "CapEff:"), field(&own, "CapEff:"), "{name}");
        assert_eq!(field(&status, "Seccomp:"), field(&own, "Seccomp:"), "{name}");
    }
    let series = agent.scrape();
    assert!(PARTS.iter().all(|part| series.0[&format!("loopscope_confined{{part=\"{part}\"}}")] == 0.0));
}

#[test]
fn check_says_what_can_be_given_up_here() {
    if !require_bpf() {
        return;
    }
    let output = agent(&["check", "--format", "json"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let fact = list(&document["facts"]).iter().find(|fact| fact["name"] == "confinement").unwrap();
    assert_eq!(fact["value"], PARTS.join(", "), "{fact}");
}

#[test]
fn report_keeps_the_same_capabilities_but_a_command_is_left_alone() {
    if !require_bpf() {
        return;
    }
    let report = common::Report::start(&[]);
    // Said before they are given up, by a moment.
    common::until("the capabilities are given up", || {
        threads(report.pid()).iter().any(|(_, status)| field(status, "CapEff:") == mask())
    });
    report.stop();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let output = agent(&["report", "--format", "json", "--", "cat", "/proc/self/status"]).output().unwrap();
    // A command's output goes to stderr where JSON is on stdout.
    let seen = String::from_utf8(output.stderr).unwrap();
    for name in ["CapEff:", "CapBnd:", "NoNewPrivs:"] {
        assert_eq!(field(&seen, name), field(&own, name), "{name}");
    }
}

#[test]
fn once_writes_into_a_folder_of_another_user_and_nowhere_else() {
    if !require_bpf() {
        return;
    }
    let folder = env::temp_dir().join(format!("loopscope-confined-once-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    chown(&folder, Some(65534), Some(65534)).unwrap();
    let file = folder.join("loopscope.prom");
    let once = agent(&["agent", "--once", file.to_str().unwrap(), "--duration", "100ms"]).output().unwrap();
    let text = fs::read_to_string(&file).unwrap_or_default();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!((once.status.code(), String::from_utf8_lossy(&once.stderr).as_ref()), (Some(0), "watching\n"));
    assert!(text.contains("loopscope_confined{part=\"files\"} 1\n"), "{text}");
}

/// Runs this test program's [`a_victim_tries`] in a process of its own.
fn victim(folder: &str) {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_victim_tries", "--nocapture", "--test-threads=1"])
        .env(VICTIM, folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("the victim has tried"), "{said}\n{child:?}");
}

#[test]
fn what_is_given_up_cannot_be_done() {
    if !rustix::process::geteuid().is_root() {
        return cannot_run("it needs root");
    }
    victim("");
    let folder = env::temp_dir().join(format!("loopscope-confined-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    victim(folder.to_str().unwrap());
    let written = fs::read_to_string(folder.join("moved")).unwrap_or_default();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(written, "text", "the folder of the plan");
}

/// Not a test by itself: what [`victim`] starts.
#[test]
fn a_victim_tries() {
    let Some(folder) = env::var_os(VICTIM).map(PathBuf::from) else { return };
    let is_writer = !folder.as_os_str().is_empty();
    let plan = Plan { writable: is_writer.then(|| folder.clone()).into_iter().collect(), overrides: false };
    let before = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = env::temp_dir().join(format!("loopscope-victim-{}", std::process::id()));
    // It ends with us, when its input does.
    let mut cat = Command::new("/bin/cat").uid(65534).gid(65534).stdin(Stdio::piped()).spawn().unwrap();
    let confined = Confinement::begin(plan).complete(None);
    assert_eq!(confined.notes(), Vec::<String>::new());
    refused_for_all(&outside);
    let written = fs::write(folder.join("file"), "text")
        .and_then(|()| fs::rename(folder.join("file"), folder.join("moved")));
    assert_eq!(written.is_ok(), is_writer, "{written:?}");
    // What has to work, works: what is open, reading, other users' processes, and the service manager's socket.
    assert!(before.local_addr().is_ok() && fs::read_to_string("/etc/passwd").is_ok());
    let other = format!("/proc/{}", cat.id());
    assert_eq!(fs::read_link(format!("{other}/exe")).unwrap(), fs::canonicalize("/bin/cat").unwrap());
    assert!(fs::read_link(format!("{other}/fd/0")).unwrap().to_string_lossy().starts_with("pipe:"));
    UnixDatagram::unbound().unwrap();
    thread::spawn(|| {}).join().unwrap();
    drop(cat.stdin.take());
    assert!(cat.wait().unwrap().success());
    println!("the victim has tried");
}

fn refused_for_all(outside: &Path) {
    let denied = |what: &str, error: Option<std::io::Error>| {
        let code = error
            .and_then(|error| error.raw_os_error())
            .and_then(|code| Errno::from_raw_os_error(code).into());
        let code: Option<Errno> = code;
        assert!(matches!(code, Some(Errno::PERM | Errno::ROFS | Errno::ACCESS)), "{what}: {code:?}");
    };
    denied("making a file", fs::write(outside, "").err());
    denied("changing one of root's", fs::OpenOptions::new().append(true).open("/etc/hostname").err());
    denied("removing a file", fs::remove_file("/etc/hostname").err());
    denied("a sysctl, which is uid 0's", fs::write("/proc/sys/kernel/hostname", "x").err());
    denied("a program", Command::new("/bin/true").spawn().err());
    denied("a port", TcpListener::bind("127.0.0.1:0").err());
    denied("a connection", TcpStream::connect("127.0.0.1:9").err());
    denied("a mount", mount("tmpfs", "/mnt", "tmpfs", MountFlags::empty(), None).err().map(Into::into));
    denied(
        "a signal to another process",
        kill_process(getppid().unwrap(), Signal::USR1).err().map(Into::into),
    );
    denied("even none", test_kill_process(getppid().unwrap()).err().map(Into::into));
    let reactor = Reactor::new().unwrap();
    let probes = Kernel::start(&Options::default(), reactor.fd()).err().map(|error| format!("{error:#}"));
    let probes = probes.expect("new probes are loaded");
    assert!(probes.contains("Operation not permitted"), "{probes}");
}
