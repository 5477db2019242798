//! The report as data: these types are the JSON contract of `report --format json`, field for field and in
//! the contract's order (docs/schema/report.schema.json describes the same).
//!
//! Nothing here formats, sorts or knows where a figure came from. A name that is in a released version is
//! never renamed or removed without a new [`SCHEMA`]; fields may be added. Times are seconds, sizes are bytes,
//! counts are those of the window alone. `None` is JSON `null`: unknown or not applicable, never zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The interest set of an instance, in numbers: the model's own type, whose fields are the contract's.
pub use crate::model::interest::Watched;

/// The version of every JSON document; it changes when a name or a meaning does, not when a field is added.
pub const SCHEMA: u32 = 1;

/// A distribution of times, in seconds.
pub type Seconds = Distribution<f64>;
/// A distribution of counts.
pub type Counts = Distribution<u64>;

/// What `report` saw in one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Host name.
    pub host: String,
    /// Kernel release, as `uname -r` says it.
    pub kernel: String,
    /// Machine, as `uname -m` says it.
    pub arch: String,
    /// Version of loopscope.
    pub version: String,
    /// When the window began, RFC 3339.
    pub started_at: String,
    /// Length of the window.
    pub duration_seconds: f64,
    /// The probes that were attached.
    pub probes: Vec<ProbeRow>,
    /// What was not recorded.
    pub lost: Lost,
    /// What this view could not see, in words; empty where it saw all.
    #[serde(default)]
    pub notes: Vec<String>,
    /// One row per (thread, waitable).
    pub loops: Vec<LoopRow>,
    /// One row per epoll instance.
    pub instances: Vec<InstanceRow>,
}

/// One attached probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeRow {
    /// What it watches, such as `epoll_wait`.
    pub name: String,
    /// The way it was attached, such as `tracepoint`.
    pub backend: String,
    /// How often it ran in the window.
    pub runs: u64,
    /// Time that its runs took, of a program that serves several probes its share by their runs; null unless
    /// --probe-stats measured it, and for a probe of backend raw, whose programs have rows of their own.
    #[serde(default)]
    pub run_seconds: Option<f64>,
}

/// What was not recorded in the window, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Waiters without a record: no memory, or a limit was reached.
    pub records: u64,
    /// Ring buffer overruns.
    pub events: u64,
    /// Runs that the kernel skipped.
    pub missed: u64,
    /// Exits without an entry.
    pub unpaired: u64,
    /// Negative time differences, taken as zero.
    pub clamped: u64,
    /// 32-bit tasks on a way that cannot read their arguments.
    pub unseen: u64,
}

