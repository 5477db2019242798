//! Hand-made records of the probes, and what a model makes of them.

use std::sync::Arc;

use loopscope_probe::{
    Ctl, Entry, Head, Loop, Wait, ctl_errno, ctl_op,
    histogram::{count_bucket, time_bucket},
    mechanism, reason, result, timeout, waitable,
};

use crate::{
    decode::{
        Record,
        interest::{Entries, Holder},
    },
    export::{grouping::Grouping, groups::Groups},
    identity::Process,
    model::{
        Model,
        interest::{EDGE, EXCLUSIVE},
    },
};

/// A second, ns.
pub const S: u64 = 1_000_000_000;
/// A millisecond, ns.
pub const MS: u64 = 1_000_000;

/// No group yet, by comm.
pub fn at_most(most: usize) -> Groups {
    Groups::new(Grouping { most, ..Grouping::default() })
}

/// Where instance `n` lies.
pub fn instance(n: u64) -> u64 {
    0xffff_8880_0000_0000 + n * 256
}

/// The head of a thread's records, sampled at `now`.
pub fn head(comm: &str, tid: u32, now_ns: u64) -> Head {
    let mut name = [0; 16];
    name[..comm.len()].copy_from_slice(comm.as_bytes());
    Head {
        now_ns,
        born_ns: u64::from(tid),
        tgid: tid / 10 * 10,
        tid,
        comm: name,
        thread: name,
        ..Head::default()
    }
}

/// The same for a thread that ends.
pub fn last(comm: &str, tid: u32, now_ns: u64) -> Head {
    Head { reason: reason::EXIT as u32, ..head(comm, tid, now_ns) }
}

/// A wait on instance `n` that began at `entry`.
pub fn waiting(n: u64, entry_ns: u64) -> Wait {
    Wait { entry_ns, waitable: instance(n), fd: 5, asked: 64, ..Wait::default() }
}

/// A loop on instance `n` that has not waited yet.
pub fn looped(n: u64) -> Loop {
    Loop { waitable: instance(n), fd: 5, asked: 64, ..Loop::EMPTY }
}

/// Lets a wait of `wait_ns` complete at `exit_ns`, with `events` or, where there are none, by its time-out; before it
/// the loop was busy for `busy_ns`.
pub fn wait(looped: &mut Loop, exit_ns: u64, busy_ns: u64, wait_ns: u64, events: u32) {
    if looped.last_exit_ns != 0 {
        looped.busy_ns += busy_ns;
        looped.busy[time_bucket(busy_ns)] += 1;
    }
    looped.wait_ns += wait_ns;
    looped.wait[time_bucket(wait_ns)] += 1;
    looped.events += u64::from(events);
    looped.events_per_wait[count_bucket(events)] += 1;
    looped.results[if events > 0 { result::READY } else { result::TIMEOUT }] += 1;
    looped.timeouts[timeout::FINITE] += 1;
    looped.saturated += u32::from(events == looped.asked);
    looped.last_exit_ns = exit_ns;
}

/// Takes a pass in, as the agent does, and adds its window.
pub fn pass(model: &mut Model, groups: &mut Groups, now_ns: u64, mut records: Vec<Record>) {
    records.push(Record::Counters(Head { now_ns, ..Head::default() }, Box::default()));
    model.apply(records, &mut |_| Arc::new(Process::default()));
    groups.add(model.window());
    model.begin();
}

fn ctl(n: u64, add: u32, del: u32) -> Ctl {
    let zeros = Ctl::read(&[0; size_of::<Ctl>()]).unwrap();
    let mut ctl = Ctl { waitable: instance(n), fd: 5, ..zeros };
    ctl.done[ctl_op::ADD] = add;
    ctl.done[ctl_op::DEL] = del;
    ctl
}

/// A loop; two threads on one instance; a name that has to be escaped, by poll; a select; a thread that ended; and two
/// processes too many.
pub fn groups() -> Groups {
    let mut model = Model::default();
    let mut groups = at_most(4);
    for (now, records) in passes() {
        model.take_interest(holders());
        pass(&mut model, &mut groups, now, records);
    }
    groups
}

