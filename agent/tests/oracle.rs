//! The report against independent counters, on real servers under load: the counts must be equal.
//!
//! `strace -c` is asked where it is sound (nginx, whose processes leave by themselves), bpftrace on the exits of
//! the system calls everywhere. Both, and the report, are there before the server begins and stay until it ended,
//! so that no call is at an edge of a window.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports by its panic, in its helpers too"
)]

#[path = "common/fdinfo.rs"]
mod fdinfo;
#[path = "common/folder.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod folder;
mod oracle_support;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use folder::Folder;
use loopscope::report::{
    Report,
    document::{Lost, Mechanism},
};
use oracle_support::{
    bpftrace::{Bpftrace, Who},
    count::Counted,
    idle, load,
    process::{Process, Signal, interrupt, send},
    report::Watching,
    requirements, server,
    strace::{Calls, Strace},
};

/// One test at a time: what a test attaches and detaches must not disturb the counting of another.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits its turn; None where this host cannot run these tests.
fn turn(programs: &[&str]) -> Option<MutexGuard<'static, ()>> {
    let turn = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    requirements::met(programs).then_some(turn)
}

/// What the load of these tests has at least: a comparison of zeros would prove nothing.
fn assert_not_idle(counted: &Counted) {
    let total = counted.total();
    let waits = &total.waits;
    assert!(waits.ready > 1_000 && waits.events >= waits.ready, "{total:?}");
    assert!(waits.interrupted > 0 && waits.timeout > 0 && waits.finite > 0, "{total:?}");
    assert!(total.ctl.add > 10, "{total:?}");
}

/// Nothing was lost, and each of these threads has one row, of an epoll loop that ended.
fn assert_one_loop_each(report: &Report, comm: &str, pids: &BTreeSet<u32>, threads: usize) {
    assert_eq!(report.lost, Lost::default());
    let rows =
        || report.loops.iter().filter(|row| pids.contains(&row.pid) && row.mechanism == Mechanism::Epoll);
    for row in rows() {
        assert!(row.is_loop && row.ended && row.comm == comm && row.instance.is_some(), "{row:?}");
        assert_eq!(row.wait_seconds.count, row.waits, "{row:?}");
        let failed = row.results.interrupted + row.results.error;
        let per_wait = &row.events_per_wait;
        assert_eq!((per_wait.count, per_wait.sum), (row.waits - failed, row.events), "{row:?}");
    }
    let tids: BTreeSet<u32> = rows().map(|row| row.tid).collect();
    let of: BTreeSet<u32> = rows().map(|row| row.pid).collect();
    assert_eq!((rows().count(), tids.len(), &of), (threads, threads, pids), "{:#?}", report.loops);
}

/// Disturbs these processes now and then, under load and once after it, however long it takes: a server that is busy all
/// along is in no wait that could be interrupted.
fn disturbed(pids: &BTreeSet<u32>, how: impl Fn(u32) + Sync, load: impl FnOnce()) {
    let disturb = || {
        std::thread::sleep(Duration::from_millis(100));
        pids.iter().for_each(|pid| how(*pid));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| (0..10).for_each(|_| disturb()));
        load();
    });
    disturb();
}

/// Ends the server, then both counters, and compares row by row and instance by instance.
fn compare(server: Process, watching: Watching, bpftrace: Bpftrace, pids: &BTreeSet<u32>) -> Report {
    server.finish();
    let report = watching.stop();
    let expected = bpftrace.stop(pids);
    let seen = Counted::of_report(&report, pids);
    assert_eq!(seen, expected, "left: loopscope; right: bpftrace");
    assert_not_idle(&expected);
    eprintln!("equal to bpftrace in {} loops: {:?}", seen.waits.len(), seen.total());
    report
}

#[test]
fn memcached_counts_as_bpftrace_counts() {
    let Some(_turn) = turn(&["memcached", "bpftrace", "unshare", "mount", "sh"]) else { return };
    let port = server::free_port();
    let memcached = server::memcached(port);
    let pids = BTreeSet::from([memcached.pid()]);
    let bpftrace = Bpftrace::start(Who::Process(memcached.pid()));
    let watching = Watching::start();
    memcached.signal(Signal::CONT);
    server::wait_for(port);
    disturbed(&pids, interrupt, || load::memcached(port));
    memcached.signal(Signal::TERM);
    let report = compare(memcached, watching, bpftrace, &pids);
    // Four workers, and the main thread, which accepts.
    assert_one_loop_each(&report, "memcached", &pids, server::MEMCACHED_THREADS + 1);
}

#[test]
fn redis_counts_as_bpftrace_counts() {
    let programs = ["redis-server", "redis-benchmark", "bpftrace", "unshare", "mount", "sh"];
    let Some(_turn) = turn(&programs) else { return };
    let (port, folder) = (server::free_port(), Folder::new("oracle"));
    let redis = server::redis(&folder, port);
    let pids = BTreeSet::from([redis.pid()]);
    let bpftrace = Bpftrace::start(Who::Process(redis.pid()));
    let watching = Watching::start();
    redis.signal(Signal::CONT);
    server::wait_for(port);
    disturbed(&pids, interrupt, || load::redis(port));
    redis.signal(Signal::TERM);
    let report = compare(redis, watching, bpftrace, &pids);
    assert_one_loop_each(&report, "redis-server", &pids, 1);
}

