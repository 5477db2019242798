//! Each of the seven calls under each of the fates that a wait can meet: stopped and continued, killed, in progress
//! when watching begins, in progress when it ends.
//!
//! Every call meets every fate in one report; what the workload says of itself is what the report must say.
#![cfg(test)]

mod common;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use common::{
    Report, Workload,
    compare::{CLOCK_SLACK, assert_no_busy, assert_nothing_lost, assert_state, count, list, number, seconds},
    require_bpf, until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A call: as the workload numbers it, by its name, what it is in a report, and its number.
struct Call {
    index: usize,
    name: &'static str,
    mechanism: &'static str,
    number: libc::c_long,
}

/// One row of the table.
const fn call(index: usize, name: &'static str, mechanism: &'static str, number: libc::c_long) -> Call {
    Call { index, name, mechanism, number }
}

#[cfg(target_arch = "x86_64")]
const CALLS: [Call; 7] = [
    call(0, "epoll_wait", "epoll", libc::SYS_epoll_wait),
    call(1, "epoll_pwait", "epoll", libc::SYS_epoll_pwait),
    call(2, "epoll_pwait2", "epoll", libc::SYS_epoll_pwait2),
    call(3, "poll", "poll", libc::SYS_poll),
    call(4, "ppoll", "poll", libc::SYS_ppoll),
    call(5, "select", "select", libc::SYS_select),
    call(6, "pselect6", "select", libc::SYS_pselect6),
];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: [Call; 4] = [
    call(1, "epoll_pwait", "epoll", libc::SYS_epoll_pwait),
    call(2, "epoll_pwait2", "epoll", libc::SYS_epoll_pwait2),
    call(4, "ppoll", "poll", libc::SYS_ppoll),
    call(6, "pselect6", "select", libc::SYS_pselect6),
];

/// Waits that a thread makes before the one that meets its fate.
const BEFORE: u64 = 20;
/// Waits that make poll and select calls a loop.
const LOOP_WAITS: u64 = 16;
/// How long a wait is stopped, which is longer than its time-out where it has one.
const STOP: Duration = Duration::from_millis(400);
const TIMEOUT_MILLIS: u64 = 300;
/// How long a wait is in progress, at least, where its length is looked at.
const OPEN: Duration = Duration::from_millis(300);

/// What becomes of the wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Stopped and continued; then its descriptor is ready.
    StoppedReady,
    /// Stopped for longer than its time-out, and continued.
    StoppedLong,
    /// SIGKILL.
    Killed,
    /// It goes on when watching ends.
    Left,
}

const FATES: [Fate; 4] = [Fate::StoppedReady, Fate::StoppedLong, Fate::Killed, Fate::Left];

/// A thread that is inside its last wait.
struct Waiting {
    workload: Workload,
    /// What it said before that wait.
    before: Value,
    since: Instant,
}

/// Starts a workload, and waits until it is in its last wait.
fn start(call: &Call, millis: u64) -> Waiting {
    let workload = Workload::start(&format!("rest {} {BEFORE} {millis}", call.index));
    let before = workload.said()["rows"][0].clone();
    let path = format!("/proc/{}/task/{}/syscall", workload.pid(), before["tid"]);
    let inside = format!("{} ", call.number);
    until("the thread waits", || fs::read_to_string(&path).unwrap_or_default().starts_with(&inside));
    Waiting { workload, before, since: Instant::now() }
}

/// Sends a signal to a workload.
fn signal(workload: &Workload, signal: Signal) {
    kill_process(Pid::from_raw(workload.pid().cast_signed()).unwrap(), signal).unwrap();
}

/// A wait that met its fate: what its thread says, or would have said, and how long the wait took at least.
struct Met {
    call: &'static Call,
    fate: Fate,
    done: Value,
    least: Duration,
    left: Option<Workload>,
}

/// Stops a wait and lets it go on.
fn stop(call: &'static Call, fate: Fate) -> Met {
    let long = fate == Fate::StoppedLong;
    let Waiting { mut workload, since, .. } = start(call, if long { TIMEOUT_MILLIS } else { 0 });
    signal(&workload, Signal::STOP);
    let stat = format!("/proc/{}/stat", workload.pid());
    until("it stops", || fs::read_to_string(&stat).unwrap().contains(") T "));
    thread::sleep(STOP);
    let stopped = since.elapsed();
    signal(&workload, Signal::CONT);
    if !long {
        workload.tell();
    }
    let done = workload.said()["rows"][0].clone();
    workload.finish();
    // epoll gives up when it is stopped; poll and select go on where they were.
    let least = if call.mechanism == "epoll" { Duration::ZERO } else { stopped };
    Met { call, fate, done, least, left: None }
}

/// Kills a process inside a wait.
fn kill(call: &'static Call) -> Met {
    let Waiting { workload, before: mut done, since } = start(call, 0);
    thread::sleep(Duration::from_millis(30));
    let least = since.elapsed();
    workload.kill();
    for path in ["/waits", "/results/interrupted", "/timeouts/infinite"] {
        let value = done.pointer_mut(path).unwrap();
        *value = json!(count(value) + 1);
    }
    // Nobody read the clock after that wait.
    done["bracket_sum"] = json!(u64::MAX);
    Met { call, fate: Fate::Killed, done, least, left: None }
}

/// A wait that stays in progress.
fn leave(call: &'static Call) -> Met {
    let Waiting { workload, before, .. } = start(call, 0);
    Met { call, fate: Fate::Left, done: before, least: OPEN, left: Some(workload) }
}