/// What one thread did on one waitable in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoopRow {
    /// Process id as the host counts.
    pub pid: u32,
    /// Thread id as the host counts.
    pub tid: u32,
    /// Name of the process.
    pub comm: String,
    /// Name of the thread.
    pub thread: String,
    /// Path of the executable.
    pub exe: Option<String>,
    /// Control group, as a path below the root of its hierarchy.
    pub cgroup: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
    /// Id of the container, from the cgroup path.
    pub container: Option<String>,
    /// Kubernetes pod: NAMESPACE/NAME where /var/log/pods has it, else its UID.
    pub pod: Option<String>,
    /// The waiting call it uses.
    pub mechanism: Mechanism,
    /// It comes back to wait, so that busy time means something.
    pub is_loop: bool,
    /// Its thread or its instance ended within the window.
    pub ended: bool,
    /// The descriptor of the instance or ring that was given last; null for poll, select and aio.
    pub epfd: Option<i32>,
    /// Our number of its epoll instance; null where it waits on none.
    pub instance: Option<u64>,
    /// Completed waits.
    pub waits: u64,
    /// Events that they returned.
    pub events: u64,
    /// `waits` by how they ended.
    pub results: Results,
    /// `waits` by the timeout that was asked for.
    pub timeouts: Timeouts,
    /// Waits that returned as many events as were asked for.
    pub saturated: u64,
    /// The last maxevents or nr asked for, or how many completions the ring has room for; null where there is none.
    pub maxevents: Option<u32>,
    /// Times from entry to exit of a wait.
    pub wait_seconds: Seconds,
    /// Times from a wait's exit to the next entry, less other waits; null unless a loop with one waiter.
    pub busy_seconds: Option<Seconds>,
    /// Events per wait, of the waits that did not fail.
    pub events_per_wait: Counts,
    /// Length of the ready list at wait entry; null where it cannot be read.
    pub backlog: Option<Backlog>,
    /// Of the ready list at wait entry, what the wait before had already delivered; null where it cannot be read.
    pub requeued: Option<Counts>,
    /// Wait time beyond a finite timeout; null where it is not measured.
    pub overrun_seconds: Option<Seconds>,
    /// Where the window's time went.
    pub time: Time,
    /// What it is in at the window's end.
    pub state: State,
    /// For how long; null in state `none`.
    pub state_seconds: Option<f64>,
    /// `time.busy / (time.busy + time.wait)`; null like `busy_seconds`.
    pub utilization: Option<f64>,
    /// Descriptors per call; null unless poll or select.
    pub nfds: Option<Counts>,
    /// The highest descriptor watched; null unless select.
    pub highest_fd: Option<u32>,
    /// What the kernel copied for these calls, computed from their arguments.
    pub copied_bytes: CopiedBytes,
    /// Completions that the last wait asked for at least (min_complete, min_nr); null unless io_uring or aio.
    pub min_complete: Option<u32>,
    /// Requests that the ring took from this thread; null unless io_uring.
    pub submissions: Option<u64>,
    /// Completions for which the ring had no room, as this thread's waits found; null unless io_uring.
    pub cq_overflows: Option<u64>,
    /// Process id in the innermost of its pid namespaces; null where that is the host's.
    pub ns_pid: Option<u32>,
}

/// The waiting call of a loop; the names are those of [`loopscope_probe::mechanism`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// epoll_wait, epoll_pwait, epoll_pwait2.
    #[default]
    Epoll,
    /// poll, ppoll.
    Poll,
    /// select, pselect6.
    Select,
    /// io_uring_enter with GETEVENTS.
    IoUring,
    /// io_getevents, io_pgetevents.
    Aio,
}

impl Mechanism {
    /// Every mechanism, in the order of [`loopscope_probe::mechanism`]'s numbers.
    pub const ALL: [Self; 5] = [Self::Epoll, Self::Poll, Self::Select, Self::IoUring, Self::Aio];

    /// The mechanism of a record's number; None for one that this version does not know.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Its name in documents and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Poll => "poll",
            Self::Select => "select",
            Self::IoUring => "io_uring",
            Self::Aio => "aio",
        }
    }
}

/// How waits ended; they add up to `waits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// With at least one event.
    pub ready: u64,
    /// A finite timeout ran out.
    pub timeout: u64,
    /// A zero timeout with nothing ready.
    pub empty: u64,
    /// By a signal.
    pub interrupted: u64,
    /// With any other errno.
    pub error: u64,
}

/// Which timeouts waits asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Wait for ever.
    pub infinite: u64,
    /// Do not wait.
    pub zero: u64,
    /// Wait at most that long.
    pub finite: u64,
    /// Behind a user page that could not be read at entry.
    pub unknown: u64,
}

/// A distribution: exact count, sum and maximum, quantiles from the histogram (error at most one bucket).
///
/// One that saw nothing has no quantiles and no maximum: that is its `Default`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution<N> {
    /// How many values it saw.
    pub count: u64,
    /// Their sum.
    pub sum: N,
    /// Median.
    pub p50: Option<N>,
    /// 90th percentile.
    pub p90: Option<N>,
    /// 99th percentile.
    pub p99: Option<N>,
    /// Largest value.
    pub max: Option<N>,
}

