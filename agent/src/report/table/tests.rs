//! The human views as plain text: every claim is a whole page, or a property of all its lines.

use super::super::check::{Fact, Tried};
use super::super::document::{Ctl, Distribution, Holder, Lost, Mechanism, ProbeRow, Results, State, Time};
use super::super::text;
use super::*;

fn page(report: &Report, width: Option<usize>) -> String {
    let mut out = Vec::new();
    write_report(report, width, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn check_page(check: &CheckDocument, width: Option<usize>) -> String {
    let mut out = Vec::new();
    write_check(check, width, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn widest(page: &str) -> usize {
    page.lines().map(text::width).max().unwrap_or(0)
}

fn empty() -> Report {
    Report {
        schema: 1,
        host: "web-1".to_owned(),
        kernel: "6.18.2".to_owned(),
        arch: "x86_64".to_owned(),
        version: "0.1.0".to_owned(),
        started_at: "2026-03-01T12:00:00Z".to_owned(),
        duration_seconds: 10.0,
        probes: vec![ProbeRow {
            name: "epoll_wait".to_owned(),
            backend: "tracepoint".to_owned(),
            runs: 24_000,
            run_seconds: None,
        }],
        ..Report::default()
    }
}

fn spread(p50: f64, p99: f64, max: f64) -> Distribution<f64> {
    Distribution { count: 100, sum: 1.0, p50: Some(p50), p90: Some(p50), p99: Some(p99), max: Some(max) }
}

fn redis() -> LoopRow {
    LoopRow {
        pid: 812,
        tid: 812,
        comm: "redis-server".to_owned(),
        thread: "redis-server".to_owned(),
        is_loop: true,
        epfd: Some(5),
        instance: Some(17),
        waits: 12_000,
        events: 15_000,
        results: Results { ready: 11_000, empty: 1_000, ..Results::default() },
        saturated: 120,
        maxevents: Some(512),
        wait_seconds: spread(0.0008, 0.0042, 0.1),
        busy_seconds: Some(spread(0.000_021, 0.0013, 0.0312)),
        events_per_wait: Distribution { count: 12_000, sum: 15_000, ..Distribution::default() },
        time: Time { wait: 9.2, busy: Some(0.8), other_wait: Some(0.0) },
        state: State::Wait,
        state_seconds: Some(0.0003),
        utilization: Some(0.08),
        ..LoopRow::default()
    }
}

fn populated() -> Report {
    let tokio = LoopRow {
        pid: 4_194_304,
        tid: 4_194_303,
        comm: "api".to_owned(),
        thread: "tokio-runtime-w".to_owned(),
        is_loop: false,
        instance: Some(18),
        waits: 40,
        maxevents: Some(1),
        wait_seconds: spread(0.2, 1.5, 2.0),
        ..LoopRow::default()
    };
    let agent = LoopRow {
        pid: 99,
        tid: 99,
        comm: "poller".to_owned(),
        thread: "poller".to_owned(),
        mechanism: Mechanism::Poll,
        is_loop: true,
        ended: true,
        waits: 3,
        results: Results { timeout: 3, ..Results::default() },
        wait_seconds: spread(1.0, 1.0, 1.0),
        busy_seconds: Some(Distribution::default()),
        utilization: Some(0.5),
        ..LoopRow::default()
    };
    let ctl = Ctl { add: 3, errors: [("EEXIST".to_owned(), 1)].into(), ..Ctl::default() };
    let instance = InstanceRow {
        instance: 17,
        holders: (1..=5).map(|pid| Holder { pid, fd: 5 }).collect(),
        waiters: 1,
        ctl,
        ..InstanceRow::default()
    };
    Report { loops: vec![tokio, redis(), agent], instances: vec![instance], ..empty() }
}

#[test]
fn without_a_terminal_every_column_is_shown() {
    let expected = "\
loopscope 0.1.0 on web-1, Linux 6.18.2 x86_64, 10s from 2026-03-01T12:00:00Z
2 loops and 1 other waiter; 1.2k waits/s, 1.5k events/s; nothing lost

    PID      TID  COMM                 MECH   WAITS/s  EV/WAIT  UTIL        WAIT p50  WAIT p99  BUSY p50  BUSY p99  BUSY max   SAT%  EMPTY%  STATE
     99       99  poller               poll       0.3        -   50% ██▌        1.0s      1.0s         -         -         -      -      0%  ended
    812      812  redis-server         epoll     1.2k      1.2    8% ▍         800us     4.2ms      21us     1.3ms      31ms     1%      8%  wait 300us
4194304  4194303  api/tokio-runtime-w  epoll      4.0        -     -           200ms      1.5s         -         -         -  max=1      0%  -

INSTANCE  HELD BY pid:fd  WAITERS  ADD  MOD  DEL  FAILED    FLAGS
      17  1:5 2:5 3:5 +2        1    3    0    0  EEXIST 1  -

Probes and their runs: epoll_wait by tracepoint 24k
";
    assert_eq!(page(&populated(), None), expected);
}

#[test]
fn two_hundred_columns_hold_everything() {
    assert_eq!(page(&populated(), Some(200)), page(&populated(), None));
}

#[test]
fn eighty_columns_hold_what_matters_most() {
    let expected = "\
loopscope 0.1.0 on web-1, Linux 6.18.2 x86_64, 10s from 2026-03-01T12:00:00Z
2 loops and 1 other waiter; 1.2k waits/s, 1.5k events/s; nothing lost

    PID  COMM                 MECH   WAITS/s  UTIL        BUSY p99  STATE
     99  poller               poll       0.3   50% ██▌           -  ended
    812  redis-server         epoll     1.2k    8% ▍         1.3ms  wait 300us
4194304  api/tokio-runtime-w  epoll      4.0     -               -  -
Not shown for lack of width: TID, EV/WAIT, WAIT p50, WAIT p99, BUSY p50, BUSY
max, SAT%, EMPTY%; --format csv has all.

INSTANCE  HELD BY pid:fd  WAITERS  ADD  MOD  DEL  FAILED    FLAGS
      17  1:5 2:5 3:5 +2        1    3    0    0  EEXIST 1  -

Probes and their runs: epoll_wait by tracepoint 24k
";
    assert_eq!(page(&populated(), Some(80)), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let check = refused();
    for width in 1..=220 {
        assert!(widest(&page(&populated(), Some(width))) <= width, "report at {width}");
        assert!(widest(&page(&empty(), Some(width))) <= width, "empty report at {width}");
        assert!(widest(&check_page(&check, Some(width))) <= width, "check at {width}");
    }
}

#[test]
fn an_empty_window_says_so_and_what_to_try() {
    let expected = "\
loopscope 0.1.0 on web-1, Linux 6.18.2 x86_64, 10s from 2026-03-01T12:00:00Z
0 loops; 0 waits/s, 0 events/s; nothing lost

No event loop waited in this window.
Hint: watch for longer (--duration 60s), loosen --pid, --comm or --cgroup, or
see 'loopscope check'.

Probes and their runs: epoll_wait by tracepoint 24k
";
    assert_eq!(page(&empty(), Some(80)), expected);
}

#[test]
fn what_the_probes_took_is_told_where_it_was_measured() {
    let mut report = empty();
    report.probes[0].run_seconds = Some(0.0072);
    let idle = ProbeRow { name: "poll".to_owned(), run_seconds: Some(0.0), ..ProbeRow::default() };
    report.probes.push(idle);
    let whole = page(&report, None);
    assert!(whole.ends_with("They took 7.2ms (<1% of a CPU); a run of each: epoll_wait 300ns\n"), "{whole}");
    assert!((1..=220).all(|width| widest(&page(&report, Some(width))) <= width));
}

#[test]
fn what_was_lost_and_not_seen_is_told() {
    let report = Report {
        lost: Lost { missed: 12, ..Lost::default() },
        notes: vec!["--cgroup /a is a path of a v1 hierarchy: filtered after the fact".to_owned()],
        ..empty()
    };
    let page = page(&report, None);
    assert!(page.contains("; LOST: missed 12\n"), "{page}");
    assert!(
        page.ends_with(
            "What this view could not see:\n\
             - lost missed 12: runs of a probe that the kernel skipped\n\
             - --cgroup /a is a path of a v1 hierarchy: filtered after the fact\n"
        ),
        "{page}"
    );
}

#[test]
fn hostile_names_cannot_reach_the_terminal_or_break_the_columns() {
    let names = [
        "\u{1b}[2J\u{7}",
        "a\nb\r\tc",
        "\u{202e}txt.exe",
        "\u{9b}31m",
        "日本語の長い名前のプロセスです",
        "e\u{301}\u{200d}",
        "",
    ];
    let mut report = populated();
    for name in names {
        report.loops.push(LoopRow { comm: name.to_owned(), thread: format!("{name}!"), ..redis() });
    }
    report.host = "a\nb\u{1b}]0;".to_owned();
    report.notes = vec!["c\u{1b}[0m\nd".to_owned()];
    let page = page(&report, None);
    let is_bad = |c: char| c != '\n' && (c.is_control() || text::sanitize(&c.to_string()) != c.to_string());
    assert_eq!(page.chars().find(|c| is_bad(*c)), None, "{page}");
    let header = page.lines().find(|line| line.contains("MECH")).unwrap();
    let mech = text::width(header.split("MECH").next().unwrap());
    let rows: Vec<&str> = page.lines().filter(|line| line.contains(" epoll ")).collect();
    assert_eq!(rows.len(), names.len() + 2);
    for row in rows {
        assert_eq!(text::width(row.split("epoll").next().unwrap()), mech, "{row}");
    }
}

#[test]
fn two_thousand_loops_are_two_thousand_rows_in_order_of_utilisation() {
    let loops = (0..2_000)
        .map(|pid| LoopRow { pid, utilization: Some(f64::from(pid) / 2_000.0), ..redis() })
        .collect();
    let instances = (0..45).map(|instance| InstanceRow { instance, ..InstanceRow::default() }).collect();
    let page = page(&Report { loops, instances, ..empty() }, Some(120));
    let pids: Vec<u32> = page
        .lines()
        .filter(|line| line.contains("redis-server"))
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(pids, (0..2_000).rev().collect::<Vec<_>>());
    assert!(
        page.contains("\nand 25 instances with fewer epoll_ctl calls; --format json has all.\n"),
        "{page}"
    );
}

fn refused() -> CheckDocument {
    let fact = |name: &str, value: &str, ok| Fact { name: name.to_owned(), value: value.to_owned(), ok };
    CheckDocument {
        programs: Vec::new(),
        schema: 1,
        host: "web-1".to_owned(),
        kernel: "6.18.2".to_owned(),
        arch: "x86_64".to_owned(),
        version: "0.1.0".to_owned(),
        main_job: false,
        facts: vec![
            fact("uid", "1000", false),
            fact("lockdown", "none", true),
            fact("capabilities", "none; run as root, or: setcap cap_bpf,cap_perfmon+ep loopscope", false),
        ],
        probes: vec![
            ProbeCheck {
                name: "epoll_ctl".to_owned(),
                backend: Some("tracepoint".to_owned()),
                ok: true,
                ..ProbeCheck::default()
            },
            ProbeCheck {
                name: "epoll_wait".to_owned(),
                tried: vec![Tried {
                    backend: "tracepoint".to_owned(),
                    error: "Operation not\npermitted".to_owned(),
                }],
                lost_without: "waits, wait and busy times of epoll loops".to_owned(),
                ..ProbeCheck::default()
            },
        ],
        limits: vec!["waits of 32-bit processes".to_owned()],
    }
}

#[test]
fn a_check_tells_each_fact_each_probe_why_it_failed_and_what_is_lost() {
    let expected = "\
loopscope 0.1.0 on web-1, Linux 6.18.2 x86_64
The main job cannot be done here: no waits, wait times or
busy times of epoll loops.

NO   uid           1000
ok   lockdown      none
NO   capabilities  none; run as root, or: setcap
                   cap_bpf,cap_perfmon+ep loopscope

PROBE       BACKEND     STATE
epoll_ctl   tracepoint  ok
epoll_wait  -           FAILED

epoll_wait:
- tracepoint failed: Operation not permitted
- lost by it: waits, wait and busy times of epoll loops

Not seen are waits of 32-bit processes
";
    assert_eq!(check_page(&refused(), Some(60)), expected);
}
