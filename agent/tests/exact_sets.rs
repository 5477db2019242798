//! poll and select, counted for equality: every result, what is copied, streaks, stops, kills, and waits between
//! epoll waits.
//!
//! Rows are found by thread and mechanism. Nothing here may depend on how fast this machine is.
#![cfg(test)]

mod common;

use std::{
    fs,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use common::{
    Report, Workload,
    compare::{
        CLOCK_SLACK, assert_brackets, assert_no_busy, assert_nothing_lost, assert_state, count, list, number,
        seconds,
    },
    require_bpf,
    run::Run,
    until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The highest descriptor lies within the smallest descriptor table, and beyond it.
const SETS: [&str; 2] = ["sets 20 37", "sets 20 200"];
const STREAKS: &str = "sets-streaks";
const BETWEEN: [&str; 4] =
    ["sets-between 0 40", "sets-between 1 40", "sets-between 2 40", "sets-between 3 40"];
const HIGHEST: &str = "sets-highest 37";
/// Numbers of the calls, as the workload takes them.
const POLL: usize = 0;
const PPOLL: usize = 1;
const SELECT: usize = 2;
const PSELECT6: usize = 3;
/// How long a wait is stopped.
const STOP: Duration = Duration::from_millis(400);

/// All workloads that need no help, observed; None where the probes cannot be loaded.
fn run() -> Option<&'static Run> {
    static RUN: LazyLock<Run> = LazyLock::new(|| {
        let words = SETS.into_iter().chain(BETWEEN).chain([STREAKS, HIGHEST]);
        Run::of(&words.map(|words| (words, 1)).collect::<Vec<_>>())
    });
    require_bpf().then(|| &*RUN)
}

/// The row of a thread by a mechanism; there is exactly one.
fn row<'a>(report: &'a Value, done: &Value) -> &'a Value {
    let own = |row: &&Value| ["pid", "tid", "mechanism"].iter().all(|key| row[*key] == done[*key]);
    let rows: Vec<&Value> = list(&report["loops"]).iter().filter(own).collect();
    assert_eq!(rows.len(), 1, "rows for {done}: {}", json!(rows));
    rows[0]
}

/// The rows of a workload with those of the report.
fn pairs<'a>(run: &'a Run, words: &str) -> Vec<(&'a Value, &'a Value)> {
    let dones = list(&run.seen(words).done()["rows"]);
    dones.iter().map(|done| (row(&run.report, done), done)).collect()
}

/// A row counts what the workload counted, and its wait times lie within the brackets.
fn assert_counts(row: &Value, done: &Value) {
    for key in ["waits", "events", "results", "timeouts"] {
        assert_eq!(row[key], done[key], "{key} of {row}\nagainst {done}");
    }
    for key in ["count", "sum"] {
        assert_eq!(row["nfds"][key], done["nfds"][key], "nfds of {row}\nagainst {done}");
    }
    if row["nfds"]["count"] != 0 {
        assert_eq!(row["nfds"]["max"], done["nfds"]["max"], "{row}");
    }
    for key in ["epfd", "instance", "maxevents", "backlog", "requeued"] {
        assert!(row[key].is_null(), "{key} of {row}");
    }
    assert_eq!(row["saturated"], 0, "{row}");
    let results = &done["results"];
    let (waited, events) = (&row["wait_seconds"], &row["events_per_wait"]);
    let succeeded = count(&results["ready"]) + count(&results["timeout"]) + count(&results["empty"]);
    assert_eq!((&waited["count"], &events["count"]), (&done["waits"], &json!(succeeded)), "{row}");
    assert_eq!(events["sum"], done["events"], "{row}");
    assert_eq!(row["overrun_seconds"]["count"], results["timeout"], "{row}");
    assert_brackets(row, done);
}

/// Poll and select calls are a loop after 16 of them; before each further one lies a busy time.
fn assert_streak(row: &Value, done: &Value) {
    let waits = count(&done["waits"]);
    assert_eq!(row["is_loop"], waits >= 16, "{row}");
    if waits < 16 {
        return assert_no_busy(row);
    }
    let busy = &row["busy_seconds"];
    assert_eq!(busy["count"], waits - 16, "{row}");
    let sum = number(&busy["sum"]);
    let (least, most) = (seconds(&done["busy_least"]), seconds(&done["busy_most"]));
    assert!(sum >= least - CLOCK_SLACK && sum <= most + CLOCK_SLACK, "busy {sum}: {least} to {most}\n{row}");
}

#[test]
fn nothing_is_lost() {
    let Some(run) = run() else { return };
    assert_nothing_lost(&run.report);
}

