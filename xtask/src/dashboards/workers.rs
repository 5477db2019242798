//! The dashboard "Workers": loops that share a listener, and how evenly. Only a table.

use super::panel::{Dashboard, LINES, Panel, Row, STAT, TABLE};

pub const WORKERS: Dashboard = Dashboard {
    uid: "loopscope-workers",
    title: "loopscope / Workers",
    about: "Loops that watch the same listening socket: whether the work is spread evenly over them.",
    grouped: true,
    rows: &[
        Row { title: "", panels: NUMBERS },
        Row { title: "Listeners that several loops watch", panels: LISTENERS },
        Row { title: "The groups as a whole", panels: GROUPS },
    ],
};

const NUMBERS: &[Panel] = &[
    Panel {
        title: "Worst imbalance",
        about: "The busiest loop's share of the events, by what an even share would be: 1 is even, and as many as there \
                are loops means that one does everything.",
        targets: &[(
            "max(loopscope_listener_max_share_ratio{@loops} * loopscope_listener_loops{@loops} and loopscope_listener_loops{@loops} > 1)",
            "",
        )],
        bad: Some(2.0),
        width: 6,
        ..STAT
    },
    Panel {
        title: "Shared listeners",
        about: "Listening sockets that more than one loop watches.",
        targets: &[("count(loopscope_listener_loops{@loops} > 1)", "")],
        width: 6,
        ..STAT
    },
    Panel {
        title: "Loops",
        about: "All loops of the chosen groups.",
        targets: &[("sum(loopscope_loops{@loops})", "")],
        width: 6,
        ..STAT
    },
    Panel {
        title: "Shared epoll instances",
        about: "Instances that several threads wait on: their work is spread by the kernel, and they have no busy time.",
        targets: &[("sum(loopscope_shared_instances{@loops})", "")],
        width: 6,
        ..STAT
    },
];

const LISTENERS: &[Panel] = &[
    Panel {
        title: "Imbalance by listener",
        about: "The busiest loop's share of the events, by what an even share would be.",
        targets: &[(
            "max by ($by, listener) (loopscope_listener_max_share_ratio{@loops} * loopscope_listener_loops{@loops} and loopscope_listener_loops{@loops} > 1)",
            "{{$by}} {{listener}}",
        )],
        bad: Some(2.0),
        ..LINES
    },
    Panel {
        title: "The busiest loop's share",
        about: "Its part of the events of all loops that watch the listener.",
        unit: "percentunit",
        targets: &[(
            "max by ($by, listener) (loopscope_listener_max_share_ratio{@loops})",
            "{{$by}} {{listener}}",
        )],
        most: Some(1.0),
        ..LINES
    },
    Panel {
        title: "Listeners",
        about: "How many loops watch each listener, and the busiest one's share of their events.",
        targets: &[
            (
                "sum by (group, listener) (label_replace(loopscope_listener_loops{@loops}, \"group\", \"$1\", \"$by\", \"(.*)\"))",
                "Loops",
            ),
            (
                "max by (group, listener) (label_replace(loopscope_listener_max_share_ratio{@loops}, \"group\", \"$1\", \"$by\", \"(.*)\"))",
                "Busiest share",
            ),
        ],
        ..TABLE
    },
];

const GROUPS: &[Panel] = &[
    Panel {
        title: "Loops by group",
        about: "How many loops each group has.",
        targets: &[("topk(10, sum by ($by) (loopscope_loops{@loops}))", "{{$by}}")],
        width: 8,
        ..LINES
    },
    Panel {
        title: "Utilisation, mean of the group's loops",
        about: "A low mean beside a slow service is a sign of imbalance: one loop is at its limit, the others wait.",
        unit: "percentunit",
        targets: &[(
            "topk(10, sum by ($by) (rate(loopscope_loop_time_seconds_total{@loops,state=\"busy\"}[@rate])) / sum by ($by) (rate(loopscope_loop_time_seconds_total{@loops}[@rate])))",
            "{{$by}}",
        )],
        width: 8,
        most: Some(1.0),
        ..LINES
    },
    Panel {
        title: "Waits per second and loop",
        about: "Completed waits of the group, by the number of its loops.",
        unit: "cps",
        targets: &[(
            "topk(10, sum by ($by) (rate(loopscope_waits_total{@loops}[@rate])) / (sum by ($by) (loopscope_loops{@loops}) > 0))",
            "{{$by}}",
        )],
        width: 8,
        ..LINES
    },
];
