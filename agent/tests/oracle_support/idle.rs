//! Servers with many connections that stay open and idle, and their interest sets by both accounts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    net::TcpStream,
};

use loopscope::{
    kernel::{Options, Watched},
    reactor::{Reactor, Watch},
};

use super::{load, until};
use crate::fdinfo::{oracle, seen};

/// Connections that stay.
pub const CONNECTIONS: usize = 1000;

/// Lets this process and the servers that it starts from now on open as many descriptors: more than many shells allow.
pub fn raise_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
}

/// Opens them, one request on each, so that the server has taken them all; they stay open as long as the value.
pub fn connections(port: u16, question: &str, end: &str) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = load::connect(port);
        load::ask(&mut stream, question, end, 1);
        stream
    };
    (0..CONNECTIONS).map(open).collect()
}

/// The epoll descriptors of a process.
fn instances(pid: u32) -> Vec<i32> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let epoll = links.filter(|link| {
        fs::read_link(link.path()).is_ok_and(|link| link.to_str() == Some("anon_inode:[eventpoll]"))
    });
    epoll.map(|link| link.file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// Compares every interest set of these processes, entry by entry; the entries that they have together.
pub fn compare(pids: &BTreeSet<u32>) -> usize {
    let reactor = Reactor::new().unwrap();
    let watched = Watched { pids: pids.iter().copied().collect(), ..Watched::default() };
    let mut watch = Watch::start(&Options { watched, ..Options::default() }, &reactor).unwrap();
    let instances: Vec<(u32, i32)> =
        pids.iter().flat_map(|pid| instances(*pid).into_iter().map(|epfd| (*pid, epfd))).collect();
    assert!(instances.len() >= pids.len(), "{instances:?}");
    // A server may do something of its own just between the two: then they are compared again.
    let (sets, expected) = until("the sets to be equal", || {
        let before: BTreeMap<_, _> =
            instances.iter().map(|(pid, epfd)| ((*pid, *epfd), oracle(*pid, *epfd))).collect();
        watch.read_interest().unwrap();
        let sets: BTreeMap<(u32, i32), Vec<(u32, u32)>> = watch
            .window()
            .instances
            .iter()
            .filter_map(|instance| instance.set.as_ref())
            .flat_map(|set| set.holders.iter().map(|holder| (*holder, seen(set))))
            .collect();
        let after: BTreeMap<_, _> =
            instances.iter().map(|(pid, epfd)| ((*pid, *epfd), oracle(*pid, *epfd))).collect();
        (before == after).then_some((sets, after))
    });
    assert_eq!(sets, expected, "left: loopscope; right: /proc/PID/fdinfo");
    expected.values().map(Vec::len).sum()
}

/// That the connections are there still: a server that had closed them would have nothing to compare.
pub fn still_there(connections: Vec<TcpStream>) {
    for mut stream in connections {
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0]);
        assert!(
            read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "the server hung up"
        );
    }
}
