//! `loopscope agent` from outside: what a scraper gets for a known number of waits, and how the server treats its clients.
//!
//! Counts are compared for equality; nothing here may depend on how fast this machine is.
#![cfg(test)]

mod common;

use std::{
    collections::HashMap,
    env,
    io::Write,
    net::TcpStream,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use common::{
    Workload, agent, cannot_run,
    compare::{count, list},
    exporter::{Agent, get, send},
    require_bpf, until,
};
use rustix::{event::epoll, process::Signal, time::Timespec};
use serde_json::Value;

/// Longer than scrapes share a sample.
const APART: Duration = Duration::from_millis(150);

/// The sum of a count over all rows of a workload.
fn sum(done: &Value, path: &[&str]) -> f64 {
    let rows = list(&done["rows"]).iter().chain(list(&done["without_instance"]));
    rows.map(|row| count(path.iter().fold(row, |value, key| &value[*key]))).sum::<u64>() as f64
}

#[test]
fn a_scraper_gets_the_counts_of_a_workload_and_keeps_them_when_it_has_ended() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&[]);
    let comm = "metrics-load";
    let before = agent.scrape();
    let mut expected: HashMap<String, f64> = HashMap::new();
    for _ in 0..2 {
        let workload = Workload::start(&format!("{comm}= results 40"));
        let done = workload.said();
        workload.finish();
        thread::sleep(APART);
        let after = agent.scrape();
        let mut expect = |name: &str, labels: String, more: f64| {
            let total = expected.entry(format!("{name}{labels}")).or_default();
            *total += more;
            let found = after.epoll(name, comm, &labels) - before.epoll(name, comm, &labels);
            assert_eq!(found, *total, "{name} {labels}: {done}");
        };
        for result in ["ready", "timeout", "empty", "interrupted", "error"] {
            expect("waits_total", format!(",result=\"{result}\""), sum(&done, &["results", result]));
        }
        for kind in ["infinite", "zero", "finite", "unknown"] {
            expect("timeouts_total", format!(",kind=\"{kind}\""), sum(&done, &["timeouts", kind]));
        }
        expect("events_total", String::new(), sum(&done, &["events"]));
        expect("saturated_waits_total", String::new(), sum(&done, &["saturated"]));
        expect("wait_seconds_count", String::new(), sum(&done, &["waits"]));
        expect("wait_seconds_bucket", ",le=\"+Inf\"".to_owned(), sum(&done, &["waits"]));
        expect("events_per_wait_sum", String::new(), sum(&done, &["events"]));
        if cfg!(target_arch = "x86_64") {
            let out = 12.0 * sum(&done, &["events"]);
            expect("copied_bytes_total", ",direction=\"out\"".to_owned(), out);
        }
        assert_eq!(after.epoll("loops", comm, ""), 0.0, "it has ended");
        assert_eq!(after.0["loopscope_groups_folded_total"], 0.0);
    }
    assert_eq!(agent.end(Signal::INT).code(), Some(0));
}

#[test]
fn epoll_ctl_calls_are_counted_with_their_errors() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&["--comm", "metrics-ctl"]);
    let workload = Workload::start("metrics-ctl= ctl");
    let done = workload.said();
    let after = agent.scrape();
    workload.finish();
    let total = |path: &[&str]| {
        let rows = list(&done["ctl"]).iter();
        let counts = rows.map(|row| path.iter().fold(row, |value, key| &value[*key]));
        counts.filter(|value| !value.is_null()).map(count).sum::<u64>() as f64
    };
    for op in ["add", "mod", "del"] {
        assert_eq!(
            after.epoll("ctl_total", "metrics-ctl", &format!(",op=\"{op}\"")),
            total(&[op]),
            "{op}: {done}"
        );
    }
    for errno in ["EEXIST", "ENOENT", "EPERM"] {
        let of =
            |op| after.epoll("ctl_errors_total", "metrics-ctl", &format!(",op=\"{op}\",errno=\"{errno}\""));
        let found: f64 = ["add", "mod", "del"].into_iter().map(of).sum();
        assert_eq!(found, total(&["errors", errno]), "{errno}: {done}");
    }
    let others =
        after.0.keys().filter(|name| name.contains("comm=") && !name.contains("comm=\"metrics-ctl\""));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new(), "--comm names one process");
}

#[test]
fn wait_and_busy_time_of_a_loop_add_up_to_the_time_between_two_scrapes() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&["--pid", &std::process::id().to_string()]);
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned();
    let (stop, stopped) = mpsc::channel::<()>();
    let looped = thread::spawn(move || {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let timeout = Timespec { tv_sec: 0, tv_nsec: 70_000_000 };
        while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
            let mut events = Vec::with_capacity(4);
            epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).unwrap();
            thread::sleep(Duration::from_millis(30));
        }
    });
    until("the loop is seen", || {
        thread::sleep(APART);
        agent.scrape().epoll("loops", &comm, "") == 1.0
    });
    let scrape = || {
        let start = Instant::now();
        let series = agent.scrape();
        let time =
            |state: &str| series.epoll("loop_time_seconds_total", &comm, &format!(",state=\"{state}\""));
        (start, Instant::now(), time("wait"), time("busy"))
    };
    let first = scrape();
    thread::sleep(Duration::from_millis(1_330));
    let second = scrape();
    drop(stop);
    looped.join().unwrap();
    let (wait, busy) = (second.2 - first.2, second.3 - first.3);
    // Each sample is taken some time between its request and its answer, or is up to 100 ms older than the request: it
    // may be that of a tick.
    let (least, most) = (second.0 - first.1, second.1 - first.0);
    let slack = 0.1 + 1e-3;
    let sum = wait + busy;
    assert!(
        sum > least.as_secs_f64() - slack && sum < most.as_secs_f64() + slack,
        "{sum}: {least:?} to {most:?}"
    );
    assert!(wait > 0.0 && busy > 0.0, "{wait} {busy}");
}

