//! What reading interest sets costs, for `cargo xtask bench`: the reader, and the process that is read.
//!
//! Prints one JSON object. `us_per_1000_fds`: a pass over a process with 1,000 descriptors more, none of them epoll.
//! `ns_per_entry`: a pass over 15,000 entries more. Both are CPU time of the reading thread, user space included.
//! `longest_run_us`: the longest stretch that the program ran. `longest_ctl_us`: the longest epoll_ctl of a thread that
//! adds and removes an entry of those 15,000 without pause, alone, beside passes, and beside reads of
//! /proc/PID/fdinfo, which hold the instance's lock; the two threads keep to a CPU each, or a time slice of some 3 ms
//! that one waits for the other would be the longest. `backlog_ns`: an epoll_wait that finds 64 level-triggered entries
//! ready, without probes, with them, and with them and the length of the ready list. Needs root.

use std::{
    fs, io,
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use loopscope::{
    kernel::{Options, Watched},
    reactor::{Reactor, Watch},
};
use rustix::{
    event::{EventfdFlags, epoll, eventfd},
    fd::OwnedFd,
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, Timespec, clock_gettime},
};
use serde_json::json;

/// Descriptors of the process that has no entries.
const FDS: usize = 1000;
/// Entries of the instance.
const ENTRIES: usize = 15_000;
/// Passes of which the median is taken.
const PASSES: usize = 101;
/// How long epoll_ctl is watched.
const STRETCH: Duration = Duration::from_secs(2);
/// Entries that a wait finds ready: as far as the probes look.
const READY: usize = 64;
/// Waits of which the time is taken, and how often that is done each way in turn.
const WAITS: u32 = 10_000;
const TURNS: usize = 7;

fn main() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let reactor = Reactor::new()?;
    let [bare, off, on] = backlog()?;
    let mut watch = Watch::start(&options(false), &reactor)?;
    let (without, _) = passes(&mut watch)?;
    let plain = events(FDS)?;
    let (descriptors, _) = passes(&mut watch)?;
    drop(plain);
    let instance = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let entries = events(ENTRIES)?;
    let (before, _) = passes(&mut watch)?;
    for event in &entries {
        epoll::add(&instance, event, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    let (after, longest_run) = passes(&mut watch)?;
    let file = format!("/proc/self/fdinfo/{}", instance.as_raw_fd());
    let alone = longest_ctl(&instance, || {
        thread::sleep(Duration::from_millis(1));
        Ok(())
    })?;
    let beside_passes = longest_ctl(&instance, || watch.read_interest().map(drop))?;
    let beside_fdinfo = longest_ctl(&instance, || Ok(fs::read(&file).map(drop)?))?;
    println!(
        "{}",
        json!({
            "entries": ENTRIES,
            "us_per_1000_fds": (descriptors - without) / 1e3,
            "ns_per_entry": (after - before) / ENTRIES as f64,
            "longest_run_us": longest_run / 1e3,
            "longest_ctl_us": { "alone": alone, "passes": beside_passes, "fdinfo": beside_fdinfo },
            "backlog_ns": { "bare": bare, "off": off, "on": on },
        })
    );
    Ok(())
}

/// The probes, on this process alone.
fn options(backlog: bool) -> Options {
    let watched = Watched { pids: vec![std::process::id()], ..Watched::default() };
    Options { watched, backlog, ..Options::default() }
}

/// ns of CPU time of a wait that finds many entries ready: without probes, with them, and with the ready list's length.
fn backlog() -> Result<[f64; 3]> {
    let instance = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let ready = events(READY)?;
    for event in &ready {
        rustix::io::write(event, &1_u64.to_ne_bytes())?;
        epoll::add(&instance, event, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        for (times, probes) in times.iter_mut().zip([None, Some(false), Some(true)]) {
            // An instance of the probes' own reactor each time: it is watched until they are detached.
            let reactor = Reactor::new()?;
            let _watch = probes.map(|backlog| Watch::start(&options(backlog), &reactor)).transpose()?;
            let mut found = Vec::with_capacity(READY);
            let start = cpu();
            for _ in 0..WAITS {
                found.clear();
                let room = rustix::buffer::spare_capacity(&mut found);
                epoll::wait(&instance, room, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
            }
            times.push((cpu() - start) / f64::from(WAITS));
            anyhow::ensure!(found.len() == READY, "{} entries were ready", found.len());
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.get(TURNS / 2).copied().unwrap_or_default()
    }))
}

fn events(count: usize) -> io::Result<Vec<OwnedFd>> {
    (0..count).map(|_| Ok(eventfd(0, EventfdFlags::CLOEXEC)?)).collect()
}

/// CPU time of this thread, ns.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Median CPU time of a pass, and the longest run of the program in any of them, ns.
fn passes(watch: &mut Watch) -> Result<(f64, f64)> {
    let mut times = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..PASSES {
        let start = cpu();
        longest = longest.max(watch.read_interest()?);
        times.push(cpu() - start);
    }
    times.sort_by(f64::total_cmp);
    Ok((times.get(PASSES / 2).copied().unwrap_or_default(), longest.as_nanos() as f64))
}

/// The first two of these CPUs, each alone.
fn two_cpus(of: &CpuSet) -> Result<[CpuSet; 2]> {
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| of.is_set(cpu)).map(|cpu| {
        let mut set = CpuSet::new();
        set.set(cpu);
        set
    });
    Ok([cpus.next().context("no CPU")?, cpus.next().context("two CPUs are needed")?])
}

/// The longest epoll_ctl of another thread while this one does something again and again, us: the greatest, and the
/// 99.99th percentile, which a scheduler that takes the thread's CPU away does not reach.
fn longest_ctl(instance: &OwnedFd, mut disturb: impl FnMut() -> Result<()>) -> Result<serde_json::Value> {
    let stop = AtomicBool::new(false);
    let extra = eventfd(0, EventfdFlags::CLOEXEC)?;
    let everywhere = sched_getaffinity(None)?;
    let [first, second] = two_cpus(&everywhere)?;
    sched_setaffinity(None, &first)?;
    let times = thread::scope(|scope| {
        let changing = scope.spawn(|| -> Result<Vec<u64>> {
            sched_setaffinity(None, &second)?;
            let mut times = Vec::with_capacity(1 << 22);
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                epoll::add(instance, &extra, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
                let between = Instant::now();
                epoll::delete(instance, &extra)?;
                times.push(u64::try_from((between - start).as_nanos())?);
                times.push(u64::try_from(between.elapsed().as_nanos())?);
            }
            Ok(times)
        });
        let end = Instant::now() + STRETCH;
        let mut result = Ok(());
        while result.is_ok() && Instant::now() < end {
            result = disturb();
        }
        stop.store(true, Ordering::Relaxed);
        let times = changing.join().map_err(|_| anyhow::anyhow!("the changing thread ended early"));
        result.and(times).and_then(|times| times)
    })?;
    sched_setaffinity(None, &everywhere)?;
    let mut times = times;
    times.sort_unstable();
    let at =
        |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default() as f64 / 1e3;
    let longest = times.last().copied().unwrap_or_default() as f64 / 1e3;
    Ok(json!({ "longest": longest, "p9999": at(0.9999), "calls": times.len() }))
}
