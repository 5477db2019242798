//! Interest sets against /proc/PID/fdinfo, which holds the instance's lock while it prints: an oracle for tests alone.
//!
//! Nothing here may watch a process that it did not start, but nginx and memcached, which it starts too.
#![cfg(test)]

mod common;

use std::{collections::BTreeMap, fs, sync::LazyLock};

use common::{
    Report, Workload,
    compare::{count, list},
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

fn run() -> Option<&'static Run> {
    static RUN: LazyLock<Run> = LazyLock::new(|| {
        Run::of(&SETS.into_iter().chain([INHERITED, NESTED]).map(|words| (words, 1)).collect::<Vec<_>>())
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
fn nested_instances_show_their_depth() {
    let Some(run) = run() else { return };
    let seen = run.seen(NESTED);
    let depths: Vec<&Value> = list(&seen.done()["epfds"])
        .iter()
        .map(|epfd| &instance(&run.report, seen.pid, epfd)["depth"])
        .collect();
    assert_eq!(depths, [2, 1, 0]);
}

/// What /proc says of an instance: descriptor and events of each entry, in order.
fn oracle(pid: u32, epfd: i32) -> Vec<(u32, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{epfd}")).unwrap();
    let entry = |line: &str| {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        let fd = words.next()?.parse().ok()?;
        let events = words.skip_while(|word| *word != "events:").nth(1)?;
        Some((fd, u32::from_str_radix(events, 16).ok()?))
    };
    let mut entries: Vec<(u32, u32)> = text.lines().filter_map(entry).collect();
    entries.sort_unstable();
    entries
}

/// What the probes say of it.
fn seen(set: &InterestSet) -> Vec<(u32, u32)> {
    let mut entries: Vec<(u32, u32)> = set.entries.iter().map(|entry| (entry.fd, entry.events)).collect();
    entries.sort_unstable();
    entries
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
    for words in SETS {
        let workload = Workload::start(words);
        let epfd = workload.said()["epfd"].as_i64().unwrap();
        workloads.push((workload, i32::try_from(epfd).unwrap()));
    }
    let (_reactor, mut watch) = watch(workloads.iter().map(|(workload, _)| workload.pid()).collect());
    let sets = pass(&mut watch);
    for (workload, epfd) in &workloads {
        let set = &sets[&(workload.pid(), *epfd)];
        assert_eq!(seen(set), oracle(workload.pid(), *epfd));
        let live = |bond| set.entries.iter().filter(|entry| entry.bond == bond).count();
        assert_eq!(live(Bond::Live) + live(Bond::Stale), set.entries.len());
    }
    workloads.into_iter().for_each(|(workload, _)| workload.finish());
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
    assert!(count(&done["calls"]) > 10_000, "{done}");
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
