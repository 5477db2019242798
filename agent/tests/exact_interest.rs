//! Interest sets against /proc/PID/fdinfo, which holds the instance's lock while it prints: an oracle for tests alone.
//!
//! Nothing here may watch a process that it did not start. Servers are in `oracle`.
#![cfg(test)]

mod common;

use std::{collections::BTreeMap, sync::LazyLock};

use common::{
    Report, Workload,
    compare::{count, list, number},
    fdinfo::{oracle, seen},
    require_bpf,
    run::Run,
};
use loopscope::{
    kernel::{Options, Watched},
    model::interest::{Bond, InterestSet},
    reactor::{Reactor, Watch},
};
use serde_json::{Value, json};

const SETS: [&str; 6] = [
    "watching 0 0 0",
    "watching 1 0 0",
    "watching 1000 0 0",
    "watching 15000 0 0",
    "watching 1000 100 0",
    "watching 1000 10 90",
];
const INHERITED: &str = "watching-inherited 50 20";
const NESTED: &str = "watching-nested";
const PASSED: &str = "watching-passed 10 3";
const WAITED: &str = "watching-waited 3";

fn run() -> Option<&'static Run> {
    static RUN: LazyLock<Run> = LazyLock::new(|| {
        Run::of(
            &SETS
                .into_iter()
                .chain([INHERITED, NESTED, PASSED, WAITED])
                .map(|words| (words, 1))
                .collect::<Vec<_>>(),
        )
    });
    require_bpf().then(|| &*RUN)
}

/// The instance that a process holds by a descriptor.
fn instance<'a>(report: &'a Value, pid: u32, epfd: &Value) -> &'a Value {
    let holder = json!({ "pid": pid, "fd": epfd });
    let held: Vec<&Value> =
        list(&report["instances"]).iter().filter(|row| list(&row["holders"]).contains(&holder)).collect();
    assert_eq!(held.len(), 1, "instances held by {holder}: {held:?}");
    held[0]
}

#[test]
fn every_entry_is_counted_by_its_trigger_and_closed_ones_are_stale() {
    let Some(run) = run() else { return };
    for words in SETS {
        let seen = run.seen(words);
        let done = seen.done();
        let watched = &instance(&run.report, seen.pid, &done["epfd"])["watched"];
        let total = count(&done["total"]);
        assert_eq!(count(&watched["total"]), total, "{words}: {watched}");
        assert_eq!(count(&watched["edge"]), total / 2, "{words}: {watched}");
        assert_eq!(count(&watched["level"]), total - total / 2, "{words}: {watched}");
        assert_eq!(watched["stale"], done["stale"], "{words}: {watched}");
        assert_eq!(watched["foreign"], 0, "{words}: {watched}");
        assert_eq!(watched["approximate"], false, "{words}: {watched}");
    }
}

#[test]
fn an_inherited_instance_has_two_holders_and_what_one_closed_the_other_keeps() {
    let Some(run) = run() else { return };
    let seen = run.seen(INHERITED);
    let done = seen.done();
    let row = instance(&run.report, seen.pid, &done["epfd"]);
    let child = json!({ "pid": done["child"], "fd": done["epfd"] });
    assert!(list(&row["holders"]).contains(&child), "{row}");
    // Nobody waits on it, so what the child still has is not stale.
    assert_eq!(row["watched"]["total"], done["total"], "{row}");
    assert_eq!((&row["watched"]["stale"], &row["watched"]["foreign"]), (&json!(0), &json!(0)), "{row}");
    assert_eq!(row["waiters"], 0, "{row}");
}

#[test]
fn an_instance_that_was_passed_over_a_socket_has_the_entries_of_both() {
    let Some(run) = run() else { return };
    let seen = run.seen(PASSED);
    let done = seen.done();
    let row = instance(&run.report, seen.pid, &done["epfd"]);
    let child = json!({ "pid": done["child"], "fd": done["child_epfd"] });
    assert_ne!(done["epfd"], done["child_epfd"]);
    assert_eq!((list(&row["holders"]).len(), list(&row["holders"]).contains(&child)), (2, true), "{row}");
    let watched = &row["watched"];
    assert_eq!(count(&watched["total"]), count(&done["own"]) + count(&done["theirs"]), "{row}");
    // The parent alone waits.
    assert_eq!((&row["waiters"], &watched["foreign"]), (&json!(1), &done["theirs"]), "{row}");
    assert_eq!((&watched["stale"], &watched["approximate"]), (&json!(0), &json!(false)), "{row}");
}

#[test]
fn an_instance_that_several_processes_wait_on_has_them_all_and_no_busy_time() {
    let Some(run) = run() else { return };
    let seen = run.seen(WAITED);
    let done = seen.done();
    let row = instance(&run.report, seen.pid, &done["epfd"]);
    let processes = list(&done["rows"]);
    assert_eq!(
        (list(&row["holders"]).len(), count(&row["waiters"])),
        (processes.len(), processes.len() as u64)
    );
    assert_eq!((&row["watched"]["total"], &row["watched"]["foreign"]), (&json!(1), &json!(0)), "{row}");
    for process in processes {
        assert!(
            list(&row["holders"]).contains(&json!({ "pid": process["pid"], "fd": done["epfd"] })),
            "{row}"
        );
        let of = |looped: &&Value| looped["pid"] == process["pid"] && looped["mechanism"] == "epoll";
        let loops: Vec<&Value> = list(&run.report["loops"]).iter().filter(of).collect();
        assert_eq!(loops.len(), 1, "{process}: {loops:?}");
        assert_eq!((&loops[0]["waits"], &loops[0]["instance"]), (&process["waits"], &row["instance"]));
        assert!(loops[0]["busy_seconds"].is_null() && loops[0]["utilization"].is_null(), "{}", loops[0]);
    }
}

