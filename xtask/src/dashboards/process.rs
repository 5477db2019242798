//! The dashboard "Process": one group of loops in every detail. Only a table.

use super::panel::{Dashboard, HEATMAP, LINES, Panel, Row, STACKED, STAT};

pub const PROCESS: Dashboard = Dashboard {
    uid: "loopscope-process",
    title: "loopscope / Process",
    about: "The loops of the chosen groups: time, events, time-outs, interest set, poll and select.",
    grouped: true,
    rows: &[
        Row { title: "", panels: NUMBERS },
        Row { title: "Time", panels: TIME },
        Row { title: "Events and time-outs", panels: EVENTS },
        Row { title: "Interest set", panels: INTEREST },
        Row { title: "poll and select, and copying", panels: SETS },
    ],
};

const NUMBERS: &[Panel] = &[
    Panel {
        title: "Utilisation",
        about: "Busy time by busy and wait time of the loops with one waiter.",
        unit: "percentunit",
        targets: &[(
            "sum(rate(loopscope_loop_time_seconds_total{@loops,state=\"busy\"}[@rate])) / sum(rate(loopscope_loop_time_seconds_total{@loops}[@rate]))",
            "",
        )],
        most: Some(1.0),
        bad: Some(0.9),
        width: 6,
        ..STAT
    },
    Panel {
        title: "Longest busy now",
        about: "For how long the loop that has been busy for longest has not come back to wait.",
        unit: "s",
        targets: &[("max(loopscope_current_busy_seconds{@loops})", "")],
        bad: Some(1.0),
        width: 6,
        ..STAT
    },
    Panel {
        title: "Events per wait",
        about: "Events that an average waiting call returned.",
        targets: &[(
            "sum(rate(loopscope_events_total{@loops}[@rate])) / sum(rate(loopscope_waits_total{@loops}[@rate]))",
            "",
        )],
        width: 6,
        ..STAT
    },
    Panel {
        title: "Loops",
        about: "Threads that come back to wait on the same epoll instance, or again and again by poll or select.",
        targets: &[("sum(loopscope_loops{@loops})", "")],
        width: 6,
        ..STAT
    },
];

const TIME: &[Panel] = &[
    Panel {
        title: "Busy time",
        about: "Length of an iteration, from the exit of a wait to the entry of the next: how many a second were how \
                long. A second band far above the first is a callback that blocks.",
        unit: "s",
        targets: &[("sum by (le) (rate(loopscope_busy_seconds_bucket{@loops}[@rate]))", "{{le}}")],
        ..HEATMAP
    },
    Panel {
        title: "Wait time",
        about: "Length of a wait, from entry to exit: how many a second were how long. Bands at round numbers are \
                time-outs; everything in the lowest bands is a loop that never sleeps.",
        unit: "s",
        targets: &[("sum by (le) (rate(loopscope_wait_seconds_bucket{@loops}[@rate]))", "{{le}}")],
        ..HEATMAP
    },
    Panel {
        title: "Busy time, quantiles",
        about: "Half, 90 and 99 of 100 iterations were shorter.",
        unit: "s",
        targets: &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(loopscope_busy_seconds_bucket{@loops}[@rate])))",
                "p50",
            ),
            (
                "histogram_quantile(0.9, sum by (le) (rate(loopscope_busy_seconds_bucket{@loops}[@rate])))",
                "p90",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(loopscope_busy_seconds_bucket{@loops}[@rate])))",
                "p99",
            ),
            ("max(loopscope_current_busy_seconds{@loops})", "longest now"),
        ],
        width: 8,
        ..LINES
    },
    Panel {
        title: "Where the loops' time goes",
        about: "Seconds a second that the loops with one waiter spend busy and in waits: together as many as there are \
                such loops.",
        unit: "short",
        targets: &[("sum by (state) (rate(loopscope_loop_time_seconds_total{@loops}[@rate]))", "{{state}}")],
        width: 8,
        ..STACKED
    },
    Panel {
        title: "Loops and waiters",
        about: "Loops; all waiters, which may be no loops; epoll instances that several threads share, whose loops have \
                no busy time.",
        targets: &[
            ("sum(loopscope_loops{@loops})", "loops"),
            ("sum(loopscope_waiters{@loops})", "waiters"),
            ("sum(loopscope_shared_instances{@loops})", "shared instances"),
        ],
        width: 8,
        ..LINES
    },
];

