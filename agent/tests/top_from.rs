//! `top --from`: a real Prometheus that scrapes a real agent, and the same figures in the table as the agent has.
#![cfg(test)]

mod common;
#[path = "common/schema.rs"]
mod published;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use common::{
    agent, cannot_run,
    exporter::{Agent, Series, get},
    require_bpf, until,
};
use published::schema;
use rustix::{event::epoll, process::Signal, time::Timespec};
use serde_json::Value;

/// The window that is asked for: the scrapes are one a second.
const WINDOW: f64 = 4.0;
/// The loop of the test: it waits that long and is busy that long, ms.
const PACE: [u64; 2] = [30, 10];

/// A Prometheus of our own; it ends with the value.
struct Prometheus {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Prometheus {
    fn start(target: &str) -> Prometheus {
        let folder = env::temp_dir().join(format!("loopscope-top-from-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: loopscope\n    static_configs:\n      - targets: ['{target}']\n"
        );
        fs::write(&config, text).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=error");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Prometheus { child, port, folder }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn ready(&self) -> bool {
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        std::net::TcpStream::connect(address).is_ok() && get(address, "/-/ready").0 == 200
    }

    fn kill(&mut self) {
        // Our own child, so the id is still its own; an error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn top(url: &str, more: &[&str]) -> Command {
    let mut command = agent(&["top", "--from", url, "-b"]);
    command.args(more);
    command
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

fn row<'a>(frame: &'a Value, comm: &str) -> Option<&'a Value> {
    let rows = frame["loops"].as_array()?;
    rows.iter().find(|row| row["comm"] == comm && row["mechanism"] == "epoll")
}

/// The bucket of a histogram in which the quantile of what came between two scrapes lies: its ends.
fn bucket(before: &Series, after: &Series, comm: &str, name: &str, quantile: f64) -> (f64, f64) {
    let start = format!("loopscope_{name}_bucket{{comm=\"{comm}\",mechanism=\"epoll\",le=\"");
    let mut buckets: Vec<(f64, f64)> = (after.0.iter())
        .filter_map(|(key, count)| {
            let le = key.strip_prefix(&start)?.strip_suffix("\"}")?.replace("+Inf", "inf");
            Some((le.parse().unwrap(), count - before.0.get(key).copied().unwrap_or(0.0)))
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rank = quantile * buckets.last().unwrap().1;
    let place = buckets.iter().position(|(_, count)| *count >= rank).unwrap();
    (if place == 0 { 0.0 } else { buckets[place - 1].0 }, buckets[place].0)
}

/// A loop of a steady pace, in a thread of this process.
fn steady(stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let (data, flags) = (epoll::EventData::new_u64(1), epoll::EventFlags::IN | epoll::EventFlags::ET);
        epoll::add(&epoll, &event, data, flags).unwrap();
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(PACE[0] * 1_000_000).unwrap() };
        while !stop.load(Ordering::Relaxed) {
            let mut events = Vec::with_capacity(4);
            epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).unwrap();
            thread::sleep(Duration::from_millis(PACE[1]));
        }
    })
}