#[test]
fn every_result_and_timeout_is_counted_for_every_call() {
    let Some(run) = run() else { return };
    for words in SETS {
        for (row, done) in pairs(run, words) {
            assert_counts(row, done);
            assert_streak(row, done);
            assert_eq!(row["ended"], true, "{row}");
            assert_state(row, "none");
        }
    }
}

/// Whether every wait of a thread was refused.
fn is_refused(done: &Value) -> bool {
    done["results"]["error"] == done["waits"]
}

#[test]
fn bytes_are_those_that_the_kernel_copies() {
    let Some(run) = run() else { return };
    for words in SETS {
        for (row, done) in pairs(run, words).into_iter().filter(|(_, done)| !is_refused(done)) {
            assert_eq!(row["copied_bytes"], done["copied_bytes"], "{row}\nagainst {done}");
        }
    }
}

#[test]
fn a_refused_wait_has_copied_what_the_kernel_read_before_it_refused() {
    let Some(run) = run() else { return };
    for words in SETS {
        for (row, done) in pairs(run, words).into_iter().filter(|(_, done)| is_refused(done)) {
            assert_eq!(row["copied_bytes"], done["copied_bytes"], "{row}\nagainst {done}");
        }
    }
}

#[test]
fn the_highest_descriptor_is_the_highest_set_bit() {
    let Some(run) = run() else { return };
    for words in SETS {
        let highest = &run.seen(words).done()["highest"];
        for (row, done) in pairs(run, words) {
            let case = done["case"].as_str().unwrap();
            if done["mechanism"] == "poll" {
                assert!(row["highest_fd"].is_null(), "{row}");
            } else if case.starts_with("refused") {
                assert_eq!(row["highest_fd"], 62, "{row}");
            } else if !case.starts_with("mix") {
                assert_eq!(row["highest_fd"], *highest, "{case}: {row}");
            }
        }
    }
}

#[test]
fn the_highest_descriptor_is_looked_for_in_one_of_64_waits_whatever_ended_those_before() {
    let Some(run) = run() else { return };
    let highest = &run.seen(HIGHEST).done()["highest"];
    for (row, done) in pairs(run, HIGHEST) {
        assert_counts(row, done);
        assert_eq!(row["highest_fd"], *highest, "{row}\nagainst {done}");
    }
}

#[test]
fn poll_and_select_calls_are_a_loop_after_16_waits() {
    let Some(run) = run() else { return };
    for (row, done) in pairs(run, STREAKS) {
        assert_counts(row, done);
        assert_streak(row, done);
        assert_eq!(row["copied_bytes"], done["copied_bytes"], "{row}\nagainst {done}");
    }
}

#[test]
fn waits_by_poll_and_select_between_epoll_waits_are_no_busy_time() {
    let Some(run) = run() else { return };
    for words in BETWEEN {
        let done = run.seen(words).done();
        let (mut epoll, other) = (done["epoll"].clone(), &done["other"]);
        epoll["mechanism"] = json!("epoll");
        let (row, between) = (row(&run.report, &epoll), row(&run.report, other));
        assert_counts(between, other);
        for key in ["waits", "events", "results", "timeouts"] {
            assert_eq!(row[key], epoll[key], "{key} of {row}\nagainst {epoll}");
        }
        let (waited, elsewhere) = (&between["wait_seconds"]["sum"], &row["time"]["other_wait"]);
        assert!((number(elsewhere) - number(waited)).abs() < 1e-6, "{elsewhere} of {waited}: {row}");
        assert!(number(waited) >= 40.0 * 0.002, "{between}");
        let busy = &row["busy_seconds"];
        assert_eq!(busy["count"], count(&epoll["waits"]) - 1, "{row}");
        // The workload's gaps between epoll waits hold the other waits' brackets.
        let least = seconds(&epoll["between_sum"]) - seconds(&other["bracket_sum"]);
        let whole = seconds(&epoll["last_after"]) - seconds(&epoll["first_before"]);
        let most = whole - number(&row["wait_seconds"]["sum"]) - number(waited);
        let sum = number(&busy["sum"]);
        assert!(
            sum >= least - CLOCK_SLACK && sum <= most + CLOCK_SLACK,
            "busy {sum}: {least} to {most}\n{row}"
        );
    }
}

/// The thread of a process that is inside the `call`th call.
fn waiting_thread(pid: u32, call: usize) -> i32 {
    #[cfg(target_arch = "x86_64")]
    let numbers = [libc::SYS_poll, libc::SYS_ppoll, libc::SYS_select, libc::SYS_pselect6];
    #[cfg(not(target_arch = "x86_64"))]
    let numbers = [libc::SYS_ppoll, libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_pselect6];
    let mut found = None;
    until("a thread waits", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut ids = threads.map(|thread| thread.unwrap().file_name().into_string().unwrap());
        found = ids.find(|tid| {
            let doing = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
            doing.split(' ').next() == Some(numbers[call].to_string().as_str())
        });
        found.is_some()
    });
    found.unwrap().parse().unwrap()
}

