//! Lengths of ready lists, counted for equality with a workload that made them.
//!
//! Rows are found by process. The lists are read in the kernel, where nobody else changes these.
#![cfg(test)]

mod common;

use std::sync::LazyLock;

use common::{
    compare::{assert_counts, assert_nothing_lost, count, list, row},
    require_bpf,
    run::Run,
};
use serde_json::{Value, json};

/// Waits of each workload.
const WAITS: u64 = 50;
/// Waits that are left out after a list longer than eight.
const LEFT_OUT: u64 = 15;
const LEVEL: &str = "ready 0 3 50";
const EDGE: &str = "ready 1 3 50";
const LONG: &str = "ready 1 40 50";
const LONG_LEVEL: &str = "ready 0 20 50";
const ENDLESS: &str = "ready 1 64 50";

fn run() -> Option<&'static Run> {
    static RUN: LazyLock<Run> =
        LazyLock::new(|| Run::of(&[LEVEL, EDGE, LONG, LONG_LEVEL, ENDLESS].map(|words| (words, 1))));
    require_bpf().then(|| &*RUN)
}

/// The row of a workload, after a look at what it has besides.
fn looked_at<'a>(run: &'a Run, words: &str) -> &'a Value {
    let done = &list(&run.seen(words).done()["rows"])[0];
    let row = row(&run.report, done);
    assert_counts(row, done);
    assert_nothing_lost(&run.report);
    row
}

/// `samples` lists of `length`, of which `requeued` were put back.
fn assert_lists(row: &Value, samples: u64, length: u64, requeued: u64, truncated: u64) {
    let (backlog, back) = (&row["backlog"], &row["requeued"]);
    assert_eq!((count(&backlog["count"]), count(&back["count"])), (samples, samples), "{row}");
    assert_eq!(count(&backlog["sum"]), samples * length, "{backlog}");
    assert_eq!(backlog["max"], json!(length), "{backlog}");
    assert_eq!(count(&back["sum"]), samples * requeued, "{back}");
    assert_eq!(back["max"], json!(requeued), "{back}");
    assert_eq!(count(&backlog["truncated"]), truncated, "{backlog}");
}

/// The first wait of a loop has no busy time before it, and is not looked at; after one that is long, fifteen are not.
const SPARSE: u64 = (WAITS - 1).div_ceil(LEFT_OUT + 1);

#[test]
fn an_edge_triggered_loop_finds_what_became_ready() {
    let Some(run) = run() else { return };
    assert_lists(looked_at(run, EDGE), WAITS - 1, 3, 0, 0);
}

#[test]
fn a_level_triggered_loop_finds_what_it_had_as_well() {
    let Some(run) = run() else { return };
    assert_lists(looked_at(run, LEVEL), WAITS - 1, 6, 3, 0);
}

#[test]
fn long_lists_are_looked_at_in_one_wait_of_sixteen() {
    let Some(run) = run() else { return };
    assert_lists(looked_at(run, LONG), SPARSE, 40, 0, 0);
    assert_lists(looked_at(run, LONG_LEVEL), SPARSE, 40, 20, 0);
}

#[test]
fn a_walk_ends_at_64() {
    let Some(run) = run() else { return };
    assert_lists(looked_at(run, ENDLESS), SPARSE, 64, 0, SPARSE);
}

#[test]
fn poll_and_select_have_no_ready_list() {
    let Some(run) = run() else { return };
    let others = list(&run.report["loops"]).iter().filter(|row| row["mechanism"] != "epoll");
    for row in others {
        assert_eq!((&row["backlog"], &row["requeued"]), (&Value::Null, &Value::Null), "{row}");
    }
}