/// The ready list's length at wait entry: a [`Counts`] with the walks that were given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// How many waits it was read at.
    pub count: u64,
    /// Sum of the lengths.
    pub sum: u64,
    /// Lists longer than the walk goes; they count with the length at which it stopped.
    pub truncated: u64,
    /// Median.
    pub p50: Option<u64>,
    /// 90th percentile.
    pub p90: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// Largest value.
    pub max: Option<u64>,
}

/// Seconds of the window in each state, the states that are open at either end included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// In this loop's waits.
    pub wait: f64,
    /// In its loop body; null like `busy_seconds`.
    pub busy: Option<f64>,
    /// In the same thread's waits on other waitables; null like `busy_seconds`.
    pub other_wait: Option<f64>,
}

/// What a loop is in now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Inside a wait.
    Wait,
    /// Between two waits.
    Busy,
    /// Neither is known: it ended, or it is no loop.
    #[default]
    None,
}

/// What the kernel copied between user space and itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedBytes {
    /// From user space.
    pub r#in: u64,
    /// To user space.
    pub out: u64,
}

/// One epoll instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceRow {
    /// Our number of it: never an address, never used twice.
    pub instance: u64,
    /// Who has it open, as far as its calls told.
    pub holders: Vec<Holder>,
    /// Threads that wait on it.
    pub waiters: u32,
    /// How deeply epoll instances watch one another below it; null until read.
    pub depth: Option<u32>,
    /// Its interest set; null until read.
    pub watched: Option<Watched>,
    /// The epoll_ctl calls on it, by whichever thread.
    pub ctl: Ctl,
    /// The listening sockets that it and other instances watch; null until read.
    pub listeners: Option<Vec<ListenerRow>>,
}

/// A listening socket that several instances watch, as seen from one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListenerRow {
    /// Address and port, or `unix:` and a path.
    pub listener: String,
    /// The descriptor by which this instance watches it.
    pub fd: u32,
    /// With EPOLLEXCLUSIVE.
    pub exclusive: bool,
    /// How many instances watch it.
    pub loops: u64,
    /// Part of their waits that were on this one; null without a wait.
    pub waits_share: Option<f64>,
    /// Part of their events that this one delivered; null without an event.
    pub events_share: Option<f64>,
}

/// A descriptor through which a process holds an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// Process id as the host counts.
    pub pid: u32,
    /// Descriptor in that process.
    pub fd: i32,
}

/// epoll_ctl calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ctl {
    /// Successful EPOLL_CTL_ADD.
    pub add: u64,
    /// Successful EPOLL_CTL_MOD.
    pub r#mod: u64,
    /// Successful EPOLL_CTL_DEL.
    pub del: u64,
    /// The others, by errno name; names without a call are left out.
    pub errors: BTreeMap<String, u64>,
    /// Flags of the successful adds and mods.
    pub flags: CtlFlags,
}

/// Flags of successful EPOLL_CTL_ADD and EPOLL_CTL_MOD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CtlFlags {
    /// EPOLLET.
    pub edge: u64,
    /// EPOLLONESHOT.
    pub oneshot: u64,
    /// EPOLLEXCLUSIVE.
    pub exclusive: u64,
    /// EPOLLWAKEUP.
    pub wakeup: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_are_named_as_in_the_records() {
        for (mechanism, name) in Mechanism::ALL.into_iter().zip(loopscope_probe::mechanism::NAMES) {
            assert_eq!(mechanism.name(), name);
            assert_eq!(serde_json::to_value(mechanism).unwrap(), name);
        }
        assert_eq!(Mechanism::ALL.len(), loopscope_probe::mechanism::NAMES.len());
        assert_eq!(Mechanism::from_number(3), Some(Mechanism::IoUring));
        assert_eq!(Mechanism::from_number(5), None);
        assert_eq!(serde_json::to_value(State::None).unwrap(), "none");
    }
}
