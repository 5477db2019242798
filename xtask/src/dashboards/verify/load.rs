//! Real load for the agent to look at: nginx and node under wrk, memcached, and servers that wait by poll, select and epoll.
//!
//! Everything listens on loopback, has ports of its own, and ends with its value.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    bench::{
        servers::{free_port, listening, nginx_configuration},
        started::{Output, Started},
    },
    debian, process,
};

/// The programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("memcached", "memcached"),
    ("node", "nodejs"),
    ("python3", "python3-minimal"),
    ("prometheus", "prometheus"),
];
/// Of the packages, those that start a server of their own.
const SERVICES: [(&str, &str); 3] =
    [("nginx-light", "nginx"), ("memcached", "memcached"), ("prometheus", "prometheus")];
/// Longer than any run: wrk wants a time.
const LONG: &str = "2h";

/// What runs.
pub struct Load(#[expect(dead_code, reason = "they end when they are dropped")] Vec<Started>);

/// Installs what is missing.
pub fn install() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| process::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    debian::install(&missing, "the dashboards are looked at with them")?;
    let services = SERVICES.iter().filter(|(package, _)| missing.contains(package));
    debian::stop_services(&services.map(|(_, service)| *service).collect::<Vec<_>>())
}

impl Load {
    /// Starts everything; `folder` is for the servers' files, `root` is the repository.
    pub fn start(root: &Path, folder: &Path) -> Result<Load> {
        let mut running = Vec::new();
        let port = free_port()?;
        let file = folder.join("nginx.conf");
        fs::write(&file, nginx_configuration(folder, port, 2, 1000))
            .context("write nginx's configuration")?;
        running.push(listening(program("nginx", &["-c", &file.to_string_lossy(), "-e", "stderr"])?, port)?);
        let pace = root.join("dashboards/load/pace.lua").to_string_lossy().into_owned();
        running.push(wrk(port, "16", &pace)?);
        let mut node = program("node", &[&root.join("dashboards/load/server.js").to_string_lossy()])?;
        let said = node.wait_for(Output::Out, "port ")?;
        let port =
            said.trim_start_matches("port ").trim().parse().with_context(|| format!("node said {said}"))?;
        running.push(node);
        running.push(wrk(port, "4", &pace)?);
        let port = free_port()?;
        let arguments = ["-u", "nobody", "-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-t", "2"];
        running.push(listening(program("memcached", &arguments)?, port)?);
        for _ in 0..4 {
            ask_memcached(port)?;
        }
        let mut sets = program("python3", &[&root.join("dashboards/load/sets.py").to_string_lossy()])?;
        sets.wait_for(Output::Out, "ready")?;
        running.push(sets);
        Ok(Load(running))
    }
}

fn program(name: &str, arguments: &[&str]) -> Result<Started> {
    let path = process::find(name).with_context(|| format!("{name} is not there"))?;
    Started::new(&path.to_string_lossy(), arguments)
}

fn wrk(port: u16, connections: &str, pace: &str) -> Result<Started> {
    let url = format!("http://127.0.0.1:{port}/");
    program("wrk", &["-t1", "-c", connections, "-d", LONG, "-s", pace, &url])
}

/// A connection that sets and gets until memcached has ended.
fn ask_memcached(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect to memcached")?;
    thread::spawn(move || {
        let mut answer = [0; 256];
        while stream.write_all(b"set k 0 0 5\r\nhello\r\nget k\r\n").is_ok()
            && stream.read(&mut answer).is_ok_and(|read| read > 0)
        {
            thread::sleep(Duration::from_millis(3));
        }
    });
    Ok(())
}
