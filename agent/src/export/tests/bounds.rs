//! Claims about the number of series: bounded whatever comes, and nothing is counted twice, twice shown or lost by it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use globset::{Glob, GlobSet};
use loopscope_probe::Head;
use proptest::prelude::*;

use super::world::{MS, S, at_most, head, last, looped, pass, wait};
use crate::{
    decode::Record,
    export::{
        grouping::{By, Grouping, OTHER},
        groups::{Groups, LINGER},
    },
    identity::Process,
    model::Model,
};

const MINUTE: u64 = 60 * S;

/// Events by group.
fn events(groups: &Groups) -> Vec<(&str, u64)> {
    groups.iter().map(|(key, group)| (key.values[0].as_str(), group.totals.events)).collect()
}

fn globs(pattern: &str) -> Option<GlobSet> {
    Some(GlobSet::builder().add(Glob::new(pattern).unwrap()).build().unwrap())
}

/// A thread that lives within one window, with so many events.
fn short_lived(comm: &str, tid: u32, now: u64, events: u32) -> Record {
    let mut looped = looped(tid.into());
    wait(&mut looped, now, 0, MS, events);
    Record::Loops(last(comm, tid, now), vec![looped])
}

#[test]
fn groups_beyond_the_limit_are_counted_together_and_those_that_are_shown_stay() {
    let (mut model, mut groups) = (Model::default(), at_most(2));
    for (i, comm) in ["a", "b", "c", "a", "d", "c"].into_iter().enumerate() {
        let now = S * (1 + i as u64);
        pass(&mut model, &mut groups, now, vec![short_lived(comm, 10 + 10 * i as u32, now, 1)]);
    }
    assert_eq!(events(&groups), [("a", 2), ("b", 1), (OTHER, 3)]);
    // c came, went and came back.
    assert_eq!((groups.folded(), groups.shown()), (3, 2));
}

#[test]
fn a_group_that_ended_goes_after_a_while_and_resumes_its_sum_when_it_comes_back() {
    let (mut model, mut groups) = (Model::default(), at_most(1));
    pass(&mut model, &mut groups, S, vec![short_lived("a", 10, S, 5)]);
    let within = S + LINGER.as_nanos() as u64;
    pass(&mut model, &mut groups, within, Vec::new());
    assert_eq!(events(&groups), [("a", 5)], "it lingers");
    let beyond = within + S;
    pass(&mut model, &mut groups, beyond, vec![short_lived("b", 20, beyond, 7)]);
    assert_eq!(events(&groups), [("b", 7)], "its place is free");
    // Back, but there is no room: what it does now is counted elsewhere, for good.
    pass(&mut model, &mut groups, beyond + S, vec![short_lived("a", 30, beyond + S, 100)]);
    assert_eq!(events(&groups), [("b", 7), (OTHER, 100)]);
    let again = beyond + S + 6 * MINUTE;
    pass(&mut model, &mut groups, again, vec![short_lived("a", 40, again, 3)]);
    assert_eq!(events(&groups), [("a", 8), (OTHER, 100)]);
}

#[test]
fn a_group_that_found_no_room_is_shown_once_there_is_and_starts_from_nothing() {
    let (mut model, mut groups) = (Model::default(), at_most(1));
    let mut stays = looped(2);
    wait(&mut stays, S, 0, MS, 10);
    let sample = |now, looped| Record::Loops(head("stays", 20, now), vec![looped]);
    pass(&mut model, &mut groups, S, vec![short_lived("a", 10, S, 5), sample(S, stays)]);
    assert_eq!(events(&groups), [("a", 5), (OTHER, 10)]);
    pass(&mut model, &mut groups, 2 * S, vec![sample(2 * S, stays)]);
    assert_eq!(groups.folded(), 1, "it is still the same one");
    let later = 7 * MINUTE;
    pass(&mut model, &mut groups, later - S, vec![sample(later - S, stays)]);
    wait(&mut stays, later, MS, MS, 1);
    pass(&mut model, &mut groups, later, vec![sample(later, stays)]);
    assert_eq!(events(&groups), [("stays", 1), (OTHER, 10)]);
    let current: Vec<u64> = groups.iter().map(|(_, group)| group.now.waiters).collect();
    assert_eq!(current, [1, 0], "it is one now, and only there");
    assert_eq!(groups.folded(), 1);
}

#[test]
fn ten_thousand_short_lived_processes_make_no_more_series_than_allowed_and_lose_no_count() {
    let (mut model, mut groups) = (Model::default(), at_most(200));
    let mut expected = 0;
    for i in 0..10_000_u32 {
        let now = S + u64::from(i) * 6 * MS;
        let record = short_lived(&format!("job-{i}"), 10 * (i + 1), now, 1 + i % 7);
        expected += u64::from(1 + i % 7);
        // Some ten of them between two passes.
        if i % 10 == 9 {
            pass(&mut model, &mut groups, now, vec![record]);
        } else {
            model.apply(vec![record], &mut |_| Arc::default());
        }
        assert!(groups.iter().count() <= 201);
    }
    assert_eq!(groups.iter().map(|(_, group)| group.totals.events).sum::<u64>(), expected);
    assert_eq!(groups.iter().map(|(_, group)| group.totals.waits()).sum::<u64>(), 10_000);
    assert_eq!(groups.iter().map(|(_, group)| group.totals.wait_ns).sum::<u64>(), 10_000 * MS);
    assert_eq!((groups.shown(), groups.folded()), (200, 9_800));
}