#[test]
fn nested_instances_show_their_depth() {
    let Some(run) = run() else { return };
    let seen = run.seen(NESTED);
    let depths: Vec<&Value> = list(&seen.done()["epfds"])
        .iter()
        .map(|epfd| &instance(&run.report, seen.pid, epfd)["depth"])
        .collect();
    assert_eq!(depths, [2, 1, 0]);
}

/// The interest sets of these processes, by process and descriptor; reads `passes` times and keeps the last.
fn watch(pids: Vec<u32>) -> (Reactor, Watch) {
    let reactor = Reactor::new().unwrap();
    let watched = Watched { pids, ..Watched::default() };
    let watch = Watch::start(&Options { watched, ..Options::default() }, &reactor).unwrap();
    (reactor, watch)
}

/// One pass.
fn pass(watch: &mut Watch) -> BTreeMap<(u32, i32), std::sync::Arc<InterestSet>> {
    watch.read_interest().unwrap();
    let sets = watch.window().instances.into_iter().filter_map(|instance| instance.set);
    sets.flat_map(|set| {
        let holders: Vec<(u32, i32)> = set.holders.iter().copied().collect();
        holders.into_iter().map(move |holder| (holder, std::sync::Arc::clone(&set)))
    })
    .collect()
}

#[test]
fn the_whole_set_equals_what_proc_says() {
    if !require_bpf() {
        return;
    }
    let mut workloads = Vec::new();
    let mut instances: Vec<(u32, i32)> = Vec::new();
    for words in SETS.into_iter().chain([INHERITED, NESTED]) {
        let workload = Workload::start(words);
        let said = workload.said();
        let epfds = said["epfds"].as_array().cloned().unwrap_or_else(|| vec![said["epfd"].clone()]);
        let epfds = epfds.iter().map(|epfd| i32::try_from(count(epfd)).unwrap());
        instances.extend(epfds.map(|epfd| (workload.pid(), epfd)));
        workloads.push(workload);
    }
    assert_eq!(instances.len(), SETS.len() + 1 + 3);
    let (_reactor, mut watch) = watch(workloads.iter().map(Workload::pid).collect());
    let sets = pass(&mut watch);
    for (pid, epfd) in instances {
        let set = &sets[&(pid, epfd)];
        assert_eq!(seen(set), oracle(pid, epfd));
        let live = |bond| set.entries.iter().filter(|entry| entry.bond == bond).count();
        assert_eq!(live(Bond::Live) + live(Bond::Stale), set.entries.len());
    }
    workloads.into_iter().for_each(Workload::finish);
}

#[test]
fn a_set_that_moves_is_read_all_the_same() {
    const STAY: usize = 1000;
    if !require_bpf() {
        return;
    }
    let workload = Workload::start(&format!("watching-moving {STAY} 3000"));
    let epfd = i32::try_from(workload.said()["epfd"].as_i64().unwrap()).unwrap();
    let (_reactor, mut watch) = watch(vec![workload.pid()]);
    let start = std::time::Instant::now();
    let (mut passes, mut approximate, mut worst) = (0, 0, 0);
    while start.elapsed().as_millis() < 2000 {
        let sets = pass(&mut watch);
        let set = &sets[&(workload.pid(), epfd)];
        passes += 1;
        approximate += usize::from(set.approximate);
        // One more or less is the one that moves.
        worst = worst.max(set.entries.len().abs_diff(STAY));
    }
    let done = workload.said();
    println!(
        "{passes} passes beside {} calls: {approximate} approximate, at most {worst} off",
        done["calls"]
    );
    // By its CPU time: how many of them fit into a second is the machine's affair.
    let rate = number(&done["calls"]) / (number(&done["cpu_ns"]) / 1e9);
    assert!(count(&done["calls"]) > 10_000 && rate > 100_000.0, "{rate} a second: {done}");
    assert!(passes > 50, "{passes}");
    assert!(approximate * 100 <= passes, "{approximate} of {passes}");
    assert!(worst * 100 <= STAY, "{worst} of {STAY}");
    workload.finish();
}

#[test]
fn instances_of_a_report_are_all_that_the_host_has() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let workload = Workload::start("watching 5 0 0");
    workload.said();
    let pid = workload.pid();
    let document = report.stop();
    let row = list(&document["instances"])
        .iter()
        .find(|row| list(&row["holders"]).iter().any(|holder| holder["pid"] == pid));
    assert!(row.is_some_and(|row| row["watched"]["total"] == 5), "{row:?}");
    workload.finish();
}
