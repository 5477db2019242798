//! The dashboard "Agent": what the agents cost and what they miss. Only a table.

use super::panel::{Dashboard, LINES, Panel, Row, STAT, TABLE};

pub const AGENT: Dashboard = Dashboard {
    uid: "loopscope-agent",
    title: "loopscope / Agent",
    about: "The agents themselves: attached probes, what is lost, what they cost.",
    grouped: false,
    rows: &[
        Row { title: "", panels: NUMBERS },
        Row { title: "Probes", panels: PROBES },
        Row { title: "Scrapes and series", panels: SCRAPES },
        Row { title: "Process", panels: PROCESS },
    ],
};

const NUMBERS: &[Panel] = &[
    Panel {
        title: "Agents up",
        about: "Agents whose last scrape worked, of the chosen ones.",
        targets: &[("sum(up{@agent})", "")],
        ..STAT
    },
    Panel {
        title: "Attached probes",
        about: "Over all agents; the table below names them.",
        targets: &[("sum(loopscope_probe_attached{@agent})", "")],
        ..STAT
    },
    Panel {
        title: "Not recorded",
        about: "What was lost in the chosen time, for any reason.",
        targets: &[("sum(increase(loopscope_lost_total{@agent}[$__range]))", "")],
        bad: Some(1.0),
        ..STAT
    },
    Panel {
        title: "Folded groups",
        about: "Groups that came when --max-groups was reached, and are counted under \"~other\".",
        targets: &[("sum(loopscope_groups_folded_total{@agent})", "")],
        bad: Some(1.0),
        ..STAT
    },
    Panel {
        title: "Series",
        about: "Samples in the last scrapes.",
        targets: &[("sum(scrape_samples_scraped{@agent})", "")],
        ..STAT
    },
    Panel {
        title: "CPU",
        about: "CPUs that the agents use; what the probes cost the watched programs is not in it.",
        unit: "percentunit",
        targets: &[("sum(rate(process_cpu_seconds_total{@agent}[@rate]))", "")],
        ..STAT
    },
];

const PROBES: &[Panel] = &[
    Panel {
        title: "Probes",
        about: "1: attached by that way. 0: not attached, with the way that was tried last; `loopscope check` says why.",
        targets: &[("sum by (instance, probe, backend) (loopscope_probe_attached{@agent})", "Attached")],
        width: 12,
        height: 10,
        ..TABLE
    },
    Panel {
        title: "Runs per second",
        about: "How often each probe's programs run; times the cost of a run, this is what the watched programs pay.",
        unit: "cps",
        targets: &[("sum by (probe) (rate(loopscope_probe_runs_total{@agent}[@rate])) > 0", "{{probe}}")],
        height: 10,
        ..LINES
    },
    Panel {
        title: "Run time of the programs",
        about: "CPUs spent in each probe's programs, as the kernel measures it; only with --probe-stats.",
        unit: "percentunit",
        targets: &[("sum by (probe) (rate(loopscope_probe_run_seconds_total{@agent}[@rate]))", "{{probe}}")],
        ..LINES
    },
    Panel {
        title: "Not recorded, per second",
        about: "By reason: no memory for a waiter's record (records), the ring buffer full (events), a run that the kernel \
                skipped (missed), an exit without an entry (unpaired), a negative time (clamped), a 32-bit task (unseen), \
                a record that could not be read (damaged).",
        unit: "cps",
        targets: &[("sum by (reason) (rate(loopscope_lost_total{@agent}[@rate]))", "{{reason}}")],
        ..LINES
    },
];

const SCRAPES: &[Panel] = &[
    Panel {
        title: "Scrape time",
        about: "From Prometheus' request to the end of the answer, and within it the agent's reading of all records.",
        unit: "s",
        targets: &[
            ("max by (instance) (scrape_duration_seconds{@agent})", "{{instance}} scrape"),
            ("max by (instance) (loopscope_sample_seconds{@agent})", "{{instance}} reading"),
        ],
        width: 8,
        ..LINES
    },
    Panel {
        title: "Series",
        about: "Samples in each scrape. --max-groups bounds them.",
        targets: &[("sum by (instance) (scrape_samples_scraped{@agent})", "{{instance}}")],
        width: 8,
        ..LINES
    },
    Panel {
        title: "Groups and their limit",
        about: "Groups that have series of their own, and how many may; beyond it they are counted under \"~other\".",
        targets: &[
            ("sum by (instance) (loopscope_groups{@agent})", "{{instance}} groups"),
            ("sum by (instance) (loopscope_groups_limit{@agent})", "{{instance}} limit"),
        ],
        width: 8,
        ..LINES
    },
];

const PROCESS: &[Panel] = &[
    Panel {
        title: "CPU",
        about: "CPUs that the agent uses, of 1.",
        unit: "percentunit",
        targets: &[("sum by (instance) (rate(process_cpu_seconds_total{@agent}[@rate]))", "{{instance}}")],
        width: 6,
        ..LINES
    },
    Panel {
        title: "Memory",
        about: "Resident memory of the agent; what the probes take in the kernel is not in it.",
        unit: "bytes",
        targets: &[("sum by (instance) (process_resident_memory_bytes{@agent})", "{{instance}}")],
        width: 6,
        ..LINES
    },
    Panel {
        title: "Open descriptors and threads",
        about: "Of the agent's process.",
        targets: &[
            ("sum by (instance) (process_open_fds{@agent})", "{{instance}} descriptors"),
            ("sum by (instance) (process_threads{@agent})", "{{instance}} threads"),
        ],
        width: 6,
        ..LINES
    },
    Panel {
        title: "Builds",
        about: "Which versions of the agent run.",
        targets: &[("count by (version, arch) (loopscope_build_info{@agent})", "Agents")],
        width: 6,
        ..TABLE
    },
];
