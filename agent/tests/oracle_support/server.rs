//! The servers, on loopback ports, with nothing of theirs outside a folder of the test's own.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use super::{load::BODY, process::Process, until};
use crate::folder::Folder;

/// nginx's worker processes.
pub const NGINX_WORKERS: usize = 2;
/// memcached's worker threads.
pub const MEMCACHED_THREADS: usize = 4;

/// The id of the server that runs in a folder.
pub fn server_pid(folder: &Folder) -> u32 {
    until("the server's pid file", || fs::read_to_string(folder.file("pid")).ok()?.trim().parse().ok())
}

/// A port of 127.0.0.1 that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens.
pub fn wait_for(port: u16) {
    until("the server to listen", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
}

/// Waits until a process has that many children; their ids.
pub fn children(pid: u32, count: usize) -> BTreeSet<u32> {
    until("the workers to be there", || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let children: BTreeSet<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        (children.len() == count).then_some(children)
    })
}

/// nginx, not running yet: SIGCONT starts it.
pub fn nginx(folder: &Folder, port: u16) -> Process {
    Process::start_stopped("nginx", &nginx_arguments(folder, port, ""))
}

/// nginx with room for many connections, which it keeps.
pub fn nginx_idle(folder: &Folder, port: u16) -> Process {
    let events = "worker_connections 2048;";
    Process::start_stopped("nginx", &nginx_configured(folder, port, events, "10m"))
}

/// HAProxy with two threads, which answers by itself and keeps connections.
pub fn haproxy_idle(folder: &Folder, port: u16) -> Process {
    let configuration = format!(
        "global
            nbthread 2
            maxconn 2048
        defaults
            mode http
            timeout connect 5s
            timeout client 10m
            timeout server 10m
            timeout http-keep-alive 10m
        frontend front
            bind 127.0.0.1:{port}
            http-request return status 200 content-type text/plain string {BODY}\n"
    );
    fs::write(folder.file("conf"), configuration).unwrap();
    Process::start_stopped("haproxy", &["-db", "-f", &folder.file("conf")].map(str::to_owned))
}

/// Writes nginx's configuration; its arguments. Few events at a time, so that some waits are saturated.
pub fn nginx_arguments(folder: &Folder, port: u16, events: &str) -> Vec<String> {
    nginx_configured(folder, port, &format!("worker_connections 128; epoll_events 4; {events}"), "1s")
}

/// As [`nginx_arguments`], with this `events` block; idle connections are kept for `keep`.
fn nginx_configured(folder: &Folder, port: u16, events: &str, keep: &str) -> Vec<String> {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", folder.file(name)))
        .concat();
    let configuration = format!(
        "daemon off; user root; worker_processes {NGINX_WORKERS}; pid {};
        events {{ {events} }}
        http {{
            access_log off; keepalive_requests 1000000; keepalive_timeout {keep};
            {temporary}
            server {{
                listen 127.0.0.1:{port};
                default_type text/plain;
                location / {{ return 200 {BODY:?}; }}
            }}
        }}",
        folder.file("pid"),
    );
    fs::write(folder.file("conf"), configuration).unwrap();
    ["-c", &folder.file("conf"), "-e", &folder.file("log")].map(str::to_owned).to_vec()
}

/// memcached, not running yet: SIGCONT starts it.
pub fn memcached(port: u16) -> Process {
    let arguments = format!("-u root -l 127.0.0.1 -p {port} -U 0 -t {MEMCACHED_THREADS} -m 16 -c 2048");
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    Process::start_stopped("memcached", &arguments)
}

/// redis, not running yet: SIGCONT starts it.
pub fn redis(folder: &Folder, port: u16) -> Process {
    Process::start_stopped("redis-server", &redis_arguments(folder, port))
}

/// Its arguments: nothing is saved, so that it never forks.
pub fn redis_arguments(folder: &Folder, port: u16) -> Vec<String> {
    let (port, pid, dir) = (port.to_string(), folder.file("pid"), folder.file(""));
    let arguments = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--pidfile",
        &pid,
        "--dir",
        &dir,
    ];
    arguments.map(str::to_owned).to_vec()
}
