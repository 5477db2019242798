//! The dashboard "Overview": every group of loops, which of them to look at. Only a table.

use super::panel::{Dashboard, LINES, Panel, Row, STAT, TABLE};

pub const OVERVIEW: Dashboard = Dashboard {
    uid: "loopscope-overview",
    title: "loopscope / Overview",
    about: "Every group of event loops: how busy, how slow, how many. Start here, go on to Process.",
    grouped: true,
    rows: &[
        Row { title: "", panels: NUMBERS },
        Row { title: "Groups", panels: GROUPS },
        Row { title: "Busiest", panels: BUSIEST },
        Row { title: "Efficiency", panels: EFFICIENCY },
    ],
};

const NUMBERS: &[Panel] = &[
    Panel {
        title: "Loops",
        about: "Threads that come back to wait on the same epoll instance, or again and again by poll or select.",
        targets: &[("sum(loopscope_loops{@loops})", "")],
        ..STAT
    },
    Panel {
        title: "Waits per second",
        about: "Completed calls of epoll_wait, poll, select and their variants.",
        unit: "cps",
        targets: &[("sum(rate(loopscope_waits_total{@loops}[@rate]))", "")],
        ..STAT
    },
    Panel {
        title: "Busiest group",
        about: "The highest utilisation of a group: busy time by busy and wait time of its loops with one waiter.",
        unit: "percentunit",
        targets: &[(
            "max(sum by ($by) (rate(loopscope_loop_time_seconds_total{@loops,state=\"busy\"}[@rate])) / sum by ($by) (rate(loopscope_loop_time_seconds_total{@loops}[@rate])))",
            "",
        )],
        most: Some(1.0),
        bad: Some(0.9),
        ..STAT
    },
    Panel {
        title: "Busy time, p99",
        about: "99 of 100 iterations of all chosen loops were shorter than this. An event that comes during one waits for \
                its end.",
        unit: "s",
        targets: &[(
            "histogram_quantile(0.99, sum by (le) (rate(loopscope_busy_seconds_bucket{@loops}[@rate])))",
            "",
        )],
        bad: Some(0.25),
        ..STAT
    },
    Panel {
        title: "Longest busy now",
        about: "For how long the loop that has been busy for longest has not come back to wait.",
        unit: "s",
        targets: &[("max(loopscope_current_busy_seconds{@loops})", "")],
        bad: Some(1.0),
        ..STAT
    },
    Panel {
        title: "Not recorded",
        about: "What the agents lost in the chosen time, for any reason. The dashboard Agent says which.",
        targets: &[("sum(increase(loopscope_lost_total{@agent}[$__range]))", "")],
        bad: Some(1.0),
        ..STAT
    },
];

const GROUPS: &[Panel] = &[Panel {
    title: "Groups of loops",
    about: "Each group by the way its loops wait. Utilisation and busy time are of loops with one waiter; a group \
            whose instances are all shared has none. The name leads to the dashboard Process.",
    targets: &[
        (
            "sum by (group, mechanism) (label_replace(loopscope_loops{@loops}, \"group\", \"$1\", \"$by\", \"(.*)\"))",
            "Loops",
        ),
        (
            "sum by (group, mechanism) (label_replace(rate(loopscope_waits_total{@loops}[@rate]), \"group\", \"$1\", \"$by\", \"(.*)\"))",
            "Waits/s",
        ),
        (
            "sum by (group, mechanism) (label_replace(rate(loopscope_events_total{@loops}[@rate]), \"group\", \"$1\", \"$by\", \"(.*)\")) / sum by (group, mechanism) (label_replace(rate(loopscope_waits_total{@loops}[@rate]), \"group\", \"$1\", \"$by\", \"(.*)\"))",
            "Events per wait",
        ),
        (
            "sum by (group, mechanism) (label_replace(rate(loopscope_loop_time_seconds_total{@loops,state=\"busy\"}[@rate]), \"group\", \"$1\", \"$by\", \"(.*)\")) / sum by (group, mechanism) (label_replace(rate(loopscope_loop_time_seconds_total{@loops}[@rate]), \"group\", \"$1\", \"$by\", \"(.*)\"))",
            "Utilisation",
        ),
        (
            "histogram_quantile(0.99, sum by (le, group, mechanism) (label_replace(rate(loopscope_busy_seconds_bucket{@loops}[@rate]), \"group\", \"$1\", \"$by\", \"(.*)\")))",
            "Busy p99",
        ),
        (
            "max by (group, mechanism) (label_replace(loopscope_current_busy_seconds{@loops}, \"group\", \"$1\", \"$by\", \"(.*)\"))",
            "Busy now",
        ),
    ],
    height: 10,
    ..TABLE
}];

