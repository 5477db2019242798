//! Hand-made records of the probes, and the frames that a model makes of them.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use loopscope_probe::{
    Counters, Head, Loop, Wait,
    histogram::{count_bucket, time_bucket},
    lost, mechanism, probe, reason, result, timeout, waitable,
};

use crate::{
    decode::Record,
    identity::Process,
    kernel::{Attempt, ProbeState, table::PROBES},
    model::Model,
    report::{
        build::{Aside, Origin},
        group::Sample,
        host::Host,
    },
    tui::frame::{Frame, Own},
};

const S: u64 = 1_000_000_000;

/// A thread that loops.
pub struct Looper {
    pub comm: &'static str,
    pub tid: u32,
    pub looped: Loop,
    /// How long each wait and each turn of the body takes, ns, and how often it turns a second.
    pub pace: (u64, u64, u32),
}

/// A host.
#[derive(Default)]
pub struct World {
    model: Model,
    pub loopers: Vec<Looper>,
    counters: Counters,
    now_ns: u64,
    window: u32,
    pub lost: u64,
}

impl World {
    /// A host on which the probes were just attached.
    pub fn new() -> World {
        let mut world = World { now_ns: 100 * S, ..World::default() };
        world.pass(Vec::new());
        world.model.begin();
        world
    }

    /// With a thread on an epoll instance of its own.
    pub fn with(mut self, comm: &'static str, tid: u32, pace: (u64, u64, u32)) -> World {
        let looped =
            Loop { waitable: 0xffff_8880_0000_0000 + u64::from(tid) * 256, fd: 5, asked: 64, ..Loop::EMPTY };
        self.loopers.push(Looper { comm, tid, looped, pace });
        self
    }

    /// With a thread that calls poll now and then.
    pub fn with_poller(mut self, comm: &'static str, tid: u32) -> World {
        let looped = Loop {
            waitable: waitable::POLL,
            mechanism: mechanism::POLL as u32,
            fd: -1,
            asked: 3,
            ..Loop::EMPTY
        };
        self.loopers.push(Looper { comm, tid, looped, pace: (2_000_000, 0, 3) });
        self
    }

    /// A host of 2,000 loops, of which every twentieth does something.
    pub fn crowd() -> World {
        const NAMES: [&str; 5] = ["nginx", "redis-server", "node", "envoy", "haproxy"];
        (0..2000).fold(World::new(), |world, i| {
            let busy = if i % 20 == 0 { 1 + u64::from(i % 97) * 100_000 } else { 0 };
            let turns = if i % 20 == 0 { 100 } else { 0 };
            world.with(NAMES[i as usize % 5], 1000 + i, (200_000, busy, turns))
        })
    }

    /// Lets a second pass, and shows it.
    pub fn second(&mut self) -> Frame {
        self.now_ns += S;
        self.window += 1;
        let window = self.window;
        let now = self.now_ns;
        let records = self.loopers.iter_mut().map(|looper| looper.second(now, window)).collect();
        self.pass(records);
        let window = self.model.window_of(Sample::new);
        self.model.begin();
        let end = UNIX_EPOCH + Duration::from_nanos(1_800_000_000 * S + self.now_ns);
        let own = Own { cpu_seconds: Some(0.012), view_seconds: None, cpus: 2 };
        Frame::new(window, &origin(), Aside::default(), (end - Duration::from_secs(1), end), own)
    }

    fn pass(&mut self, mut records: Vec<Record>) {
        self.counters.runs[probe::EPOLL_WAIT] += 4_000;
        self.counters.lost[lost::EVENTS] += self.lost;
        let head = Head { now_ns: self.now_ns, window: self.window, ..Head::default() };
        records.push(Record::Counters(head, Box::new(self.counters)));
        self.model.apply(records, &mut |pid| {
            Arc::new(Process {
                exe: Some(format!("/usr/sbin/program-{pid}")),
                cgroup: Some(format!("/system.slice/service-{}.service", pid % 3)),
                unit: Some(format!("service-{}.service", pid % 3)),
                ..Process::default()
            })
        });
    }
}

impl Looper {
    fn second(&mut self, now_ns: u64, window: u32) -> Record {
        let (wait_ns, busy_ns, turns) = self.pace;
        for _ in 0..turns {
            let looped = &mut self.looped;
            if looped.last_exit_ns != 0 {
                looped.busy_ns += busy_ns;
                looped.busy[time_bucket(busy_ns)] += 1;
            }
            looped.wait_ns += wait_ns;
            looped.wait[time_bucket(wait_ns)] += 1;
            looped.events += 2;
            looped.events_per_wait[count_bucket(2)] += 1;
            looped.results[result::READY] += 1;
            looped.timeouts[timeout::FINITE] += 1;
            looped.last_exit_ns = now_ns - 1_000_000;
        }
        let mut name = [0; 16];
        name[..self.comm.len()].copy_from_slice(self.comm.as_bytes());
        let wait = Wait {
            entry_ns: now_ns - 500_000,
            waitable: self.looped.waitable,
            fd: self.looped.fd,
            asked: self.looped.asked,
            mechanism: self.looped.mechanism,
            ..Wait::default()
        };
        let head = Head {
            reason: reason::SAMPLE as u32,
            window,
            now_ns,
            born_ns: u64::from(self.tid),
            tgid: self.tid / 10 * 10,
            tid: self.tid,
            comm: name,
            thread: name,
            wait,
            ..Head::default()
        };
        Record::Loops(head, vec![self.looped])
    }
}

fn origin() -> Origin {
    let attached =
        |probe| ProbeState { probe, attempts: vec![Attempt { backend: "tracepoint", error: None }] };
    Origin {
        host: Host { name: "web-1".to_owned(), kernel: "6.18.2".to_owned(), arch: "x86_64".to_owned() },
        version: "0.1.0".to_owned(),
        probes: PROBES.iter().filter(|probe| probe.name().starts_with("epoll_")).map(attached).collect(),
        notes: Vec::new(),
    }
}