/// What the instances watch: two files of the first, one of them edge-triggered and closed with a dup, one of the third.
fn holders() -> Vec<Holder> {
    let holder = |n: u64, tgid: u32, first: Vec<Entry>| Holder {
        tgid,
        epfd: 5,
        uid: 0,
        instance: (instance(n), 0),
        entries: Some(Entries { first, ..Entries::default() }),
    };
    let entry = |fd: u32, events: u32, behind: u32| Entry {
        file: u64::from(fd) * 64,
        fd,
        events,
        behind,
        ..Entry::default()
    };
    vec![
        holder(1, 10, vec![entry(6, 1, 1), entry(7, 1 | EDGE, 0)]),
        holder(3, 20, vec![entry(6, 1 | EXCLUSIVE, 1)]),
    ]
}

/// What [`groups`] takes in: the records of each pass, and its time.
pub fn passes() -> Vec<(u64, Vec<Record>)> {
    let mut redis = looped(1);
    wait(&mut redis, 2 * S, 0, 100 * MS, 1);
    wait(&mut redis, 3 * S, 900 * MS, 100 * MS, 64);
    wait(&mut redis, 4 * S, 500 * MS, 500 * MS + 70_000, 0);
    redis.overrun_ns = 70_000;
    redis.overrun[time_bucket(70_000)] = 1;
    let mut ended = looped(2);
    wait(&mut ended, 3 * S, 0, S, 3);
    let mut shared = [looped(3), looped(3)];
    shared.iter_mut().for_each(|looped| wait(looped, 4 * S, 0, 2_000, 2));
    let mut errors = ctl(1, 3, 1);
    errors.errors[ctl_op::ADD][ctl_errno::EEXIST] = 2;
    let mut nowhere = Ctl { waitable: waitable::NO_INSTANCE, ..ctl(0, 0, 0) };
    nowhere.errors[ctl_op::MOD][ctl_errno::EBADF] = 1;
    let first = vec![
        Record::Loops(
            Head { wait: waiting(1, 4 * S + S / 2), ..head("redis-server", 10, 5 * S) },
            vec![redis],
        ),
        Record::Ctls(head("redis-server", 10, 5 * S), vec![errors, nowhere]),
        Record::Loops(last("redis-server", 11, 4 * S), vec![ended]),
        Record::Loops(head("go", 20, 5 * S), vec![shared[0]]),
        Record::Loops(Head { wait: waiting(3, 4 * S), ..head("go", 21, 5 * S) }, vec![shared[1]]),
    ];
    wait(&mut redis, 6 * S, 500 * MS, S + S / 2, 7);
    let busy = Record::Loops(head("redis-server", 10, 8 * S), vec![redis]);
    let poll = sets("a\"b\\c\nd", 30, mechanism::POLL);
    let second = vec![busy, poll, sets("mysqld", 40, mechanism::SELECT), ring("fio", 45)];

    let more = ["late", "later"].into_iter().enumerate().map(|(i, comm)| {
        let mut looped = looped(50 + i as u64);
        wait(&mut looped, 9 * S, 0, MS, 1);
        Record::Loops(head(comm, 50 + 10 * i as u32, 10 * S), vec![looped])
    });
    vec![(S, Vec::new()), (5 * S, first), (8 * S, second), (10 * S, more.collect())]
}

/// Twenty waits on sets of descriptors.
fn sets(comm: &str, tid: u32, mechanism: usize) -> Record {
    let is_select = mechanism == mechanism::SELECT;
    let of = if is_select { waitable::SELECT } else { waitable::POLL };
    let mut looped =
        Loop { waitable: of, mechanism: mechanism as u32, fd: -1, asked: 3, streak: 16, ..Loop::EMPTY };
    for i in 0..20 {
        wait(&mut looped, 6 * S + 10 * MS * i, MS, 9 * MS, 1);
        looped.nfds += 3;
        looped.nfds_per_wait[count_bucket(3)] += 1;
    }
    (looped.bytes_in, looped.bytes_out) = (480, 120);
    looped.highest = if is_select { 38 } else { 0 };
    Record::Loops(head(comm, tid, 8 * S), vec![looped])
}

/// Four waits on a ring.
fn ring(comm: &str, tid: u32) -> Record {
    let mut looped = Loop { mechanism: mechanism::IO_URING as u32, ..looped(200) };
    for i in 0..4 {
        wait(&mut looped, 6 * S + 10 * MS * i, MS, 9 * MS, 2);
    }
    (looped.bytes_in, looped.bytes_out) = (9, 1);
    Record::Loops(head(comm, tid, 8 * S), vec![looped])
}
