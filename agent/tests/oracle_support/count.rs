//! What is compared: the counts of one loop's waits and of one instance's epoll_ctl calls, from whoever counted.

use std::collections::{BTreeMap, BTreeSet};

use loopscope::report::{
    Report,
    document::{InstanceRow, LoopRow, Mechanism},
};

/// The waits of a thread on an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    pub ready: u64,
    pub timeout: u64,
    pub empty: u64,
    pub interrupted: u64,
    pub error: u64,
    pub infinite: u64,
    pub zero: u64,
    pub finite: u64,
    pub events: u64,
    pub saturated: u64,
}

impl Waits {
    /// How many.
    pub fn calls(&self) -> u64 {
        self.ready + self.timeout + self.empty + self.failed()
    }

    /// Those with an errno.
    pub fn failed(&self) -> u64 {
        self.interrupted + self.error
    }

    fn fields(&mut self) -> [&mut u64; 10] {
        let Waits { ready, timeout, empty, interrupted, error, infinite, zero, finite, events, saturated } =
            self;
        [ready, timeout, empty, interrupted, error, infinite, zero, finite, events, saturated]
    }
}

/// The epoll_ctl calls on an instance; flags are of the successful adds and mods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ctl {
    pub add: u64,
    pub modify: u64,
    pub del: u64,
    pub errors: u64,
    pub edge: u64,
    pub oneshot: u64,
    pub exclusive: u64,
}

impl Ctl {
    /// How many.
    pub fn calls(&self) -> u64 {
        self.add + self.modify + self.del + self.errors
    }

    fn fields(&mut self) -> [&mut u64; 7] {
        let Ctl { add, modify, del, errors, edge, oneshot, exclusive } = self;
        [add, modify, del, errors, edge, oneshot, exclusive]
    }
}

/// Everything of some processes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// By process, thread and epoll descriptor.
    pub waits: BTreeMap<(u32, u32, i32), Waits>,
    /// By process and epoll descriptor.
    pub ctl: BTreeMap<(u32, i32), Ctl>,
    /// Epoll instances that were made, and waited on.
    pub instances: u64,
}

/// Sums.
#[derive(Debug, Default)]
pub struct Total {
    pub waits: Waits,
    pub ctl: Ctl,
}

impl Counted {
    /// What the report says of the epoll waits and instances of these processes.
    pub fn of_report(report: &Report, pids: &BTreeSet<u32>) -> Self {
        let mut counted = Counted::default();
        let ours = |row: &&LoopRow| pids.contains(&row.pid) && row.mechanism == Mechanism::Epoll;
        for row in report.loops.iter().filter(ours) {
            let fd = row.epfd.unwrap();
            let twice = counted.waits.insert((row.pid, row.tid, fd), waits(row));
            assert_eq!(twice, None, "two rows of one loop: {row:?}");
            // The rows of instances say who holds them, and nobody does when a server has ended.
            let instance = report.instances.iter().find(|instance| Some(instance.instance) == row.instance);
            let instance = instance.unwrap_or_else(|| panic!("no instance: {row:?}"));
            assert_eq!(instance.waiters, 1, "{instance:?}");
            let twice = counted.ctl.insert((row.pid, fd), ctl(instance));
            assert_eq!(twice, None, "two loops of one instance: {row:?}");
        }
        counted.instances = counted.ctl.len() as u64;
        counted
    }

    /// The sums over all.
    pub fn total(&self) -> Total {
        let mut total = Total::default();
        for waits in self.waits.values() {
            add(total.waits.fields(), waits.clone().fields());
        }
        for ctl in self.ctl.values() {
            add(total.ctl.fields(), ctl.clone().fields());
        }
        total
    }
}

fn add<const N: usize>(sums: [&mut u64; N], values: [&mut u64; N]) {
    sums.into_iter().zip(values).for_each(|(sum, value)| *sum += *value);
}

fn waits(row: &LoopRow) -> Waits {
    let (results, timeouts) = (&row.results, &row.timeouts);
    let waits = Waits {
        ready: results.ready,
        timeout: results.timeout,
        empty: results.empty,
        interrupted: results.interrupted,
        error: results.error,
        infinite: timeouts.infinite,
        zero: timeouts.zero,
        finite: timeouts.finite,
        events: row.events,
        saturated: row.saturated,
    };
    assert_eq!((row.waits, timeouts.unknown), (waits.calls(), 0), "{row:?}");
    waits
}

fn ctl(row: &InstanceRow) -> Ctl {
    Ctl {
        add: row.ctl.add,
        modify: row.ctl.r#mod,
        del: row.ctl.del,
        errors: row.ctl.errors.values().sum(),
        edge: row.ctl.flags.edge,
        oneshot: row.ctl.flags.oneshot,
        exclusive: row.ctl.flags.exclusive,
    }
}