const BUSIEST: &[Panel] = &[
    Panel {
        title: "Utilisation, the ten busiest groups",
        about: "Busy time by busy and wait time of loops with one waiter: at 1 the group's loops never wait.",
        unit: "percentunit",
        targets: &[(
            "topk(10, sum by ($by) (rate(loopscope_loop_time_seconds_total{@loops,state=\"busy\"}[@rate])) / sum by ($by) (rate(loopscope_loop_time_seconds_total{@loops}[@rate])))",
            "{{$by}}",
        )],
        most: Some(1.0),
        bad: Some(0.9),
        ..LINES
    },
    Panel {
        title: "Busy time, p99, the ten slowest groups",
        about: "99 of 100 iterations were shorter; from buckets, each four times as wide as the one before.",
        unit: "s",
        targets: &[(
            "topk(10, histogram_quantile(0.99, sum by (le, $by) (rate(loopscope_busy_seconds_bucket{@loops}[@rate]))))",
            "{{$by}}",
        )],
        ..LINES
    },
    Panel {
        title: "Longest busy now, ten groups",
        about: "For how long the group's longest-busy loop has not come back to wait; seen while it lasts.",
        unit: "s",
        targets: &[("topk(10, max by ($by) (loopscope_current_busy_seconds{@loops}))", "{{$by}}")],
        ..LINES
    },
    Panel {
        title: "Waits per second, ten groups",
        about: "Completed waiting calls of the groups with the most.",
        unit: "cps",
        targets: &[("topk(10, sum by ($by) (rate(loopscope_waits_total{@loops}[@rate])))", "{{$by}}")],
        ..LINES
    },
];

const EFFICIENCY: &[Panel] = &[
    Panel {
        title: "Events per wait, ten groups",
        about: "How many events a waiting call brings: more is cheaper, and means more that waits in line.",
        targets: &[(
            "topk(10, sum by ($by) (rate(loopscope_events_total{@loops}[@rate])) / sum by ($by) (rate(loopscope_waits_total{@loops}[@rate])))",
            "{{$by}}",
        )],
        width: 8,
        ..LINES
    },
    Panel {
        title: "Waits that found nothing, ten groups",
        about: "Share of waits with a time-out of zero and nothing ready. Near 1 at a high rate is a spin.",
        unit: "percentunit",
        targets: &[(
            "topk(10, sum by ($by) (rate(loopscope_waits_total{@loops,result=\"empty\"}[@rate])) / sum by ($by) (rate(loopscope_waits_total{@loops}[@rate])))",
            "{{$by}}",
        )],
        width: 8,
        most: Some(1.0),
        ..LINES
    },
    Panel {
        title: "Saturated waits, ten groups",
        about: "Share of epoll waits that returned as many events as they asked for at most: more may have been ready. \
                Always 1 where a program asks for one event at a time.",
        unit: "percentunit",
        targets: &[(
            "topk(10, sum by ($by) (rate(loopscope_saturated_waits_total{@loops}[@rate])) / sum by ($by) (rate(loopscope_waits_total{@loops,mechanism=\"epoll\"}[@rate])))",
            "{{$by}}",
        )],
        width: 8,
        most: Some(1.0),
        ..LINES
    },
];
