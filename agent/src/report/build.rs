//! From a window of the model to the report's document. Divides nothing that the model has not divided: units change
//! here (ns to seconds), figures do not.

use loopscope_probe::{Counters, ctl_errno, ctl_flag, ctl_op, lost, mechanism, result, timeout};

use std::time::SystemTime;

use super::document::{
    Backlog, CopiedBytes, Counts, Ctl, CtlFlags, Distribution, Holder, InstanceRow, ListenerRow, LoopRow,
    Lost, Mechanism, ProbeRow, Report, Results, SCHEMA, Seconds, State, Time, Timeouts,
};
use super::host::Host;
use crate::{
    kernel::{self, ProbeState},
    model::{
        InstanceWindow, LoopWindow, Now, Window,
        costs::Costs,
        histogram::{self, count_bound, time_bound},
        shared,
        totals::{CtlTotals, Totals},
    },
};

/// Bytes of one `struct epoll_event`, which is packed on x86-64 alone (include/uapi/linux/eventpoll.h).
pub const EVENT_BYTES: u64 = if cfg!(target_arch = "x86_64") { 12 } else { 16 };
/// Bytes of one `struct io_event` (include/uapi/linux/aio_abi.h).
const COMPLETION_BYTES: u64 = 32;

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The element of a table; 0 where there is none.
fn at(counts: &[u64], i: usize) -> u64 {
    counts.get(i).copied().unwrap_or(0)
}

fn times(buckets: &[u64], sum_ns: u64, max_ns: u64) -> Seconds {
    match histogram::Distribution::new(buckets, time_bound, seconds(sum_ns), seconds(max_ns)) {
        None => Distribution::default(),
        Some(d) => {
            let [p50, p90, p99] = d.quantiles.map(Some);
            Distribution { count: d.count, sum: d.sum, p50, p90, p99, max: Some(d.max) }
        }
    }
}

fn counts(buckets: &[u64], sum: u64, max: u64) -> Counts {
    match histogram::Distribution::new(buckets, count_bound, sum as f64, max as f64) {
        None => Distribution::default(),
        Some(d) => {
            let [p50, p90, p99] = d.quantiles.map(|value| Some(value as u64));
            Distribution { count: d.count, sum, p50, p90, p99, max: Some(d.max as u64) }
        }
    }
}

/// Where windows come from: what stays the same from one to the next.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The host.
    pub host: Host,
    /// The version of loopscope that watched.
    pub version: String,
    /// How each probe is attached.
    pub probes: Vec<ProbeState>,
    /// What the filters do not let see.
    pub notes: Vec<String>,
}

/// What is known of a window beside what the model has of it: what it could not see, and what it cost.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    /// Runs of probes.
    pub missed: u64,
    /// Records.
    pub damaged: u64,
    /// Why interest sets could not be read: see [`no_interest`].
    pub interest: Option<String>,
    /// What the probes' runs took; None where it was not measured.
    pub costs: Option<Costs>,
}

/// The note that interest sets could not be read.
pub fn no_interest(error: impl std::fmt::Display) -> String {
    format!("what instances watch is not known: {error:#}")
}

/// The whole report of a window that began at `started_at`.
pub fn report(window: &Window, origin: &Origin, aside: Aside, started_at: SystemTime) -> Report {
    let loops = window.loops.iter().map(loop_row).collect();
    let mut report = head(window, origin, aside, started_at);
    report.notes.extend(limits(&origin.probes));
    Report { loops, ..report }
}

/// As [`report`], without its loops.
pub fn head<L>(window: &Window<L>, origin: &Origin, aside: Aside, started_at: SystemTime) -> Report {
    let mut notes = origin.notes.clone();
    notes.extend(self::notes(&origin.probes));
    notes.extend(aside.interest);
    if aside.damaged > 0 {
        notes.push(format!("{} records could not be read: probe and agent do not fit", aside.damaged));
    }
    Report {
        schema: SCHEMA,
        host: origin.host.name.clone(),
        kernel: origin.host.kernel.clone(),
        arch: origin.host.arch.clone(),
        version: origin.version.clone(),
        started_at: humantime::format_rfc3339_millis(started_at).to_string(),
        duration_seconds: seconds(window.duration_ns),
        probes: probe_rows(&origin.probes, &window.counters, aside.costs.as_ref()),
        lost: lost(&window.counters, aside.missed),
        notes,
        loops: Vec::new(),
        instances: window.instances.iter().map(instance_row).collect(),
    }
}

