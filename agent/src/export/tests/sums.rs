//! Claims about the sums of groups: short windows add up, nothing falls, nothing is counted twice.

use loopscope_probe::{Head, Loop, Wait, mechanism, reason, waitable};
use proptest::prelude::*;

use super::world::{MS, S, at_most, head, last, looped, pass, wait, waiting};
use crate::{
    decode::Record,
    export::groups::{Group, Groups},
    model::Model,
};

fn group<'a>(groups: &'a Groups, comm: &str) -> &'a Group {
    groups.iter().find(|(key, _)| key.values == [comm]).map(|(_, group)| group).unwrap()
}

/// Where a pass falls in an iteration of a loop.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pass {
    Nowhere,
    WhileBusy,
    WhileWaiting,
}

/// Busy time, wait time, events, and whether there is a pass meanwhile.
fn iteration() -> impl Strategy<Value = (u64, u64, u32, Pass)> {
    let pass = prop_oneof![Just(Pass::Nowhere), Just(Pass::WhileBusy), Just(Pass::WhileWaiting)];
    (2..2 * S, 2..2 * S, 0..70_u32, pass)
}

proptest! {
    #[test]
    fn short_windows_add_up_to_one_long_one(iterations in proptest::collection::vec(iteration(), 1..20)) {
        let (mut short, mut long) = (Model::default(), Model::default());
        let (mut sums, mut once) = (at_most(9), at_most(9));
        let mut sample = |now, wait, looped| {
            let record = Record::Loops(Head { wait, ..head("redis", 10, now) }, vec![looped]);
            pass(&mut short, &mut sums, now, vec![record.clone()]);
            long.apply(vec![record], &mut |_| Default::default());
        };
        let mut looped = looped(1);
        let mut now = S;
        for (busy, length, events, pass) in iterations {
            if pass == Pass::WhileBusy {
                sample(now + busy / 2, Wait::default(), looped);
            }
            // The probes count a busy time at its end.
            let mut entered = looped;
            entered.busy_ns += if looped.last_exit_ns == 0 { 0 } else { busy };
            if pass == Pass::WhileWaiting {
                let mut counted = looped;
                wait(&mut counted, now, busy, 2, 1);
                entered.busy = counted.busy;
                sample(now + busy + length / 2, waiting(1, now + busy), entered);
            }
            now += busy + length;
            wait(&mut looped, now, busy, length, events);
        }
        sample(now, Wait::default(), looped);
        once.add(long.window());
        let (sums, once) = (group(&sums, "redis"), group(&once, "redis"));
        prop_assert_eq!(&sums.totals, &once.totals);
        prop_assert_eq!(sums.times_ns, once.times_ns);
        prop_assert_eq!(sums.times_ns, Some([looped.wait_ns, looped.busy_ns]));
        prop_assert_eq!(&sums.now, &once.now);
    }
}

#[test]
fn what_a_thread_counted_stays_when_it_ends_and_is_not_counted_again() {
    let (mut model, mut groups) = (Model::default(), at_most(9));
    let mut looped = looped(1);
    wait(&mut looped, S, 0, MS, 3);
    pass(&mut model, &mut groups, 2 * S, vec![Record::Loops(head("short", 10, 2 * S), vec![looped])]);
    wait(&mut looped, 3 * S, 2 * S - MS, MS, 4);
    pass(&mut model, &mut groups, 4 * S, vec![Record::Loops(last("short", 10, 3 * S), vec![looped])]);
    pass(&mut model, &mut groups, 5 * S, Vec::new());
    let group = group(&groups, "short");
    assert_eq!((group.totals.waits(), group.totals.events), (2, 7));
    assert_eq!((group.now.loops, group.now.waiters), (0, 0));
}

#[test]
fn a_slot_that_was_given_away_and_comes_back_is_counted_once() {
    let (mut model, mut groups) = (Model::default(), at_most(9));
    let mut first = looped(1);
    wait(&mut first, S, 0, MS, 3);
    let evicted = Head { reason: reason::EVICT as u32, ..head("many", 10, 2 * S) };
    pass(&mut model, &mut groups, 3 * S, vec![Record::Loops(evicted, vec![first])]);
    pass(&mut model, &mut groups, 4 * S, Vec::new());
    let mut again = looped(1);
    wait(&mut again, 5 * S, 0, MS, 1);
    pass(&mut model, &mut groups, 6 * S, vec![Record::Loops(head("many", 10, 6 * S), vec![again])]);
    assert_eq!(group(&groups, "many").totals.events, 4);
}

