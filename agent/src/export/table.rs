//! Every metric that the agent exports: the one table. `/metrics`, docs/metrics.md and the dashboards come from it or
//! are checked against it. Computes nothing but units.

use loopscope_probe::{ctl_errno, ctl_op, result, timeout};

use super::{
    buckets::Buckets,
    groups::{Group, TRIGGERS},
    metric::{Get, Kind::*, Metric, Rows, Unit},
};

/// The table, in the order of the output.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "loopscope_waits_total",
        kind: Counter,
        unit: Unit::None,
        labels: &["result"],
        help: "Completed waits by how they ended (empty: a time-out of zero and nothing ready), counted at the exits of \
               epoll_wait, poll, select and their variants, of io_uring_enter and of io_getevents; for waits that a ring \
               made, at their completion.",
        get: Get::Group(|group, rows| rows.named(&result::NAMES, &group.totals.results)),
    },
    Metric {
        name: "loopscope_events_total",
        kind: Counter,
        unit: Unit::None,
        labels: &[],
        help: "Events that waits returned, summed at the exits of the waiting calls.",
        get: Get::Group(|group, rows| rows.count(group.totals.events)),
    },
    Metric {
        name: "loopscope_saturated_waits_total",
        kind: Counter,
        unit: Unit::None,
        labels: &[],
        help: "Waits that returned as many events as they asked for at most, so that more may have been ready, counted \
               at the exits of epoll_wait and its variants and of io_getevents; of rings, waits that left the ring full.",
        get: Get::Group(|group, rows| rows.known((!group.takes_sets()).then_some(group.totals.saturated))),
    },
    Metric {
        name: "loopscope_timeouts_total",
        kind: Counter,
        unit: Unit::None,
        labels: &["kind"],
        help: "Completed waits by the time-out that they asked for (unknown: behind a page that could not be read), read \
               at the entries of the waiting calls.",
        get: Get::Group(|group, rows| rows.named(&timeout::NAMES, &group.totals.timeouts)),
    },
    Metric {
        name: "loopscope_wait_seconds",
        kind: Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "Wait times, from the entry of a waiting call to its exit.",
        get: Get::Distribution(|group| Some(Buckets::times(&group.totals.wait, group.totals.wait_ns))),
    },
    Metric {
        name: "loopscope_busy_seconds",
        kind: Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "Busy times, from the exit of a wait to the entry of the loop's next one, less the thread's other waits in \
               between; of loops with one waiter.",
        get: Get::Distribution(|group| {
            group.times_ns.map(|_| Buckets::times(&group.totals.busy, group.totals.busy_ns))
        }),
    },
    Metric {
        name: "loopscope_events_per_wait",
        kind: Histogram,
        unit: Unit::None,
        labels: &[],
        help: "Events that a wait returned, of waits that did not fail, at the exits of the waiting calls.",
        get: Get::Distribution(|group| {
            Some(Buckets::counts(&group.totals.events_per_wait, group.totals.events))
        }),
    },
    Metric {
        name: "loopscope_backlog_entries",
        kind: Histogram,
        unit: Unit::None,
        labels: &[],
        help: "Length of the epoll instance's ready list, read at the entries of epoll waits: what piled up while the loop \
               was busy, and what the kernel had put back after the wait before. At most 64 are counted; after a list \
               longer than 8, the next 15 waits are left out.",
        get: Get::Distribution(|group| {
            let [sum, ..] = group.totals.backlog;
            group.is_epoll().then(|| Buckets::counts(&group.totals.backlog_per_wait, sum))
        }),
    },
    Metric {
        name: "loopscope_timeout_overrun_seconds",
        kind: Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "Wait times beyond a finite time-out, of the waits that it ended, at the exits of the waiting calls.",
        get: Get::Distribution(|group| Some(Buckets::times(&group.totals.overrun, group.totals.overrun_ns))),
    },
    Metric {
        name: "loopscope_nfds",
        kind: Histogram,
        unit: Unit::None,
        labels: &[],
        help: "The nfds argument of waits that did not fail, at the exits of poll, select and their variants.",
        get: Get::Distribution(|group| {
            group.takes_sets().then(|| Buckets::counts(&group.totals.nfds_per_wait, group.totals.nfds))
        }),
    },
    Metric {
        name: "loopscope_loop_time_seconds_total",
        kind: Counter,
        unit: Unit::Seconds,
        labels: &["state"],
        help: "Time that loops with one waiter spent in waits and busy, the state that they are in now included: \
               utilisation is the rate of busy by the rate of both. From the entries and exits of the waiting calls.",
        get: Get::Group(|group, rows| {
            if let Some([wait, busy]) = group.times_ns {
                rows.labelled(["wait"], seconds(wait));
                rows.labelled(["busy"], seconds(busy));
            }
        }),
    },
    Metric {
        name: "loopscope_current_busy_seconds",
        kind: Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "For how long the loop has been busy now that has been so for longest, 0 where none is; since the exit of \
               its last wait.",
        get: Get::Group(|group, rows| {
            if group.times_ns.is_some() {
                rows.one(seconds(group.now.busy_ns));
            }
        }),
    },
    Metric {
        name: "loopscope_loops",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "Loops: threads that come back to wait on the same instance, or 16 times and more by poll or select.",
        get: Get::Group(|group, rows| rows.count(group.now.loops)),
    },
    Metric {
        name: "loopscope_shared_instances",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "epoll instances on which several living threads have waited: such loops have no busy time.",
        get: Get::Group(|group, rows| rows.known(group.is_epoll().then_some(group.now.shared.len() as u64))),
    },
    Metric {
        name: "loopscope_waiters",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "Loops and other waiters: one for each thread and instance, poll or select that it has waited by.",
        get: Get::Group(|group, rows| rows.count(group.now.waiters)),
    },
    Metric {
        name: "loopscope_watched_fds",
        kind: Gauge,
        unit: Unit::None,
        labels: &["trigger"],
        help: "Entries of the interest sets of the epoll instances that are waited on, read from the kernel's own trees: \
               level and edge are all of them, oneshot and exclusive are among them.",
        get: Get::Group(|group, rows| {
            if let Some(watched) = &group.now.watched {
                rows.named(&TRIGGERS, watched);
            }
        }),
    },
    Metric {
        name: "loopscope_stale_watches",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "Of loopscope_watched_fds, entries whose descriptor no longer means their file in any process that holds the \
               instance: a dup, a fork or SCM_RIGHTS keeps it alive.",
        get: Get::Group(|group, rows| rows.known(group.now.watched.map(|_| group.now.stale))),
    },
    Metric {
        name: "loopscope_select_highest_fd",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "Highest descriptor seen in the sets of a living thread's select calls (FD_SETSIZE is 1024), read at their \
               entries.",
        get: Get::Group(|group, rows| rows.known(group.now.highest_fd.map(u64::from))),
    },
    Metric {
        name: "loopscope_ctl_total",
        kind: Counter,
        unit: Unit::None,
        labels: &["op"],
        help: "epoll_ctl calls that succeeded, by operation, of the calling process, counted at the exits of epoll_ctl.",
        get: Get::Group(|group, rows| {
            if group.is_epoll() {
                let named = ctl_op::NAMES.into_iter().zip(group.ctl.done).enumerate();
                // What is no operation never succeeds.
                let named = named.filter(|(op, _)| *op != ctl_op::OTHER);
                named.for_each(|(_, (name, count))| rows.labelled([name], count as f64));
            }
        }),
    },
    Metric {
        name: "loopscope_ctl_errors_total",
        kind: Counter,
        unit: Unit::None,
        labels: &["op", "errno"],
        help: "epoll_ctl calls that failed, by operation and error, of the calling process, counted at the exits of \
               epoll_ctl; only what has happened has a series.",
        get: Get::Group(ctl_errors),
    },
    Metric {
        name: "loopscope_copied_bytes_total",
        kind: Counter,
        unit: Unit::Bytes,
        labels: &["direction"],
        help: "Bytes of descriptors and events that the kernel copied in and out for waits and epoll_ctl calls, computed \
               from their arguments and results.",
        get: Get::Group(|group, rows| rows.named(&["in", "out"], &group.copied())),
    },
    Metric {
        name: "loopscope_ring_submissions_total",
        kind: Counter,
        unit: Unit::None,
        labels: &[],
        help: "Requests that rings took, summed at the exits of io_uring_enter.",
        get: Get::Group(|group, rows| rows.known(group.rings().map(|[submissions, _]| submissions))),
    },
    Metric {
        name: "loopscope_ring_overflows_total",
        kind: Counter,
        unit: Unit::None,
        labels: &[],
        help: "Completions for which rings had no room (io_uring_cqe_overflow), added at the exit of the next wait.",
        get: Get::Group(|group, rows| rows.known(group.rings().map(|[_, overflows]| overflows))),
    },
    Metric {
        name: "loopscope_listener_loops",
        kind: Gauge,
        unit: Unit::None,
        labels: &["listener"],
        help: "Epoll instances of the group's loops that watch a listening socket which others watch too, at most 64 \
               sockets a group; from the interest sets, which are read every 10 s.",
        get: Get::Group(|group, rows| {
            for (listener, (loops, _)) in &group.now.listeners {
                rows.labelled([listener.clone()], loops.len() as f64);
            }
        }),
    },
    Metric {
        name: "loopscope_listener_max_share_ratio",
        kind: Gauge,
        unit: Unit::None,
        labels: &["listener"],
        help: "Of the events that all instances which watch the listening socket delivered since the sample before, the \
               greatest part that one of them did; from the exits of epoll waits and the interest sets.",
        get: Get::Group(|group, rows| {
            for (listener, share) in &group.now.listeners {
                if let (_, Some(share)) = share {
                    rows.labelled([listener.clone()], *share);
                }
            }
        }),
    },
    Metric {
        name: "loopscope_build_info",
        kind: Gauge,
        unit: Unit::None,
        labels: &["version", "arch"],
        help: "Always 1: which build of the agent this is.",
        get: Get::Agent(|_, rows| rows.labelled([env!("CARGO_PKG_VERSION"), std::env::consts::ARCH], 1.0)),
    },
    Metric {
        name: "loopscope_probe_attached",
        kind: Gauge,
        unit: Unit::None,
        labels: &["probe", "backend"],
        help: "1 where the probe is attached, by that way; 0 where it is not, with the way that was tried last.",
        get: Get::Agent(|figures, rows| {
            for state in figures.probes {
                let tried = state.attempts.last().map_or("none", |attempt| attempt.backend);
                rows.labelled([state.probe.name(), tried], f64::from(u8::from(state.backend().is_some())));
            }
        }),
    },
    Metric {
        name: "loopscope_probe_runs_total",
        kind: Counter,
        unit: Unit::None,
        labels: &["probe"],
        help: "Runs of a probe's programs, counted by themselves.",
        get: Get::Agent(|figures, rows| {
            figures.runs().for_each(|(name, runs)| rows.labelled([name], runs as f64))
        }),
    },
    Metric {
        name: "loopscope_probe_run_seconds_total",
        kind: Counter,
        unit: Unit::Seconds,
        labels: &["probe"],
        help: "Time that the runs of a probe's programs took, as the kernel measures it for --probe-stats, without which there \
               is no series; a program that serves several probes is shared out by their runs, and those of backend raw, which \
               run for every system call, are sys_enter and sys_exit.",
        get: Get::Agent(|figures, rows| {
            figures.run_seconds().for_each(|(name, seconds)| rows.labelled([name], seconds));
        }),
    },
    Metric {
        name: "loopscope_lost_total",
        kind: Counter,
        unit: Unit::None,
        labels: &["reason"],
        help: "What was not recorded: waiters without a record (records), records that found the ring buffer full (events), \
               runs that the kernel skipped (missed), exits without an entry (unpaired), negative times (clamped), 32-bit \
               tasks (unseen), records that could not be read (damaged); counted by the probes and the agent.",
        get: Get::Agent(|figures, rows| {
            figures.lost().for_each(|(reason, count)| rows.labelled([reason], count as f64));
        }),
    },
    Metric {
        name: "loopscope_groups_folded_total",
        kind: Counter,
        unit: Unit::None,
        labels: &[],
        help: "Groups that came when --max-groups was reached: what they count is in the series of ~other.",
        get: Get::Agent(|figures, rows| rows.count(figures.groups.folded())),
    },
    Metric {
        name: "loopscope_groups",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "Groups that have series of their own; those that have ended keep them for 5 minutes.",
        get: Get::Agent(|figures, rows| rows.count(figures.groups.shown() as u64)),
    },
    Metric {
        name: "loopscope_groups_limit",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "How many groups may have series of their own: --max-groups.",
        get: Get::Agent(|figures, rows| rows.count(figures.groups.most() as u64)),
    },
    Metric {
        name: "loopscope_sample_seconds",
        kind: Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "How long the agent's last reading of all records took.",
        get: Get::Agent(|figures, rows| rows.one(figures.sample.as_secs_f64())),
    },
    Metric {
        name: "loopscope_confined",
        kind: Gauge,
        unit: Unit::None,
        labels: &["part"],
        help: "1 where that right was given up once the probes were attached; 0 where it could not be, or --no-confine keeps it.",
        get: Get::Agent(|figures, rows| {
            for (part, is_in_force) in figures.confined.parts() {
                rows.labelled([part], f64::from(u8::from(is_in_force)));
            }
        }),
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: Counter,
        unit: Unit::Seconds,
        labels: &[],
        help: "User and system time of the agent.",
        get: Get::Agent(|figures, rows| rows.one(figures.own.cpu_seconds)),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "Resident memory of the agent.",
        get: Get::Agent(|figures, rows| rows.known(figures.own.resident_bytes)),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "Virtual memory of the agent.",
        get: Get::Agent(|figures, rows| rows.known(figures.own.virtual_bytes)),
    },
    Metric {
        name: "process_open_fds",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "Descriptors that the agent has open.",
        get: Get::Agent(|figures, rows| rows.known(figures.own.open_fds)),
    },
    Metric {
        name: "process_max_fds",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "Descriptors that the agent may have open.",
        get: Get::Agent(|figures, rows| rows.known(figures.own.max_fds)),
    },
    Metric {
        name: "process_threads",
        kind: Gauge,
        unit: Unit::None,
        labels: &[],
        help: "Threads of the agent.",
        get: Get::Agent(|figures, rows| rows.known(figures.own.threads)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "When the agent was started, in seconds since 1970.",
        get: Get::Agent(|figures, rows| rows.one(figures.own.start_seconds)),
    },
];

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Failed epoll_ctl calls: those that there were, since most of the 40 pairs never come.
fn ctl_errors(group: &Group, rows: &mut Rows) {
    for (op, errors) in ctl_op::NAMES.into_iter().zip(&group.ctl.errors) {
        for (errno, count) in ctl_errno::NAMES.into_iter().zip(errors).filter(|(_, count)| **count > 0) {
            rows.labelled([op, errno], *count as f64);
        }
    }
}