#[test]
fn globs_leave_groups_out_and_can_be_changed_meanwhile() {
    let (mut model, mut groups) =
        (Model::default(), Groups::new(Grouping { deny: globs("job-*"), ..Grouping::default() }));
    let both = |now| vec![short_lived("job-1", 10, now, 1), short_lived("nginx", 20, now, 2)];
    pass(&mut model, &mut groups, S, both(S));
    assert_eq!(events(&groups), [("nginx", 2)]);
    groups.regroup(Grouping { allow: globs("job-?"), ..Grouping::default() });
    assert_eq!(events(&groups), []);
    pass(&mut model, &mut groups, 2 * S, both(2 * S));
    assert_eq!(events(&groups), [("job-1", 1)]);
    groups.regroup(Grouping::default());
    pass(&mut model, &mut groups, 3 * S, both(3 * S));
    assert_eq!(events(&groups), [("job-1", 2), ("nginx", 4)], "nginx goes on from where it was");
}

#[test]
fn a_young_process_is_counted_with_the_others_until_it_is_old_enough() {
    let (mut model, mut groups) =
        (Model::default(), Groups::new(Grouping { age: Duration::from_secs(30), ..Grouping::default() }));
    let mut young = looped(1);
    let mut sample = |groups: &mut Groups, now: u64| {
        wait(&mut young, now, MS, MS, 1);
        let records = vec![
            Record::Loops(head("young", 10, now), vec![young]),
            Record::Counters(Head { now_ns: now, ..Head::default() }, Box::default()),
        ];
        let started = Process { started_ns: Some(100 * S), ..Process::default() };
        model.apply(records, &mut |_| Arc::new(started.clone()));
        groups.add(model.window());
        model.begin();
    };
    sample(&mut groups, 101 * S);
    sample(&mut groups, 129 * S);
    assert_eq!((events(&groups), groups.folded()), (vec![(OTHER, 2)], 0));
    sample(&mut groups, 130 * S);
    sample(&mut groups, 131 * S);
    assert_eq!(events(&groups), [("young", 2), (OTHER, 2)]);
}

#[test]
fn a_process_that_calls_itself_other_has_a_series_of_its_own() {
    let (mut model, mut groups) = (Model::default(), at_most(1));
    let records = vec![short_lived(OTHER, 10, S, 1), short_lived("b", 20, S, 2)];
    pass(&mut model, &mut groups, S, records);
    assert_eq!(events(&groups), [("?other", 1), (OTHER, 2)]);
}

/// What happens next: how long after the last thing, to which of eight processes, and events.
fn step() -> impl Strategy<Value = (u64, usize, u32)> {
    (prop_oneof![Just(S), Just(2 * MINUTE), Just(6 * MINUTE)], 0..8_usize, 0..50_u32)
}

proptest! {
    /// However groups come, go and find room or none: a counter that is shown never falls, by as much as it grows
    /// its group or the others have counted, and all of them together have counted everything.
    #[test]
    fn no_counter_falls_and_none_jumps(steps in proptest::collection::vec(step(), 1..60), most in 1..5_usize) {
        let (mut model, mut groups) = (Model::default(), at_most(most));
        let mut now = S;
        let (mut shown, mut total) = (BTreeMap::<String, u64>::new(), 0);
        for (i, (after, process, count)) in steps.into_iter().enumerate() {
            now += after;
            let comm = format!("p{process}");
            let record = short_lived(&comm, 10 * (i as u32 + 1), now, count);
            pass(&mut model, &mut groups, now, vec![record]);
            total += u64::from(count);
            prop_assert!(groups.shown() <= most);
            let mut grown = 0;
            for (name, events) in events(&groups) {
                let before = shown.insert(name.to_owned(), events).unwrap_or(0);
                prop_assert!(events >= before, "{name} fell from {before} to {events}");
                prop_assert!(events == before || name == comm || name == OTHER);
                grown += events - before;
            }
            prop_assert_eq!(grown, u64::from(count));
        }
        prop_assert_eq!(shown.values().sum::<u64>(), total);
    }
}

#[test]
fn threads_of_one_name_are_one_group_and_several_when_grouped_by_thread() {
    let records = || vec![short_lived("a", 10, S, 1), short_lived("a", 11, S, 2)];
    for (by, expected) in [(By::Comm, vec![3]), (By::Pid, vec![3]), (By::Tid, vec![1, 2])] {
        let (mut model, mut groups) = (Model::default(), Groups::new(Grouping { by, ..Grouping::default() }));
        pass(&mut model, &mut groups, S, records());
        let found: Vec<u64> = groups.iter().map(|(_, group)| group.totals.events).collect();
        assert_eq!(found, expected, "{by:?}");
    }
}