fn backlog(totals: &Totals, max: u64) -> Backlog {
    let Counts { count, sum, p50, p90, p99, max } =
        counts(&totals.backlog_per_wait, at(&totals.backlog, 0), max);
    Backlog { count, sum, truncated: at(&totals.backlog, 2), p50, p90, p99, max }
}

/// Bytes that the kernel copied in and out for waits by a mechanism. A ring's completions lie in memory that it shares.
pub fn copied(mechanism: u32, totals: &Totals) -> [u64; 2] {
    match mechanism as usize {
        mechanism::POLL | mechanism::SELECT => totals.bytes,
        mechanism::IO_URING => [0, 0],
        mechanism::AIO => [0, totals.events * COMPLETION_BYTES],
        _ => [0, totals.events * EVENT_BYTES],
    }
}

/// A row of `loops`.
pub fn loop_row(looped: &LoopWindow) -> LoopRow {
    let (totals, process) = (&looped.totals, &looped.thread.process);
    let alone = looped.alone;
    let sets = matches!(looped.mechanism as usize, mechanism::POLL | mechanism::SELECT);
    let ring = looped.mechanism as usize == mechanism::IO_URING;
    let [submissions, overflows] = totals.bytes;
    let [bytes_in, bytes_out] = copied(looped.mechanism, totals);
    let (state, state_ns) = match looped.now {
        Now::Wait(ns) if alone => (State::Wait, Some(ns)),
        Now::Busy(ns) if alone => (State::Busy, Some(ns)),
        _ => (State::None, None),
    };
    let (wait_ns, busy_ns) = (looped.times.wait_ns, looped.times.busy_ns);
    let measured = (alone && wait_ns + busy_ns > 0).then(|| busy_ns as f64 / (wait_ns + busy_ns) as f64);
    LoopRow {
        pid: looped.thread.tgid,
        tid: looped.thread.tid,
        comm: looped.thread.comm.clone(),
        thread: looped.thread.thread.clone(),
        exe: process.exe.clone(),
        cgroup: process.cgroup.clone(),
        unit: process.unit.clone(),
        container: process.container.clone(),
        pod: process.pod.as_ref().map(ToString::to_string),
        mechanism: Mechanism::from_number(looped.mechanism).unwrap_or_default(),
        is_loop: looped.is_loop,
        ended: looped.ended,
        epfd: (!sets && looped.fd >= 0).then_some(looped.fd),
        instance: looped.instance,
        waits: totals.waits(),
        events: totals.events,
        results: Results {
            ready: at(&totals.results, result::READY),
            timeout: at(&totals.results, result::TIMEOUT),
            empty: at(&totals.results, result::EMPTY),
            interrupted: at(&totals.results, result::INTERRUPTED),
            error: at(&totals.results, result::ERROR),
        },
        timeouts: Timeouts {
            infinite: at(&totals.timeouts, timeout::INFINITE),
            zero: at(&totals.timeouts, timeout::ZERO),
            finite: at(&totals.timeouts, timeout::FINITE),
            unknown: at(&totals.timeouts, timeout::UNKNOWN),
        },
        saturated: totals.saturated,
        maxevents: (!sets).then_some(looped.asked),
        wait_seconds: times(&totals.wait, totals.wait_ns, looped.largest.wait_ns),
        busy_seconds: alone.then(|| times(&totals.busy, totals.busy_ns, looped.largest.busy_ns)),
        events_per_wait: counts(&totals.events_per_wait, totals.events, looped.largest.events),
        backlog: looped.has_backlog.then(|| backlog(totals, looped.largest.backlog)),
        requeued: looped
            .has_backlog
            .then(|| counts(&totals.requeued_per_wait, at(&totals.backlog, 1), looped.largest.requeued)),
        overrun_seconds: Some(times(&totals.overrun, totals.overrun_ns, looped.largest.overrun_ns)),
        time: Time {
            wait: seconds(wait_ns),
            busy: alone.then(|| seconds(busy_ns)),
            other_wait: alone.then(|| seconds(looped.times.other_wait_ns)),
        },
        state,
        state_seconds: state_ns.map(seconds),
        utilization: measured,
        nfds: sets.then(|| counts(&totals.nfds_per_wait, totals.nfds, looped.largest.nfds)),
        highest_fd: looped.highest_fd,
        copied_bytes: CopiedBytes { r#in: bytes_in, out: bytes_out },
        min_complete: looped.least,
        submissions: ring.then_some(submissions),
        cq_overflows: ring.then_some(overflows),
        ns_pid: process.ns_pid,
    }
}

/// A row of `instances`.
pub fn instance_row(instance: &InstanceWindow) -> InstanceRow {
    InstanceRow {
        instance: instance.number,
        holders: instance.holders.iter().map(|(pid, fd)| Holder { pid: *pid, fd: *fd }).collect(),
        waiters: u32::try_from(instance.waiters).unwrap_or(u32::MAX),
        depth: instance.set.as_ref().map(|set| set.depth),
        watched: instance.set.as_ref().map(|set| set.watched()),
        ctl: ctl(&instance.ctl),
        listeners: instance.set.as_ref().map(|_| instance.listeners.iter().map(listener).collect()),
    }
}

fn listener(listener: &shared::Listener) -> ListenerRow {
    let shared::Listener { name, fd, exclusive, loops, waits_share, events_share } = listener.clone();
    ListenerRow { listener: name, fd, exclusive, loops, waits_share, events_share }
}

fn ctl(totals: &CtlTotals) -> Ctl {
    let errors = ctl_errno::NAMES.iter().enumerate().filter_map(|(i, name)| {
        let count: u64 = totals.errors.iter().map(|errors| at(errors, i)).sum();
        (count > 0).then(|| ((*name).to_owned(), count))
    });
    Ctl {
        add: at(&totals.done, ctl_op::ADD),
        r#mod: at(&totals.done, ctl_op::MOD),
        del: at(&totals.done, ctl_op::DEL),
        errors: errors.collect(),
        flags: CtlFlags {
            edge: at(&totals.flags, ctl_flag::EDGE),
            oneshot: at(&totals.flags, ctl_flag::ONESHOT),
            exclusive: at(&totals.flags, ctl_flag::EXCLUSIVE),
            wakeup: at(&totals.flags, ctl_flag::WAKEUP),
        },
    }
}

/// `lost`: what the probes counted, and the runs that the kernel skipped.
pub fn lost(counters: &Counters, missed: u64) -> Lost {
    Lost {
        records: at(&counters.lost, lost::RECORDS),
        events: at(&counters.lost, lost::EVENTS),
        missed,
        unpaired: at(&counters.lost, lost::UNPAIRED),
        clamped: at(&counters.lost, lost::CLAMPED),
        unseen: at(&counters.lost, lost::UNSEEN),
    }
}

/// A row of `probes` for each that is attached; and, where runs were measured, for each program of system calls that are
/// no probe's.
pub fn probe_rows(probes: &[ProbeState], counters: &Counters, costs: Option<&Costs>) -> Vec<ProbeRow> {
    let attached = probes.iter().filter_map(|state| Some((state, state.backend()?)));
    let rows = attached.map(|(state, backend)| ProbeRow {
        name: state.probe.name().to_owned(),
        backend: backend.to_owned(),
        runs: at(&counters.runs, state.probe.index),
        run_seconds: costs
            .and_then(|costs| costs.probes.get(state.probe.index).copied().flatten())
            .map(seconds),
    });
    let programs = costs.into_iter().flat_map(|costs| &costs.programs);
    let programs = programs.map(|(name, [ns, runs])| ProbeRow {
        name: name.clone(),
        backend: kernel::way(name).to_owned(),
        runs: *runs,
        run_seconds: Some(seconds(*ns)),
    });
    rows.chain(programs).collect()
}

/// What the ways of attaching do not see however well they work.
pub fn limits(probes: &[ProbeState]) -> Option<String> {
    // arch/x86/entry/syscall_32.c and include/trace/syscall.h: calls by 32-bit numbers have no tracepoints of their own.
    const BLIND: [(&str, &str); 2] = [
        ("tracepoint", "the tracepoints of single system calls do not fire for them"),
        ("fentry", "they do not come through the functions that are watched"),
    ];
    let (_, why) = BLIND.iter().find(|(way, _)| probes.iter().any(|state| state.backend() == Some(way)))?;
    Some(format!(
        "waits of 32-bit processes: {why}, so they are not even counted as unseen; --backend raw counts them"
    ))
}

/// A note for each probe that is not attached, but for those that this kernel has no call for.
pub fn notes(probes: &[ProbeState]) -> Vec<String> {
    let failed = probes.iter().filter_map(|state| Some((state.probe, state.error()?)));
    failed
        .map(|(probe, error)| {
            format!("{} is not watched ({error}): not seen are {}", probe.name(), probe.lost_without)
        })
        .collect()
}
