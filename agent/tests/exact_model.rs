//! Counts for equality where a record is lost: what the model makes of a slot that was taken anew, when the record
//! that said so never came.
//!
//! Loads no probe: the records are made here.
#![cfg(test)]

use std::sync::Arc;

use loopscope::{
    decode::Record,
    identity::Process,
    model::{LoopWindow, Model},
};
use loopscope_probe::{Head, Loop, kind, reason, result};

/// The iterator's copy of a thread's only slot at a time: which use of the slot it is, so many waits that were ready, so
/// many that were empty.
fn slot(now_ns: u64, serial: u32, ready: u32, empty: u32) -> Record {
    let mut results = [0; result::NAMES.len()];
    results[result::READY] = ready;
    results[result::EMPTY] = empty;
    let waits = u64::from(ready + empty);
    let looped = Loop {
        waitable: 0xffff_8880_0000_1000,
        generation: 1,
        fd: 3,
        serial,
        results,
        events: u64::from(ready),
        wait_ns: waits * 1000,
        last_exit_ns: now_ns - 10,
        ..Loop::EMPTY
    };
    let kind = u32::try_from(kind::LOOPS).unwrap();
    let head = Head { kind, now_ns, born_ns: 5, tgid: 7, tid: 7, ..Head::default() };
    Record::Loops(head, vec![looped])
}

/// The only loop of a window in which the records came one by one.
fn window(records: impl IntoIterator<Item = Record>) -> LoopWindow {
    let mut model = Model::default();
    let mut identify = |_| Arc::new(Process::default());
    model.begin();
    for record in records {
        model.apply(vec![record], &mut identify);
    }
    let mut loops = model.window().loops;
    assert_eq!(loops.len(), 1);
    loops.remove(0)
}

#[test]
fn a_slot_that_goes_on_counts_the_difference() {
    let looped = window([slot(100, 1, 3, 2), slot(200, 1, 4, 2)]);
    assert_eq!((looped.totals.waits(), looped.totals.events), (6, 4));
}

#[test]
fn a_slot_that_was_taken_anew_unsaid_invents_no_waits() {
    // Between the copies the slot was sent away by an eviction whose record found the ring buffer full.
    for (ready, empty) in [(0, 1), (2, 0), (1, 2), (7, 7)] {
        let looped = window([slot(100, 1, 3, 2), slot(200, 2, ready, empty)]);
        let (waits, events) = (looped.totals.waits(), looped.totals.events);
        assert_eq!((waits, events), (5 + u64::from(ready + empty), 3 + u64::from(ready)));
    }
}

#[test]
fn an_instance_whose_slot_and_descriptor_went_to_another_has_ended() {
    let Record::Loops(head, loops) = slot(100, 1, 3, 2) else { panic!("not a loop's record") };
    let gone = Head { reason: u32::try_from(reason::EVICT).unwrap(), ..head };
    let next = Loop { waitable: 0xffff_8880_0000_2000, generation: 2, ..loops[0] };
    for (fd, ended) in [(3, true), (4, false)] {
        let mut model = Model::default();
        let mut identify = |_| Arc::new(Process::default());
        model.begin();
        model.apply(vec![Record::Loops(gone, loops.clone())], &mut identify);
        let next = Loop { fd, ..next };
        model.apply(vec![Record::Loops(Head { now_ns: 200, ..head }, vec![next])], &mut identify);
        let loops = model.window().loops;
        let states: Vec<(i32, bool)> = loops.iter().map(|looped| (looped.fd, looped.ended)).collect();
        assert_eq!(states, [(3, ended), (fd, false)]);
    }
}
