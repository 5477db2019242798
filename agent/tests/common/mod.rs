//! What the tests that load the probes share: the agent and the workload as processes, and comparing the two.
//!
//! Every process started here ends with the value that stands for it. Nothing here may end another process, and
//! nothing may be left out without a word: see [`require_bpf`].
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod compare;
pub mod exporter;
pub mod fdinfo;
pub mod folder;
mod process;
pub mod run;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

pub use process::{Report, Workload};

/// How long anything here may take that is expected to happen at once: a start of the agent took 9 s in an emulated machine
/// on a busy host, and more than 20 s where four of them shared one processor.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The agent's command.
pub fn agent(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loopscope"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Whether the probes can be loaded here. Where they cannot, says why; in CI, or where LOOPSCOPE_REQUIRE_BPF asks for
/// them, that is a failure.
pub fn require_bpf() -> bool {
    static REFUSED: LazyLock<Option<String>> = LazyLock::new(refused);
    match &*REFUSED {
        None => true,
        Some(reason) => {
            cannot_run(reason);
            false
        }
    }
}

/// Ends a test that cannot run here: by a failure where it has to run, else with a printed reason.
pub fn cannot_run(reason: &str) {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    assert!(!set("CI") && !set("LOOPSCOPE_REQUIRE_BPF"), "this test has to run and cannot: {reason}");
    eprintln!("not run: {reason}");
}

/// Why the probes cannot be loaded.
fn refused() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    let checked = agent(&["check", "--format", "json"]).output().unwrap();
    let document: Value = serde_json::from_slice(&checked.stdout).unwrap_or_default();
    (document["main_job"] != true).then(|| format!("loopscope check: {document}"))
}

/// The workload, built if it is not there or older than its sources; on a machine without cargo LOOPSCOPE_TEST_WORKLOAD
/// names one that was built elsewhere.
pub fn workload_program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(built) = env::var_os("LOOPSCOPE_TEST_WORKLOAD") {
            return built.into();
        }
        // The tests are in TARGET/PROFILE/deps, examples in TARGET/PROFILE/examples.
        let tests = env::current_exe().unwrap();
        let profile = tests.parent().and_then(Path::parent).unwrap();
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--locked", "--package", "loopscope", "--example", "workload"]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(profile.parent().unwrap());
        // The folder has the profile's name, but for `dev`, whose folder is `debug`.
        let name = profile.file_name().and_then(|name| name.to_str()).unwrap();
        cargo.args(["--profile", if name == "debug" { "dev" } else { name }]);
        assert!(cargo.status().unwrap().success(), "the example workload does not build");
        profile.join("examples/workload")
    });
    &PROGRAM
}

/// Runs one workload under a report, which is made while it is there; what both say.
pub fn observe(words: &str) -> (Value, Value, Workload) {
    let report = Report::start(&[]);
    let workload = Workload::start(words);
    let said = workload.said();
    let report = report.stop();
    compare::assert_nothing_lost(&report);
    (report, said, workload)
}

/// Waits until `what` happens.
pub fn until(what: &str, mut happens: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happens() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the main thread of `pid` is inside an epoll wait.
pub fn until_waiting(pid: u32) {
    until("the workload waits", || {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        let number = call.split(' ').next().and_then(|number| number.parse::<i64>().ok());
        #[cfg(target_arch = "x86_64")]
        if number == Some(libc::SYS_epoll_wait) {
            return true;
        }
        number.is_some_and(|number| [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2].contains(&number))
    });
}

/// A place in the body of a long frame in the second half of a recording: damaged there, it is found out and not taken
/// for one that was cut off.
pub fn place_in_a_frame(recording: &[u8]) -> usize {
    let number = |at: usize| u32::from_le_bytes(recording[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 20 + number(12);
    loop {
        let length = number(at);
        let next = at + 24 + length;
        if next > recording.len() / 2 && length > 100 {
            return at + 24 + length / 2;
        }
        at = next;
    }
}
