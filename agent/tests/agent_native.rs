//! Native histograms, as Debian's Prometheus takes them: with its flag, by protobuf, schema 2.
#![cfg(test)]
#![cfg(feature = "native-histograms")]

mod common;

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{
    Workload, cannot_run,
    exporter::{Agent, get},
    require_bpf,
};
use serde_json::Value;

/// From the start of Prometheus to its first scrapes it takes five seconds and more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Prometheus with its data, both gone at the end.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: std::path::PathBuf,
}

impl Prometheus {
    fn start(program: &std::path::Path, target: SocketAddr) -> Prometheus {
        let folder = env::temp_dir().join(format!("loopscope-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let scrapes = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: loopscope\n    static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(folder.join("prometheus.yml"), scrapes).unwrap();
        // Free now, and most likely still so in a moment.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(program)
            .current_dir(&folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .args(["--enable-feature=native-histograms", &format!("--web.listen-address={address}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { child, address, folder }
    }

    /// The value of an expression, once it has one.
    fn value(&self, expression: &str) -> f64 {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let start = Instant::now();
        loop {
            let is_up = std::net::TcpStream::connect(self.address).is_ok();
            let body = if is_up {
                get(self.address, &format!("/api/v1/query?query={encoded}")).2
            } else {
                String::new()
            };
            // Its answers may come in chunks; the document is what lies between the braces.
            let document = body.find('{').zip(body.rfind('}')).map(|(from, to)| &body[from..=to]);
            let document: Value = serde_json::from_str(document.unwrap_or_default()).unwrap_or_default();
            let value = &document["data"]["result"][0]["value"][1];
            if let Some(value) =
                value.as_str().and_then(|value| value.parse::<f64>().ok()).filter(|value| !value.is_nan())
            {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "{expression} has no value: {body}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Our own child, not waited for yet; an error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn prometheus_takes_native_histograms_and_finds_every_wait_in_them() {
    let path = env::var_os("PATH").unwrap_or_default();
    let Some(program) = env::split_paths(&path).map(|dir| dir.join("prometheus")).find(|file| file.is_file())
    else {
        return cannot_run("prometheus is not in PATH (Debian package prometheus)");
    };
    if !require_bpf() {
        return;
    }
    let agent = Agent::start(&["--native-histograms", "--comm", "native-load"]);
    let prometheus = Prometheus::start(&program, agent.address);
    let workload = Workload::start("native-load= results 40");
    workload.said();
    workload.finish();
    let waits = agent.scrape().epoll("wait_seconds_count", "native-load", "");
    assert!(waits > 100.0, "{waits}");
    let counted = "sum(histogram_count(loopscope_wait_seconds{comm=\"native-load\",mechanism=\"epoll\"}))";
    // A scrape may have come in the middle of it.
    let start = Instant::now();
    while prometheus.value(counted) != waits {
        assert!(start.elapsed() < PATIENCE, "{} of {waits}", prometheus.value(counted));
        thread::sleep(Duration::from_millis(200));
    }
    let classic = agent.scrape().epoll("wait_seconds_sum", "native-load", "");
    let sum = prometheus
        .value("sum(histogram_sum(loopscope_wait_seconds{comm=\"native-load\",mechanism=\"epoll\"}))");
    assert!((sum - classic).abs() < 1e-9, "{sum} and {classic}");
    let median = prometheus
        .value("histogram_quantile(0.5, loopscope_wait_seconds{comm=\"native-load\",mechanism=\"epoll\"})");
    assert!((0.0..60.0).contains(&median), "{median}");
    // What the classic buckets have below a bound, the native ones have too.
    let bound = 2.0_f64.powi(-6);
    let below = agent.scrape().epoll("wait_seconds_bucket", "native-load", &format!(",le=\"{bound}\""));
    let expression = format!(
        "histogram_fraction(0, {bound}, loopscope_wait_seconds{{comm=\"native-load\",mechanism=\"epoll\"}}) * {waits}"
    );
    let found = prometheus.value(&expression);
    assert!((found - below).abs() < 1e-6, "{found} and {below} of {waits} are below {bound} s");
}