/// The row of a thread; there is exactly one by that mechanism.
fn row<'a>(report: &'a Value, done: &Value) -> &'a Value {
    let own = |row: &&Value| ["pid", "tid", "mechanism"].iter().all(|key| row[*key] == done[*key]);
    let rows: Vec<&Value> = list(&report["loops"]).iter().filter(own).collect();
    assert_eq!(rows.len(), 1, "rows for {done}: {}", json!(rows));
    rows[0]
}

/// How the call ends a wait that was stopped.
fn expected(call: &Call, fate: Fate) -> Option<&'static str> {
    match fate {
        Fate::Left => None,
        Fate::Killed => Some("interrupted"),
        // signal(7): epoll waits fail with EINTR after SIGCONT, without a handler.
        _ if call.mechanism == "epoll" => Some("interrupted"),
        Fate::StoppedReady => Some("ready"),
        Fate::StoppedLong => Some("timeout"),
    }
}

fn assert_met(report: &Value, met: &Met) {
    let Met { call, fate, done, least, .. } = met;
    let what = format!("{} {fate:?}", call.name);
    let row = row(report, done);
    for key in ["waits", "events", "results", "timeouts"] {
        assert_eq!(row[key], done[key], "{what}: {key} of {row}\nagainst {done}");
    }
    if let Some(result) = expected(call, *fate) {
        assert_eq!(
            (&row["results"][result], &row["waits"]),
            (&json!(1), &json!(BEFORE + 1)),
            "{what}: {result} of {row}"
        );
    }
    let waits = count(&row["waits"]);
    let left = u64::from(*fate == Fate::Left);
    assert_eq!(row["wait_seconds"]["count"], waits, "{what}: {row}");
    let first = if call.mechanism == "epoll" { 1 } else { LOOP_WAITS };
    assert_eq!(row["busy_seconds"]["count"], waits + left - first, "{what}: {row}");
    let (waited, all) = (number(&row["wait_seconds"]["sum"]), number(&row["time"]["wait"]));
    assert!(waited <= seconds(&done["bracket_sum"]) + CLOCK_SLACK, "{what}: {waited} s: {row}");
    let open = if left == 0 { waited } else { all - waited };
    assert!(open >= least.as_secs_f64(), "{what}: {open} s instead of {least:?}: {row}");
    assert_eq!((&row["is_loop"], &row["ended"]), (&json!(true), &json!(left == 0)), "{what}: {row}");
    assert_state(row, if left == 0 { "none" } else { "wait" });
}

#[test]
fn every_call_that_is_stopped_killed_or_left_is_counted_as_it_ended() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let met: Vec<Met> = thread::scope(|scope| {
        let meet = |(call, fate): (&'static Call, Fate)| match fate {
            Fate::Killed => kill(call),
            Fate::Left => leave(call),
            _ => stop(call, fate),
        };
        let all = CALLS.iter().flat_map(|call| FATES.map(|fate| (call, fate)));
        let threads: Vec<_> = all.map(|one| scope.spawn(move || meet(one))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    thread::sleep(OPEN);
    let report = report.stop();
    assert_nothing_lost(&report);
    for met in &met {
        assert_met(&report, met);
    }
    assert_eq!(met.len(), CALLS.len() * FATES.len());
    met.into_iter().filter_map(|met| met.left).for_each(Workload::finish);
}

#[test]
fn every_call_that_is_in_progress_at_attach_is_waiting_and_in_no_count() {
    if !require_bpf() {
        return;
    }
    let all = || CALLS.iter().map(|call| start(call, 0));
    let (stay, mut end): (Vec<Waiting>, Vec<Waiting>) = (all().collect(), all().collect());
    let report = Report::start(&[]);
    thread::sleep(OPEN);
    let mut said = Vec::new();
    for waiting in &mut end {
        waiting.workload.tell();
        said.push(waiting.workload.said()["rows"][0].clone());
    }
    thread::sleep(OPEN);
    let report = report.stop();
    assert_nothing_lost(&report);
    let window = number(&report["duration_seconds"]);
    for (waiting, ended) in
        stay.iter().map(|waiting| (waiting, false)).chain(end.iter().map(|end| (end, true)))
    {
        let row = row(&report, &waiting.before);
        assert_eq!((&row["waits"], &row["ended"]), (&json!(0), &json!(ended)), "{row}");
        for key in ["wait_seconds", "events_per_wait", "overrun_seconds"] {
            assert_eq!(row[key]["count"], 0, "{key} of {row}");
        }
        assert_eq!(row["copied_bytes"], json!({ "in": 0, "out": 0 }), "{row}");
        let wait = number(&row["time"]["wait"]);
        let least = if ended { OPEN.as_secs_f64() } else { window - 0.01 };
        assert!(wait >= least && wait <= window + 0.01, "{wait} of {window}: {row}");
        if row["mechanism"] == "epoll" {
            assert_state(row, if ended { "none" } else { "wait" });
            assert_eq!(row["busy_seconds"]["count"], 0, "{row}");
        } else {
            // One wait, and that unseen, makes nobody's poll calls a loop.
            assert_eq!(row["is_loop"], false, "{row}");
            assert_no_busy(row);
        }
    }
    assert_eq!((stay.len(), said.len()), (CALLS.len(), CALLS.len()));
    stay.into_iter().chain(end).for_each(|waiting| waiting.workload.finish());
}