const EVENTS: &[Panel] = &[
    Panel {
        title: "Events per wait",
        about: "How many waits a second returned how many events.",
        targets: &[("sum by (le) (rate(loopscope_events_per_wait_bucket{@loops}[@rate]))", "{{le}}")],
        ..HEATMAP
    },
    Panel {
        title: "Backlog at wait entry",
        about: "Entries of the ready list when a wait began: work that had come in while the loop was busy.",
        targets: &[("sum by (le) (rate(loopscope_backlog_entries_bucket{@loops}[@rate]))", "{{le}}")],
        ..HEATMAP
    },
    Panel {
        title: "Waits and events per second",
        about: "Completed waits, the events that they returned, and epoll waits that returned as many as they asked for.",
        unit: "cps",
        targets: &[
            ("sum(rate(loopscope_waits_total{@loops}[@rate]))", "waits"),
            ("sum(rate(loopscope_events_total{@loops}[@rate]))", "events"),
            ("sum(rate(loopscope_saturated_waits_total{@loops}[@rate]))", "saturated waits"),
        ],
        ..LINES
    },
    Panel {
        title: "How waits end",
        about: "Waits a second by result. Many empty ones are polling with a time-out of zero.",
        unit: "cps",
        targets: &[("sum by (result) (rate(loopscope_waits_total{@loops}[@rate]))", "{{result}}")],
        ..STACKED
    },
    Panel {
        title: "Time-outs asked for",
        about: "Waits a second by time-out: for ever, not at all, or for a while.",
        unit: "cps",
        targets: &[("sum by (kind) (rate(loopscope_timeouts_total{@loops}[@rate]))", "{{kind}}")],
        ..STACKED
    },
    Panel {
        title: "Late after a time-out",
        about: "Wait time beyond a finite time-out that ended the wait: the kernel's timer slack, and the time until the \
                thread got a CPU.",
        unit: "s",
        targets: &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(loopscope_timeout_overrun_seconds_bucket{@loops}[@rate])))",
                "p50",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(loopscope_timeout_overrun_seconds_bucket{@loops}[@rate])))",
                "p99",
            ),
        ],
        ..LINES
    },
];

const INTEREST: &[Panel] = &[
    Panel {
        title: "Watched descriptors",
        about: "Entries of the epoll interest sets by trigger. A steady rise is a leak.",
        targets: &[("sum by (trigger) (loopscope_watched_fds{@loops})", "{{trigger}}")],
        width: 8,
        ..STACKED
    },
    Panel {
        title: "Stale watches",
        about: "Watched files whose descriptor was closed in this process while another one holds the file: their events \
                come for a descriptor that is gone or is another file by now.",
        targets: &[("sum(loopscope_stale_watches{@loops})", "stale")],
        width: 8,
        bad: Some(1.0),
        ..LINES
    },
    Panel {
        title: "epoll_ctl calls per wait",
        about: "Successful calls by epoll wait. Near 1 or above, the loop spends a system call on each event to arm it \
                again.",
        targets: &[(
            "sum by (op) (rate(loopscope_ctl_total{@loops}[@rate])) / ignoring (op) group_left sum(rate(loopscope_waits_total{@loops,mechanism=\"epoll\"}[@rate]))",
            "{{op}}",
        )],
        width: 8,
        ..LINES
    },
    Panel {
        title: "epoll_ctl calls per second",
        about: "Successful calls by operation.",
        unit: "cps",
        targets: &[("sum by (op) (rate(loopscope_ctl_total{@loops}[@rate]))", "{{op}}")],
        ..LINES
    },
    Panel {
        title: "epoll_ctl errors per second",
        about: "Failed calls by operation and error. EEXIST and ENOENT may be a library's way of finding out; EBADF is \
                a descriptor that was closed too early; ENOSPC is the limit max_user_watches.",
        unit: "cps",
        targets: &[(
            "sum by (op, errno) (rate(loopscope_ctl_errors_total{@loops}[@rate]))",
            "{{op}} {{errno}}",
        )],
        ..LINES
    },
];

const SETS: &[Panel] = &[
    Panel {
        title: "nfds of poll and select",
        about: "The argument nfds: the kernel looks at so many entries in each call, ready or not.",
        targets: &[("sum by (le) (rate(loopscope_nfds_bucket{@loops}[@rate]))", "{{le}}")],
        ..HEATMAP
    },
    Panel {
        title: "Looked at for each event",
        about: "Entries that poll and select look at for each event that they return: what epoll would save.",
        targets: &[(
            "sum by (mechanism) (rate(loopscope_nfds_sum{@loops}[@rate])) / sum by (mechanism) (rate(loopscope_events_total{@loops,mechanism=~\"poll|select\"}[@rate]))",
            "{{mechanism}}",
        )],
        ..LINES
    },
    Panel {
        title: "Highest descriptor given to select",
        about: "A descriptor of 1024 or more does not fit into an fd_set: glibc's macros then write beyond it.",
        targets: &[("max by ($by) (loopscope_select_highest_fd{@loops})", "{{$by}}")],
        most: Some(1100.0),
        bad: Some(1024.0),
        ..LINES
    },
    Panel {
        title: "Bytes copied for waits",
        about: "Descriptors and events that the kernel copied in and out for waits and epoll_ctl calls, computed from \
                their arguments and results.",
        unit: "Bps",
        targets: &[(
            "sum by (mechanism, direction) (rate(loopscope_copied_bytes_total{@loops}[@rate]))",
            "{{mechanism}} {{direction}}",
        )],
        ..LINES
    },
];