#[test]
fn the_columns_of_a_scraped_agent_are_those_that_the_agent_says() {
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|folder| folder.join("prometheus").is_file()) {
        return cannot_run("prometheus is not in PATH (Debian package prometheus)");
    }
    if !require_bpf() {
        return;
    }
    let running = Agent::start(&["--pid", &std::process::id().to_string()]);
    let mut prometheus = Prometheus::start(&running.address.to_string());
    let comm = fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let looped = steady(&stop);
    until("prometheus is ready", || prometheus.ready());
    // Two scrapes within the window, and a window that holds nothing but the steady loop.
    let window = format!("{WINDOW}s");
    let url = prometheus.url();
    let frame = || -> Option<Value> {
        let output = top(&url, &["-n", "1", "--from-window", &window, "--format", "json"]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    };
    until("it has rates", || {
        thread::sleep(Duration::from_millis(200));
        frame().as_ref().and_then(|frame| row(frame, &comm)).is_some_and(|row| row["utilization"].is_f64())
    });
    let before = running.scrape();
    thread::sleep(Duration::from_secs_f64(WINDOW + 0.5));
    let frame = frame().unwrap();
    let after = running.scrape();
    stop.store(true, Ordering::Relaxed);
    looped.join().unwrap();

    let schema = schema("fleet.schema.json");
    let errors: Vec<String> =
        schema.iter_errors(&frame).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new(), "{frame}");
    let row = row(&frame, &comm).unwrap();
    let address = running.address.to_string();
    assert_eq!((row["host"].as_str(), row["job"].as_str()), (Some(address.as_str()), Some("loopscope")));
    assert_eq!(frame["hosts"][0]["host"], address.as_str());
    assert_eq!(
        (&frame["hosts"][0]["scraped"], &frame["notes"]),
        (&Value::Bool(true), &serde_json::json!([]))
    );
    let delta =
        |name: &str, labels: &str| after.epoll(name, &comm, labels) - before.epoll(name, &comm, labels);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{row}"));
    // The window of the server and that between our scrapes are not the same, but the pace is: a tenth is what a second of a
    // window of four may do to a rate that is itself steady within some percent.
    let near = |found: f64, expected: f64, what: &str| {
        assert!(
            (found - expected).abs() <= 0.1 * expected.abs() + 1e-9,
            "{what}: {found}, not {expected}: {row}"
        );
    };
    let [wait, busy] =
        ["wait", "busy"].map(|state| delta("loop_time_seconds_total", &format!(",state=\"{state}\"")));
    near(number(&row["utilization"]), busy / (busy + wait), "utilisation");
    // By the time that went by, as the agent counted it.
    near(
        number(&row["waits_per_second"]),
        delta("waits_total", ",result=\"timeout\"") / (busy + wait),
        "waits",
    );
    assert_eq!((number(&row["events_per_second"]), number(&row["events_per_wait"])), (0.0, 0.0));
    assert_eq!((number(&row["empty_share"]), number(&row["saturated_share"])), (0.0, 0.0));
    assert_eq!(number(&row["loops"]), after.epoll("loops", &comm, ""));
    assert_eq!(number(&row["waiters"]), after.epoll("waiters", &comm, ""));
    assert_eq!(number(&row["edge"]), after.epoll("watched_fds", &comm, ",trigger=\"edge\""));
    for (figure, name) in [("wait_seconds", "wait_seconds"), ("busy_seconds", "busy_seconds")] {
        for (quantile, q) in [("p50", 0.5), ("p99", 0.99)] {
            // Within the bucket of the median; what one late wakeup does to the 99th percentile, it may do in one of both.
            let (low, high) = bucket(&before, &after, &comm, name, q);
            let found = number(&row[figure][quantile]);
            let slack = if q > 0.9 { 4.0 } else { 1.0 };
            assert!(
                found >= low / slack && found <= high * slack,
                "{figure} {quantile}: {found} in {low}..{high}"
            );
        }
    }
    assert_eq!((&row["pid"], &row["exe"]), (&Value::Null, &Value::Null), "not in these metrics");

    an_outage_is_said_and_the_last_figures_stay(&mut prometheus, &window, &comm);
    assert!(running.end(Signal::TERM).success());
}

fn an_outage_is_said_and_the_last_figures_stay(prometheus: &mut Prometheus, window: &str, comm: &str) {
    let url = prometheus.url();
    let table = top(&url, &["-n", "1", "--from-window", window]).output().unwrap();
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("HOST") && text.contains(comm) && text.contains("127.0.0.1:"), "{text}");
    let csv = top(&url, &["-n", "1", "--from-window", window, "--format", "csv"]).output().unwrap();
    let text = String::from_utf8(csv.stdout).unwrap();
    assert!(text.starts_with("at,host,job,pid,tid,comm,") && text.contains(",wait_seconds.p99,"), "{text}");
    let none = top(&url, &["-n", "1", "--comm", "no-such-*", "--format", "json"]).output().unwrap();
    let none: Value = serde_json::from_slice(&none.stdout).unwrap();
    assert_eq!(none["loops"], serde_json::json!([]));

    let mut view = top(&url, &["-n", "6", "-i", "300ms", "--from-window", window, "--format", "json"]);
    let mut view = view.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(view.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    prometheus.kill();
    // A second poll may have been answered before the end came.
    let (mut good, mut last) = (first.clone(), Value::Null);
    for line in lines {
        last = serde_json::from_str(&line.unwrap()).unwrap();
        if last["error"].is_null() {
            good = last.clone();
        }
    }
    let output = view.wait_with_output().unwrap();
    let (code, stderr) = said(&output);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(first["error"], Value::Null);
    assert!(last["error"].as_str().is_some_and(|why| why.starts_with(&url)), "{last}");
    assert_eq!((&last["at"], &last["loops"]), (&good["at"], &good["loops"]));
    assert!(stderr.contains("loopscope: note: http://127.0.0.1:"), "{stderr}");
}

#[test]
fn what_cannot_be_asked_is_one_line_and_bad_input() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}");
    let cases: [(&str, &[&str], &str); 8] = [
        (&closed, &["-n", "1"], "nobody listens there"),
        ("prometheus:9090", &[], "a URL is wanted"),
        ("http://ann:sesame@127.0.0.1:9", &[], "--http.config.file"),
        (&closed, &["--pid", "1"], "--pid"),
        (&closed, &["--standalone"], "--standalone"),
        (&closed, &["--replay", "x"], "--replay"),
        (&closed, &["--from-window", "0"], "--from-window"),
        (&closed, &["--http.config.file", "/nonexistent.yml"], "/nonexistent.yml"),
    ];
    for (url, more, expected) in cases {
        let output = top(url, more).output().unwrap();
        let (code, stderr) = said(&output);
        assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{url} {more:?}: {stderr}");
        assert!(stderr.contains(expected) && !stderr.contains("sesame"), "{url} {more:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