#[test]
fn open_states_are_in_the_loop_times_at_once_and_once() {
    let (mut model, mut groups) = (Model::default(), at_most(9));
    let mut looped = looped(1);
    wait(&mut looped, S, 0, MS, 1);
    let sample = |now, wait, looped| Record::Loops(Head { wait, ..head("redis", 10, now) }, vec![looped]);
    pass(&mut model, &mut groups, S, vec![sample(S, Default::default(), looped)]);
    let before = group(&groups, "redis").times_ns.unwrap();
    // Busy for 2 s, and still.
    pass(&mut model, &mut groups, 3 * S, vec![sample(3 * S, Default::default(), looped)]);
    assert_eq!(group(&groups, "redis").times_ns, Some([before[0], before[1] + 2 * S]));
    assert_eq!(group(&groups, "redis").now.busy_ns, 2 * S);
    // It waits since 3.5 s.
    looped.busy_ns += 2 * S + S / 2;
    pass(&mut model, &mut groups, 4 * S, vec![sample(4 * S, waiting(1, 3 * S + S / 2), looped)]);
    assert_eq!(group(&groups, "redis").times_ns, Some([before[0] + S / 2, before[1] + 2 * S + S / 2]));
    assert_eq!(group(&groups, "redis").now.busy_ns, 0);
}

#[test]
fn a_long_gap_between_polls_is_made_up_for_and_nothing_falls() {
    let (mut model, mut groups) = (Model::default(), at_most(9));
    let mut looped = Loop { waitable: waitable::POLL, mechanism: mechanism::POLL as u32, ..Loop::EMPTY };
    looped.streak = 16;
    wait(&mut looped, S, 0, MS, 1);
    let sample = |now, looped| vec![Record::Loops(head("getent", 10, now), vec![looped])];
    pass(&mut model, &mut groups, S, sample(S, looped));
    let busy = |groups: &Groups| group(groups, "getent").times_ns.unwrap()[1];
    // Busy for 9 s, as it seems; then it shows that it was no busy time.
    pass(&mut model, &mut groups, 10 * S, sample(10 * S, looped));
    assert_eq!(busy(&groups), 9 * S);
    pass(&mut model, &mut groups, 20 * S, sample(20 * S, looped));
    assert_eq!(busy(&groups), 9 * S);
    // The next 9 s of busy time are those.
    looped.busy_ns += 9 * S;
    looped.last_exit_ns = 30 * S;
    pass(&mut model, &mut groups, 30 * S, sample(30 * S, looped));
    assert_eq!(busy(&groups), 9 * S);
    looped.busy_ns += S;
    looped.last_exit_ns = 32 * S;
    pass(&mut model, &mut groups, 32 * S, sample(32 * S, looped));
    assert_eq!(busy(&groups), 10 * S);
}

#[test]
fn threads_that_share_an_instance_are_never_busy_however_short_the_window() {
    let (mut model, mut groups) = (Model::default(), at_most(9));
    let mut shared = [looped(1), looped(1)];
    shared.iter_mut().for_each(|looped| wait(looped, S, 0, MS, 1));
    let records = |now, shared: &[Loop; 2]| {
        let record =
            |(i, looped): (usize, &Loop)| Record::Loops(head("go", 10 + i as u32, now), vec![*looped]);
        shared.iter().enumerate().map(record).collect::<Vec<_>>()
    };
    pass(&mut model, &mut groups, 2 * S, records(2 * S, &shared));
    for second in 3..8 {
        wait(&mut shared[0], second * S, S / 2, S / 2, 1);
        pass(&mut model, &mut groups, second * S, records(second * S, &shared));
    }
    let group = group(&groups, "go");
    assert_eq!((group.times_ns, group.totals.busy_ns), (None, 0));
    assert_eq!((group.now.shared.len(), group.now.waiters), (1, 2));
}
