//! Throughput of real servers with loopscope off and on, in interleaved runs: what a user would notice.
//!
//! Server, load generator and agent share the machine, as they do in production; the servers have ports, folders and
//! configurations of their own.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::{
    figures::{Ratio, Spread, rotated, table},
    others,
    started::Started,
    tools::{Tool, Tools, need},
};
use crate::{debian, process};

/// Connections that the load generators keep open.
const CONNECTIONS: &str = "32";
/// Requests of redis-benchmark by which the number for the wanted time is found.
const TRIAL: f64 = 20_000.0;

/// A server's throughput, off and on.
#[derive(Serialize)]
pub struct Server {
    name: &'static str,
    seconds: u32,
    rows: Vec<Row>,
}

/// What one tool does to it.
#[derive(Serialize)]
struct Row {
    tool: Tool,
    /// Requests a second.
    throughput: Spread,
    /// On / off, of the same round.
    to_off: Option<Ratio>,
    rounds: Vec<f64>,
}

/// Measures nginx and redis.
pub fn measure(tools: &Tools, rounds: u32, quick: bool) -> Result<Vec<Server>> {
    install()?;
    let seconds = if quick { 1 } else { 4 };
    let folder = Folder::new()?;
    Ok(vec![nginx(tools, &folder, rounds, seconds)?, redis(tools, &folder, rounds, seconds)?])
}

fn install() -> Result<()> {
    let servers = [("nginx", "nginx-light"), ("redis-server", "redis-server")];
    let missing: Vec<(&str, &str)> =
        servers.into_iter().filter(|(program, _)| process::find(program).is_none()).collect();
    need(&[servers[0], servers[1], ("wrk", "wrk"), ("redis-benchmark", "redis-tools")])?;
    let services: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    debian::stop_services(&services)
}

/// One worker under wrk.
fn nginx(tools: &Tools, folder: &Folder, rounds: u32, seconds: u32) -> Result<Server> {
    let port = free_port()?;
    let file = folder.0.join("nginx.conf");
    fs::write(&file, nginx_configuration(&folder.0, port, 1, 100_000_000))
        .context("write nginx's configuration")?;
    let program = process::find("nginx").context("nginx is not there")?;
    let arguments = ["-c", &file.to_string_lossy(), "-e", "stderr"];
    let server = listening(Started::new(&program.to_string_lossy(), &arguments)?, port)?;
    let url = format!("http://127.0.0.1:{port}/");
    let time = format!("-d{seconds}s");
    let load = || {
        let wrk = Started::new("wrk", &["-t1", "-c", CONNECTIONS, &time, &url])?;
        let said = wrk.finish(Duration::from_secs(u64::from(seconds) + 30))?;
        wrk_throughput(&said).with_context(|| format!("read wrk's output: {said}"))
    };
    let rows = measure_server("nginx", tools, rounds, load)?;
    drop(server);
    Ok(Server { name: "nginx, 1 worker, wrk", seconds, rows })
}

/// GETs by redis-benchmark.
fn redis(tools: &Tools, folder: &Folder, rounds: u32, seconds: u32) -> Result<Server> {
    let port = free_port()?;
    let (port_text, folder) = (port.to_string(), folder.0.to_string_lossy());
    let arguments =
        ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &folder];
    let server = listening(Started::new("redis-server", &arguments)?, port)?;
    let load = |requests: f64| {
        let requests = format!("{requests:.0}");
        let arguments = ["-p", &port_text, "-t", "get", "-c", CONNECTIONS, "-n", &requests, "--csv"];
        let said = Started::new("redis-benchmark", &arguments)?.finish(Duration::from_secs(120))?;
        redis_throughput(&said).with_context(|| format!("read redis-benchmark's output: {said}"))
    };
    let requests = (load(TRIAL)? * f64::from(seconds)).max(TRIAL);
    let rows = measure_server("redis", tools, rounds, || load(requests))?;
    drop(server);
    Ok(Server { name: "redis GET, redis-benchmark", seconds, rows })
}