#[test]
fn redis_counts_as_strace_counts() {
    let Some(_turn) = turn(&["redis-server", "redis-benchmark", "strace"]) else { return };
    let (port, folder) = (server::free_port(), Folder::new("oracle"));
    let watching = Watching::start();
    let strace = Strace::start(&folder, "redis-server", &server::redis_arguments(&folder, port));
    let pids = BTreeSet::from([server::server_pid(&folder)]);
    server::wait_for(port);
    load::redis(port);
    pids.iter().for_each(|pid| send(*pid, Signal::TERM));
    let calls = strace.finish();
    let report = watching.stop();
    let seen = assert_equal_to_strace(&report, &pids, &calls);
    assert_eq!((seen.instances, 0), calls.sum(&["epoll_create", "epoll_create1"]));
    let (waits, ctl) = (seen.total().waits, seen.total().ctl);
    // No signal that redis handles is sent to it here.
    assert!(waits.ready > 1_000 && waits.timeout > 0 && ctl.add > 10, "{waits:?} {ctl:?}");
    assert_one_loop_each(&report, "redis-server", &pids, 1);
}

#[test]
fn nginx_counts_as_bpftrace_counts() {
    let Some(_turn) = turn(&["nginx", "bpftrace", "unshare", "mount", "sh"]) else { return };
    let (port, folder) = (server::free_port(), Folder::new("oracle"));
    let nginx = server::nginx(&folder, port);
    let bpftrace = Bpftrace::start(Who::Comm("nginx"));
    let watching = Watching::start();
    nginx.signal(Signal::CONT);
    let pids = nginx_under_load(nginx.pid(), port, interrupt);
    nginx.signal(Signal::QUIT);
    let report = compare(nginx, watching, bpftrace, &pids);
    assert_one_loop_each(&report, "nginx", &pids, server::NGINX_WORKERS);
}

/// Loads it, and disturbs its workers; their ids.
fn nginx_under_load(master: u32, port: u16, how: fn(u32)) -> BTreeSet<u32> {
    server::wait_for(port);
    let workers = server::children(master, server::NGINX_WORKERS);
    disturbed(&workers, how, || load::http(port));
    workers
}

/// nginx under strace, with this in the `events` block of its configuration, ended by `signal`.
fn nginx_under_strace(events: &str, signal: Signal) {
    let Some(_turn) = turn(&["nginx", "strace", "sh"]) else { return };
    let (port, folder) = (server::free_port(), Folder::new("oracle"));
    let watching = Watching::start();
    let strace = Strace::start(&folder, "nginx", &server::nginx_arguments(&folder, port, events));
    let master = server::server_pid(&folder);
    // What a tracer sees of a stop is not always one; at this signal nginx opens its logs again.
    let workers = nginx_under_load(master, port, |pid| send(pid, Signal::USR1));
    send(master, signal);
    let calls = strace.finish();
    let report = watching.stop();

    let seen = assert_equal_to_strace(&report, &workers, &calls);
    // The master tries whether there is epoll at all: that instance is never waited on, and has no row.
    assert_eq!((seen.instances + 1, 0), calls.sum(&["epoll_create", "epoll_create1"]));
    assert_not_idle(&seen);
    assert_one_loop_each(&report, "nginx", &workers, server::NGINX_WORKERS);
}

/// The report counts as strace did for these processes.
fn assert_equal_to_strace(report: &Report, pids: &BTreeSet<u32>, calls: &Calls) -> Counted {
    let seen = Counted::of_report(report, pids);
    let (waits, ctl) = (seen.total().waits, seen.total().ctl);
    assert_eq!((waits.calls(), waits.failed()), calls.sum(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]));
    assert_eq!((ctl.calls(), ctl.errors), calls.sum(&["epoll_ctl"]));
    eprintln!("equal to strace: {calls:?}");
    seen
}

#[test]
fn nginx_that_quits_counts_as_strace_counts() {
    // Whoever has the mutex adds the listener, and deletes it again.
    nginx_under_strace("accept_mutex on; accept_mutex_delay 20ms;", Signal::QUIT);
}

#[test]
fn nginx_that_is_terminated_counts_as_strace_counts() {
    nginx_under_strace("multi_accept on;", Signal::TERM);
}

/// The interest sets of a server with idle connections, against /proc/PID/fdinfo.
fn idle_sets_equal_proc(port: u16, question: &str, end: &str, pids: &BTreeSet<u32>) {
    let connections = idle::connections(port, question, end);
    let entries = idle::compare(pids);
    eprintln!("equal to /proc/PID/fdinfo: {entries} entries of {} processes", pids.len());
    assert!(entries > idle::CONNECTIONS, "{entries}");
    idle::still_there(connections);
}

#[test]
fn interest_sets_of_nginx_equal_what_proc_says() {
    let Some(_turn) = turn(&["nginx", "sh"]) else { return };
    idle::raise_limit();
    let (port, folder) = (server::free_port(), Folder::new("oracle"));
    let nginx = server::nginx_idle(&folder, port);
    nginx.signal(Signal::CONT);
    server::wait_for(port);
    let workers = server::children(nginx.pid(), server::NGINX_WORKERS);
    idle_sets_equal_proc(port, load::GET, load::BODY, &workers);
}

#[test]
fn interest_sets_of_haproxy_equal_what_proc_says() {
    let Some(_turn) = turn(&["haproxy", "sh"]) else { return };
    idle::raise_limit();
    let (port, folder) = (server::free_port(), Folder::new("oracle"));
    let haproxy = server::haproxy_idle(&folder, port);
    haproxy.signal(Signal::CONT);
    server::wait_for(port);
    idle_sets_equal_proc(port, load::GET, load::BODY, &BTreeSet::from([haproxy.pid()]));
}

#[test]
fn interest_sets_of_memcached_equal_what_proc_says() {
    let Some(_turn) = turn(&["memcached", "sh"]) else { return };
    idle::raise_limit();
    let port = server::free_port();
    let memcached = server::memcached(port);
    memcached.signal(Signal::CONT);
    server::wait_for(port);
    idle_sets_equal_proc(port, "mn\r\n", "MN\r\n", &BTreeSet::from([memcached.pid()]));
}