/// How a wait that was stopped goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Ready,
    TimesOut,
    Handler,
}

/// Stops a workload inside a wait, and lets it go on; what it says, and for how long it was stopped at least.
fn stopped(workload: &mut Workload, call: usize, then: Then) -> (Value, Duration) {
    let tid = waiting_thread(workload.pid(), call);
    let pid = Pid::from_raw(workload.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let state = format!("/proc/{tid}/stat");
    until("the thread stops", || fs::read_to_string(&state).unwrap().contains(") T "));
    let start = Instant::now();
    thread::sleep(STOP);
    if then == Then::Handler {
        // SAFETY: numbers only; the process is ours and stopped, so its thread is there.
        unsafe { libc::syscall(libc::SYS_tgkill, workload.pid(), tid, libc::SIGALRM) };
    }
    let time = start.elapsed();
    kill_process(pid, Signal::CONT).unwrap();
    if then == Then::Ready {
        workload.tell();
    }
    (workload.said(), time)
}

#[test]
fn a_wait_that_is_stopped_and_goes_on_is_one_wait() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let mut seen = Vec::new();
    for call in [POLL, PPOLL, SELECT, PSELECT6] {
        for then in [Then::Ready, Then::TimesOut, Then::Handler] {
            let millis = if then == Then::TimesOut { 300 } else { 0 };
            let mut workload = Workload::start(&format!("sets-one {call} {millis}"));
            seen.push((stopped(&mut workload, call, then), then));
            workload.finish();
        }
    }
    let report = report.stop();
    for ((done, time), then) in &seen {
        let row = row(&report, done);
        assert_counts(row, done);
        let expected = match then {
            Then::Ready => "ready",
            Then::TimesOut => "timeout",
            Then::Handler => "interrupted",
        };
        assert_eq!((&row["waits"], &row["results"][expected]), (&json!(1), &json!(1)), "{then:?}: {row}");
        // A handler ends the call when the stop begins: it is not entered again.
        let spanned = if *then == Then::Handler { 0.0 } else { time.as_secs_f64() };
        assert!(number(&row["wait_seconds"]["sum"]) >= spanned, "{time:?}, {then:?}: {row}");
    }
    assert_nothing_lost(&report);
    for ((done, _), then) in &seen {
        assert_stopped_bytes(row(&report, done), done, *then);
    }
}

/// What the only wait of a thread, which was stopped, has copied.
fn assert_stopped_bytes(row: &Value, done: &Value, then: Then) {
    // The call that goes on copies anew; the stop gives poll's entries back, but not select's sets.
    let [came_in, went_out] = ["in", "out"].map(|key| count(&done["copied_bytes"][key]));
    let again = then != Then::Handler;
    let out_again = again && done["mechanism"] == "poll";
    let bytes = json!({ "in": came_in << u8::from(again), "out": went_out << u8::from(out_again) });
    assert_eq!(row["copied_bytes"], bytes, "{then:?}: {row}");
}

#[test]
fn a_kill_inside_a_wait_is_one_interrupted_wait() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let mut seen = Vec::new();
    for (call, mechanism) in [(POLL, "poll"), (PPOLL, "poll"), (SELECT, "select"), (PSELECT6, "select")] {
        let start = Instant::now();
        let workload = Workload::start(&format!("sets-one {call} 0"));
        let (pid, tid) = (workload.pid(), waiting_thread(workload.pid(), call));
        let waiting = Instant::now();
        thread::sleep(Duration::from_millis(50));
        let least = waiting.elapsed();
        workload.kill();
        seen.push((json!({ "pid": pid, "tid": tid, "mechanism": mechanism }), least, start.elapsed()));
    }
    let report = report.stop();
    for (done, least, most) in &seen {
        let row = row(&report, done);
        let results = json!({ "ready": 0, "timeout": 0, "empty": 0, "interrupted": 1, "error": 0 });
        let timeouts = json!({ "infinite": 1, "zero": 0, "finite": 0, "unknown": 0 });
        assert_eq!((&row["results"], &row["timeouts"]), (&results, &timeouts), "{row}");
        assert_eq!(
            (&row["waits"], &row["ended"], &row["events"]),
            (&json!(1), &json!(true), &json!(0)),
            "{row}"
        );
        let waited = number(&row["wait_seconds"]["sum"]);
        assert!(waited >= least.as_secs_f64() && waited <= most.as_secs_f64(), "{waited} s: {row}");
        assert_no_busy(row);
    }
    assert_nothing_lost(&report);
}