/// Off and on, each round from another beginning.
fn measure_server(
    name: &str,
    tools: &Tools,
    rounds: u32,
    load: impl Fn() -> Result<f64>,
) -> Result<Vec<Row>> {
    let states: Vec<Tool> = std::iter::once(Tool::Bare).chain(tools.backends()).collect();
    let mut seen: Vec<(Tool, Vec<f64>)> = states.iter().map(|tool| (*tool, Vec::new())).collect();
    let mut patience = others::patience(rounds < 3);
    load()?;
    for round in 0..rounds {
        others::wait_until_alone(&mut patience);
        println!("{name}: round {} of {rounds}", round + 1);
        for tool in rotated(&states, round) {
            let attached = tools.attach(tool, 0)?;
            let throughput = load()?;
            attached.detach()?;
            seen.iter_mut().filter(|(of, _)| *of == tool).for_each(|(_, values)| values.push(throughput));
        }
    }
    let off = seen.first().map(|(_, values)| values.clone()).unwrap_or_default();
    seen.into_iter().map(|(tool, values)| Row::new(tool, values, &off)).collect()
}

impl Row {
    fn new(tool: Tool, rounds: Vec<f64>, off: &[f64]) -> Result<Row> {
        let pairs: Vec<(f64, f64)> = rounds.iter().copied().zip(off.iter().copied()).collect();
        let to_off = if tool == Tool::Bare { None } else { Ratio::of(&pairs) };
        let throughput = Spread::of(rounds.iter().copied()).context("no rounds")?;
        Ok(Row { tool, throughput, to_off, rounds })
    }
}

impl Server {
    /// The part of the document.
    pub fn markdown(servers: &[Server]) -> String {
        let seconds = servers.first().map_or(0, |server| server.seconds);
        let rounds =
            servers.iter().flat_map(|server| &server.rows).map(|row| row.rounds.len()).max().unwrap_or(0);
        let rows: Vec<Vec<String>> = servers
            .iter()
            .flat_map(|server| server.rows.iter().map(move |row| (server, row)))
            .map(|(server, row)| {
                let name = if row.tool == Tool::Bare { "off" } else { row.tool.name() };
                let ratio = row.to_off.map_or_else(|| "-".to_owned(), |ratio| ratio.show());
                vec![server.name.to_owned(), name.to_owned(), row.throughput.show(0), ratio]
            })
            .collect();
        format!(
            "## Servers, requests per second\n\n\
             {rounds} interleaved rounds of about {seconds} s each, {CONNECTIONS} connections on loopback; server, load \
             generator and agent share the machine. Median, least and greatest; the ratio is of on to off.\n\n{}",
            table(&["", "loopscope", "requests/s", "on / off"], &rows)
        )
    }
}

/// A folder that is gone with its value.
pub struct Folder(pub PathBuf);

impl Folder {
    /// A new one.
    pub fn new() -> Result<Folder> {
        let path = env::temp_dir().join(format!("loopscope-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// nginx on `port`, with so many workers on one listening socket, that ends a connection after so many requests.
pub fn nginx_configuration(folder: &Path, port: u16, workers: u32, requests: u32) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", file(name)))
        .concat();
    format!(
        "daemon off; user root; worker_processes {workers}; pid {};
        events {{ worker_connections 256; }}
        http {{
            access_log off; keepalive_requests {requests};
            {temporary}
            server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"loopscope\"; }} }}
        }}",
        file("nginx.pid")
    )
}

/// A port of 127.0.0.1 that nobody listens on.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a port")?;
    Ok(listener.local_addr().context("find a port")?.port())
}

/// Waits until the server listens.
pub fn listening(mut server: Started, port: u16) -> Result<Started> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > deadline {
            bail!("nobody listens on port {port}: {}", server.said());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

/// `Requests/sec:  12345.67`; None also where there were errors.
fn wrk_throughput(said: &str) -> Option<f64> {
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        return None;
    }
    said.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok())
}

/// `"GET","12345.67",...`.
fn redis_throughput(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("\"GET\""))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_read() {
        assert_eq!(
            wrk_throughput("Running\n  2 requests\nRequests/sec:  51234.50\nTransfer/sec: 1MB\n"),
            Some(51234.5)
        );
        assert_eq!(wrk_throughput("  Socket errors: connect 1\nRequests/sec:  5.0\n"), None);
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"123456.79\",\"0.2\"\n";
        assert_eq!(redis_throughput(csv), Some(123_456.79));
        assert_eq!(redis_throughput("no such thing"), None);
    }

    #[test]
    fn a_folder_is_gone_with_its_value() {
        let folder = Folder::new().unwrap();
        let path = folder.0.clone();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
