//! Times system calls, one after the other, for `cargo xtask bench`: what a call costs, with whatever is attached.
//!
//! `bench_calls [CPU]`: pins itself to that CPU (default: the last it may use). For each line `BATCHES CALLS` on
//! stdin it makes BATCHES batches of CALLS calls of each kind, the kinds in turns, and prints one JSON object: per
//! kind the least and the median ns per call of a batch. A batch into which the scheduler cuts is an outlier, which a
//! median of many short batches does not see. Ends with stdin. Must not use loopscope's own code.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, Write},
    mem,
    os::fd::RawFd,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

/// Batches of each kind before the first one that counts.
const WARM_UP: u32 = 10;

/// The calls' numbers; where the architecture lacks a call, its successor, which takes the same first arguments.
#[cfg(target_arch = "x86_64")]
mod numbers {
    pub const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_wait;
    pub const POLL: libc::c_long = libc::SYS_poll;
    pub const SELECT: libc::c_long = libc::SYS_select;
    /// poll's time-out is a number, ppoll's a pointer.
    pub const POLL_BY_POINTER: bool = false;
}

#[cfg(not(target_arch = "x86_64"))]
mod numbers {
    pub const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_pwait;
    pub const POLL: libc::c_long = libc::SYS_ppoll;
    pub const SELECT: libc::c_long = libc::SYS_pselect6;
    pub const POLL_BY_POINTER: bool = true;
}

/// A system call and its arguments.
struct Call {
    name: &'static str,
    number: libc::c_long,
    arguments: [libc::c_long; 6],
}

/// The descriptors and the memory that the calls point to.
struct World {
    epoll: RawFd,
    ready: RawFd,
    events: [libc::epoll_event; 8],
    polled: libc::pollfd,
    set: libc::fd_set,
    /// Zero, as a timeval and as a timespec.
    zero: [i64; 2],
}

fn main() -> Result<()> {
    let cpu =
        env::args().nth(1).map(|word| word.parse::<usize>()).transpose().context("the CPU is a number")?;
    let cpu = pin(cpu)?;
    let mut world = World::new()?;
    let calls = world.calls();
    let mut out = io::stdout();
    writeln!(out, "{}", json!({ "cpu": cpu, "pid": std::process::id() }))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (batches, count) = line.split_once(' ').context("a line is `BATCHES CALLS`")?;
        let timings = time(&calls, batches.trim().parse()?, count.trim().parse()?)?;
        writeln!(out, "{}", json!(timings))?;
    }
    Ok(())
}

impl World {
    /// One eventfd that stays readable, in one epoll instance, level-triggered.
    fn new() -> Result<Box<World>> {
        // SAFETY: both make a descriptor and take no memory.
        let (epoll, ready) = unsafe { (libc::epoll_create1(0), libc::eventfd(1, 0)) };
        ensure!(epoll >= 0 && ready >= 0, "cannot make descriptors: {}", io::Error::last_os_error());
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
        // SAFETY: `event` lives through the call.
        let added = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, ready, &raw mut event) };
        ensure!(added == 0, "cannot watch the eventfd: {}", io::Error::last_os_error());
        // SAFETY: the set is an array of integers, for which zero is a value; `ready` is far below FD_SETSIZE.
        let set = unsafe {
            let mut set = mem::zeroed();
            libc::FD_SET(ready, &raw mut set);
            set
        };
        let polled = libc::pollfd { fd: ready, events: libc::POLLIN, revents: 0 };
        Ok(Box::new(World { epoll, ready, events: [event; 8], polled, set, zero: [0; 2] }))
    }

    /// The calls; they point into this value, which is on the heap so that they stay true.
    fn calls(&mut self) -> [Call; 4] {
        let zero = (&raw mut self.zero) as libc::c_long;
        let set = (&raw mut self.set) as libc::c_long;
        let timeout = if numbers::POLL_BY_POINTER { zero } else { 0 };
        let events = (&raw mut self.events) as libc::c_long;
        let call = |name, number, arguments| Call { name, number, arguments };
        [
            call("epoll_wait", numbers::EPOLL_WAIT, [self.epoll.into(), events, 8, 0, 0, 0]),
            call("poll", numbers::POLL, [(&raw mut self.polled) as libc::c_long, 1, timeout, 0, 0, 0]),
            call("select", numbers::SELECT, [libc::c_long::from(self.ready) + 1, set, 0, 0, zero, 0]),
            call("getppid", libc::SYS_getppid, [0; 6]),
        ]
    }
}

/// Times every call; per name the least and the median of its batches, ns per call.
fn time(
    calls: &[Call],
    batches: u32,
    count: u32,
) -> Result<BTreeMap<&'static str, BTreeMap<&'static str, f64>>> {
    ensure!(batches > 0 && count > 0, "nothing to time");
    let mut seen: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for i in 0..WARM_UP.min(batches) + batches {
        for call in calls {
            let nanos = batch(call, count)?;
            if i >= WARM_UP.min(batches) {
                seen.entry(call.name).or_default().push(nanos / f64::from(count));
            }
        }
    }
    Ok(seen.into_iter().map(|(name, values)| (name, summary(values))).collect())
}

fn summary(mut values: Vec<f64>) -> BTreeMap<&'static str, f64> {
    values.sort_by(f64::total_cmp);
    let at = |i: usize| values.get(i).copied().unwrap_or_default();
    BTreeMap::from([("best", at(0)), ("median", at(values.len() / 2))])
}

/// The ns of `count` calls, each of which has to give something.
fn batch(call: &Call, count: u32) -> Result<f64> {
    let [a, b, c, d, e, f] = call.arguments;
    let mut fruitless = 0_u32;
    let started = Instant::now();
    for _ in 0..count {
        // SAFETY: the arguments are descriptors of this process, sizes, and pointers into a `World` that outlives
        // every call, as the system call of that number takes them.
        let given = unsafe { libc::syscall(call.number, a, b, c, d, e, f) };
        fruitless += u32::from(given <= 0);
    }
    let took = started.elapsed();
    if fruitless > 0 {
        bail!("{fruitless} of {count} calls of {} gave nothing: {}", call.name, io::Error::last_os_error());
    }
    Ok(took.as_nanos() as f64)
}

/// Pins this process to one CPU that it may use; which.
fn pin(wanted: Option<usize>) -> Result<usize> {
    // SAFETY: the set is an array of integers, for which zero is a value, and lives through the call.
    let allowed = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        let failed = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        ensure!(failed == 0, "cannot ask for the CPUs: {}", io::Error::last_os_error());
        set
    };
    // SAFETY: the number is below the size of the set.
    let may = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &allowed) };
    let cpu =
        wanted.or_else(|| (0..libc::CPU_SETSIZE as usize).rev().find(may)).context("no CPU may be used")?;
    ensure!(cpu < libc::CPU_SETSIZE as usize, "there is no CPU {cpu}");
    // SAFETY: as above.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    ensure!(failed == 0, "cannot run on CPU {cpu}: {}", io::Error::last_os_error());
    Ok(cpu)
}