#[test]
fn clients_get_what_they_ask_for_and_hold_nobody_up() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&[]);
    // Half a request each, and then nothing.
    let slow: Vec<TcpStream> = (0..20).map(|_| send(agent.address, "GET /metrics HTTP/1.1\r\nHo")).collect();
    for (path, expected) in [("/", 200), ("/-/healthy", 200), ("/-/ready", 200), ("/nowhere", 404)] {
        let (status, head, body) = agent.get(path);
        assert_eq!(status, expected, "{path}: {head}\n{body}");
    }
    let address = agent.address;
    let scrapes: Vec<_> = (0..20).map(|_| thread::spawn(move || get(address, "/metrics"))).collect();
    let answers: Vec<_> = scrapes.into_iter().map(|scrape| scrape.join().unwrap()).collect();
    let (whole, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(status, _, _)| *status == 200);
    assert!(whole.len() >= 16, "{} of 20 were answered", whole.len());
    assert!(
        whole.iter().all(|(_, _, body)| body.contains("\nloopscope_probe_attached{") && body.ends_with('\n'))
    );
    assert!(
        refused.iter().all(|(status, _, body)| *status == 503 && body.contains("too many scrapes")),
        "{refused:?}"
    );
    drop(slow);
    assert_eq!(agent.end(Signal::TERM).code(), Some(0));
}

#[test]
fn many_short_lived_processes_make_no_more_series_than_allowed_and_lose_no_count() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&["--comm", "churn-*", "--max-groups", "10"]);
    let mut events = 0.0;
    for i in 0..60 {
        let workload = Workload::start(&format!("churn-{i}= results 3"));
        events += sum(&workload.said(), &["events"]);
        workload.finish();
        if i % 7 == 0 {
            assert!(agent.scrape().0["loopscope_groups"] <= 10.0);
        }
    }
    thread::sleep(APART);
    let series = agent.scrape().0;
    let counted = series.iter().filter(|(name, _)| name.starts_with("loopscope_events_total{"));
    let epoll: Vec<f64> =
        counted.filter(|(name, _)| name.contains("\"epoll\"")).map(|(_, count)| *count).collect();
    assert!(epoll.len() <= 11, "{epoll:?}");
    assert_eq!(epoll.iter().sum::<f64>(), events);
    assert!(
        series["loopscope_groups"] <= 10.0 && series["loopscope_groups_folded_total"] >= 50.0,
        "{series:?}"
    );
}

#[test]
fn two_thousand_scrapes_leave_the_agents_memory_as_it_was() {
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&[]);
    let resident = || agent.scrape().0["process_resident_memory_bytes"];
    let scrapes = |count| (0..count).for_each(|_| assert_eq!(agent.get("/metrics").0, 200));
    scrapes(300);
    let before = resident();
    scrapes(2_000);
    thread::sleep(APART);
    let after = resident();
    // Other programs of the host come and go meanwhile, and each takes a few KB.
    assert!(after - before < f64::from(4 << 20), "{before} to {after}");
}

#[test]
fn the_metrics_are_as_promtool_wants_them() {
    let path = env::var_os("PATH").unwrap_or_default();
    let Some(promtool) = env::split_paths(&path).map(|dir| dir.join("promtool")).find(|file| file.is_file())
    else {
        return cannot_run("promtool is not in PATH (Debian package prometheus)");
    };
    if !require_bpf() {
        return;
    }
    for by in ["comm", "pod", "tid"] {
        let agent = Agent::start(&["--group-by", by]);
        let text = agent.get("/metrics").2;
        let mut command = Command::new(&promtool);
        command
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut check = command.spawn().unwrap();
        check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let checked = check.wait_with_output().unwrap();
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success() && said.is_empty(), "{by}: {}", String::from_utf8_lossy(&said));
        assert!(
            text.contains(&format!(
                "{{{}=",
                if by == "tid" { "pid" } else { by }.replace("pod", "namespace")
            ))
        );
    }
}

#[test]
fn an_address_that_cannot_be_had_ends_it_before_anything_is_attached() {
    let run = |listen: &str| {
        let output = agent(&["agent", "--listen", listen, "--socket", "none"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run("localhost");
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("--listen"), "{said}");
    if !require_bpf() {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, said) = run(&taken.local_addr().unwrap().to_string());
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("cannot listen on 127.0.0.1:") && said.contains("--listen"), "{said}");
}
