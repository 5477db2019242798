//! The alerts: few, of what a person can act on. Only a table; docs/runbook.md says what to do about each.

use super::rules::Alert;

pub const ALERTS: &[Alert] = &[
    Alert {
        name: "LoopscopeLoopStuck",
        severity: "critical",
        hold: "1m",
        expression: "loopscope_current_busy_seconds > 10",
        summary: "A loop of {{ $labels.comm }} on {{ $labels.instance }} does not come back to wait",
        about: "It has been busy for {{ $value | humanizeDuration }}; whatever it serves waits for as long.",
    },
    Alert {
        name: "LoopscopeLoopSlow",
        severity: "warning",
        hold: "15m",
        expression: "loopscope:busy_seconds:p99_rate5m > 0.25
and loopscope:waits_per_loop:rate5m > 1",
        summary: "Loops of {{ $labels.comm }} on {{ $labels.instance }} block for long",
        about: "One in a hundred iterations takes {{ $value | humanizeDuration }} or more; an event that comes meanwhile \
                waits for its end.",
    },
    Alert {
        name: "LoopscopeLoopOverloaded",
        severity: "warning",
        hold: "15m",
        expression: "loopscope:utilization:ratio_rate5m > 0.9
and loopscope:busy_seconds:mean_rate5m >= 0.00002",
        summary: "The loops of {{ $labels.comm }} on {{ $labels.instance }} are at their limit",
        about: "They are busy for {{ $value | humanizePercentage }} of the time: more work makes a longer queue.",
    },
    Alert {
        name: "LoopscopeReadyStorm",
        severity: "warning",
        hold: "10m",
        expression: "loopscope:utilization:ratio_rate5m > 0.9
and loopscope:busy_seconds:mean_rate5m < 0.00002
and loopscope:empty_waits:ratio_rate5m < 0.5
and loopscope:waits_per_loop:rate5m > 10000",
        summary: "Loops of {{ $labels.comm }} on {{ $labels.instance }} run hot without doing anything",
        about: "Waits return at once, with events, and are followed by almost no work: an event that is level-triggered \
                and not handled looks like this.",
    },
    Alert {
        name: "LoopscopeSpin",
        severity: "warning",
        hold: "10m",
        expression: "loopscope:empty_waits:ratio_rate5m > 0.9
and loopscope:waits_per_loop:rate5m > 10000",
        summary: "Loops of {{ $labels.comm }} on {{ $labels.instance }} spin",
        about: "{{ $value | humanizePercentage }} of their waits have a time-out of zero and find nothing.",
    },
    Alert {
        name: "LoopscopeWaitsSaturated",
        severity: "info",
        hold: "15m",
        expression: "loopscope:saturated_waits:ratio_rate5m > 0.5
and loopscope:events_per_wait:ratio_rate5m >= 2
and loopscope:waits_per_loop:rate5m > 10",
        summary: "epoll waits of {{ $labels.comm }} on {{ $labels.instance }} return full",
        about: "{{ $value | humanizePercentage }} of the waits brought as many events as they asked for: more was ready.",
    },
    Alert {
        name: "LoopscopeLateWakeups",
        severity: "warning",
        hold: "15m",
        expression: "loopscope:timeout_overrun_seconds:p99_rate5m > 0.1",
        summary: "Loops of {{ $labels.comm }} on {{ $labels.instance }} wake up late",
        about: "One in a hundred time-outs ends {{ $value | humanizeDuration }} late or more: the threads wait for a CPU.",
    },
    Alert {
        name: "LoopscopeSelectNearLimit",
        severity: "warning",
        hold: "0m",
        expression: "max_over_time(loopscope_select_highest_fd[5m]) >= 900",
        summary: "{{ $labels.comm }} on {{ $labels.instance }} gives high descriptors to select",
        about: "The highest is {{ $value }}; from 1024 on a program writes beyond its fd_set.",
    },
    Alert {
        name: "LoopscopeLargeSets",
        severity: "info",
        hold: "15m",
        expression: "loopscope:nfds:mean_rate5m > 500
and loopscope:waits:rate5m > 100",
        summary: "{{ $labels.comm }} on {{ $labels.instance }} gives large sets to {{ $labels.mechanism }}",
        about: "The kernel looks at {{ $value | humanize }} entries in each call, ready or not.",
    },
    Alert {
        name: "LoopscopeWatchLimit",
        severity: "critical",
        hold: "0m",
        // A series that comes into being has no increase, so its first count is asked for as well.
        expression: "sum without (op) (increase(loopscope_ctl_errors_total{errno=\"ENOSPC\"}[5m])) > 0
or sum without (op) (loopscope_ctl_errors_total{errno=\"ENOSPC\"} unless loopscope_ctl_errors_total{errno=\"ENOSPC\"} offset 5m) > 0",
        summary: "{{ $labels.comm }} on {{ $labels.instance }} has reached the limit of watched descriptors",
        about: "epoll_ctl fails with ENOSPC: new connections are not watched.",
    },
    Alert {
        name: "LoopscopeCtlErrors",
        severity: "warning",
        hold: "10m",
        expression: "sum without (op) (rate(loopscope_ctl_errors_total{errno=~\"EBADF|EINVAL|ELOOP|ENOMEM\"}[5m])) > 1",
        summary: "epoll_ctl calls of {{ $labels.comm }} on {{ $labels.instance }} fail with {{ $labels.errno }}",
        about: "{{ $value | humanize }} a second. EBADF: descriptors are closed before they are taken out, and may be \
                another file by now.",
    },
    Alert {
        name: "LoopscopeCtlChurn",
        severity: "info",
        hold: "15m",
        expression: "loopscope:ctl_per_wait:ratio_rate5m > 2
and loopscope:waits:rate5m > 1000",
        summary: "{{ $labels.comm }} on {{ $labels.instance }} spends {{ $value | humanize }} epoll_ctl calls on each wait",
        about: "Descriptors are added, armed or removed again for each event.",
    },
    Alert {
        name: "LoopscopeStaleWatches",
        severity: "warning",
        hold: "15m",
        expression: "min_over_time(loopscope_stale_watches[5m]) > 0",
        summary: "{{ $labels.comm }} on {{ $labels.instance }} watches {{ $value }} files that it has closed",
        about: "Another process, or a duplicate, holds them open; their events name a descriptor that is gone.",
    },
    Alert {
        name: "LoopscopeWorkersUneven",
        severity: "warning",
        hold: "15m",
        expression: "loopscope:listener_imbalance:ratio > 2
and loopscope_listener_loops > 1",
        summary: "One loop of {{ $labels.comm }} on {{ $labels.instance }} does the work of others",
        about: "On {{ $labels.listener }} the busiest loop has {{ $value | humanize }} times its even share of the events.",
    },
    Alert {
        name: "LoopscopeAgentDown",
        severity: "critical",
        hold: "5m",
        expression: "up{job=\"loopscope\"} == 0",
        summary: "The agent on {{ $labels.instance }} cannot be scraped",
        about: "There is no news of the event loops of that host.",
    },
    Alert {
        name: "LoopscopeProbeMissing",
        severity: "info",
        hold: "15m",
        expression: "max without (backend) (loopscope_probe_attached) == 0",
        summary: "The probe {{ $labels.probe }} is not attached on {{ $labels.instance }}",
        about: "What it would see is missing in all figures; `loopscope check` on that host says why.",
    },
    Alert {
        name: "LoopscopeLosing",
        severity: "warning",
        hold: "10m",
        expression: "increase(loopscope_lost_total{reason=~\"records|events|missed|damaged\"}[10m]) > 0",
        summary: "The agent on {{ $labels.instance }} does not record everything",
        about: "{{ $value | humanize }} in ten minutes, for the reason {{ $labels.reason }}.",
    },
    Alert {
        name: "LoopscopeGroupsFolded",
        severity: "info",
        hold: "0m",
        expression: "increase(loopscope_groups_folded_total[1h]) > 0",
        summary: "The agent on {{ $labels.instance }} has more groups than series",
        about: "{{ $value | humanize }} groups of the last hour are counted under \"~other\" alone.",
    },
    Alert {
        name: "LoopscopeSlowReading",
        severity: "warning",
        hold: "15m",
        expression: "max_over_time(loopscope_sample_seconds[5m]) > 1",
        summary: "The agent on {{ $labels.instance }} takes {{ $value | humanizeDuration }} to read its probes",
        about: "Scrapes wait for as long.",
    },
];
