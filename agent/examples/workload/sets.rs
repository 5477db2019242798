//! poll, ppoll, select and pselect6: every result, stops, kills and gaps, counted on this side of the call.
//!
//! Each case is a thread or a process of its own, so that its row can be told by its id. Must not wait by any other
//! call in such a thread, or the row would hold more than the case.

use std::{
    fs,
    os::fd::{AsRawFd, IntoRawFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::{
    io::{Errno, fcntl_dupfd_cloexec},
    process::{Resource, getrlimit},
};
use serde_json::{Value, json};

use crate::{calls, tally};

/// Numbers of poll and select, or of what stands in for them.
#[cfg(target_arch = "x86_64")]
const PLAIN: [libc::c_long; 2] = [libc::SYS_poll, libc::SYS_select];
#[cfg(not(target_arch = "x86_64"))]
const PLAIN: [libc::c_long; 2] = [libc::SYS_ppoll, libc::SYS_pselect6];

/// Size of a full set, in bits: what most programs pass to select.
const FD_SETSIZE: usize = 1024;
/// Waits after which poll or select calls are a loop.
const LOOP_WAITS: usize = 16;

/// Which call waits.
#[derive(Clone, Copy, Debug, Default)]
pub enum Call {
    /// poll, or what stands in for it.
    #[default]
    Poll,
    /// ppoll.
    Ppoll,
    /// select, or what stands in for it.
    Select,
    /// pselect6.
    Pselect6,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 4] = [Call::Poll, Call::Ppoll, Call::Select, Call::Pselect6];

    fn number(self) -> libc::c_long {
        match self {
            Call::Poll => PLAIN[0],
            Call::Ppoll => libc::SYS_ppoll,
            Call::Select => PLAIN[1],
            Call::Pselect6 => libc::SYS_pselect6,
        }
    }

    fn is_poll(self) -> bool {
        matches!(self, Call::Poll | Call::Ppoll)
    }
}

/// A time-out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None: wait for ever.
    Infinite,
    /// Do not wait.
    Zero,
    /// At most so many ms.
    Millis(u16),
    /// More nanoseconds than a second has.
    Bad,
    /// Behind an address that is not mapped.
    Unreadable,
}

/// A thread's waits by one call, and what came of them.
#[derive(Default)]
pub struct Waiter {
    call: Call,
    results: [u64; 5],
    timeouts: [u64; 4],
    events: u64,
    nfds: [u64; 3],
    bytes: [u64; 2],
    brackets: Vec<[u64; 2]>,
}

impl Waiter {
    /// The calling thread by `call`.
    pub fn new(call: Call) -> Self {
        Waiter { call, brackets: Vec::with_capacity(1024), ..Waiter::default() }
    }

    /// One wait for reading, with as many nfds as the call needs or programs pass.
    pub fn wait(&mut self, fds: &[i32], limit: Limit) -> Outcome {
        let nfds = if self.call.is_poll() { fds.len() } else { FD_SETSIZE };
        self.wait_for(fds, nfds, false, limit)
    }

    /// One wait; select looks for exceptions too if `except`.
    fn wait_for(&mut self, fds: &[i32], nfds: usize, except: bool, limit: Limit) -> Outcome {
        let (bracket, result) = match self.call.is_poll() {
            true => poll(self.call, fds, nfds, limit),
            false => select(self.call, fds, nfds, except, limit),
        };
        self.brackets.push(bracket);
        self.count(nfds as u64, 1 + u64::from(except), limit, result);
        result
    }

    /// Takes in what a wait returned.
    fn count(&mut self, nfds: u64, sets: u64, limit: Limit, result: Outcome) {
        let failed = result.is_err_and(|error| error != Errno::INTR);
        let [ready, timeout, empty, interrupted, error] = &mut self.results;
        *match result {
            Ok(0) if limit == Limit::Zero => empty,
            Ok(0) => timeout,
            Ok(_) => ready,
            Err(_) if failed => error,
            Err(_) => interrupted,
        } += 1;
        let [infinite, zero, finite, unknown] = &mut self.timeouts;
        *match limit {
            Limit::Infinite => infinite,
            Limit::Zero => zero,
            Limit::Millis(_) | Limit::Bad => finite,
            Limit::Unreadable => unknown,
        } += 1;
        self.events += result.unwrap_or(0) as u64;
        if !failed {
            self.nfds = [self.nfds[0] + 1, self.nfds[1] + nfds, self.nfds[2].max(nfds)];
        }
        let (read, size) = match self.call.is_poll() {
            true => (!failed, [nfds * 8, nfds * 2]),
            // The kernel has read the sets when it finds a descriptor in them that is not open.
            false => {
                (!failed || result == Err(Errno::BADF), [nfds.min(table_size()).div_ceil(64) * 8 * sets; 2])
            }
        };
        let written = if self.call.is_poll() { !failed } else { result.is_ok() };
        self.bytes[0] += if read { size[0] } else { 0 };
        self.bytes[1] += if written { size[1] } else { 0 };
    }

    /// What was counted, from the thread that waited.
    pub fn done(&self, case: &str) -> Value {
        let ([ready, timeout, empty, interrupted, error], [infinite, zero, finite, unknown]) =
            (self.results, self.timeouts);
        // What lies between the waits of a loop is busy for certain; with the waits' brackets around, at most.
        let pairs = self.brackets.iter().zip(self.brackets.iter().skip(1)).skip(LOOP_WAITS - 1);
        let (mut between, mut around) = (0, 0);
        for ([before, after], [next_before, next_after]) in pairs {
            between += next_before - after;
            around += next_after - before;
        }
        json!({
            "case": format!("{case} {:?}", self.call),
            "pid": std::process::id(),
            "tid": rustix::thread::gettid().as_raw_nonzero().get(),
            "mechanism": if self.call.is_poll() { "poll" } else { "select" },
            "waits": self.brackets.len(),
            "events": self.events,
            "results": {
                "ready": ready, "timeout": timeout, "empty": empty, "interrupted": interrupted, "error": error
            },
            "timeouts": { "infinite": infinite, "zero": zero, "finite": finite, "unknown": unknown },
            "nfds": { "count": self.nfds[0], "sum": self.nfds[1], "max": self.nfds[2] },
            "copied_bytes": { "in": self.bytes[0], "out": self.bytes[1] },
            "bracket_sum": self.brackets.iter().map(|[before, after]| after - before).sum::<u64>(),
            "bracket_max": self.brackets.iter().map(|[before, after]| after - before).max(),
            // ns: first reading before a wait and last one after; what lies between the waits before it is a loop.
            "first_before": self.brackets.first().map(|[before, _]| before),
            "last_after": self.brackets.last().map(|[_, after]| after),
            "early": self.early(),
            "busy_least": between,
            "busy_most": around,
        })
    }
}

impl Waiter {
    /// Between the brackets of the first waits, ns: no busy time, since they are no loop yet.
    fn early(&self) -> u64 {
        let pairs = self.brackets.iter().zip(self.brackets.iter().skip(1)).take(LOOP_WAITS - 1);
        pairs.map(|([_, after], [before, _])| before - after).sum()
    }
}

/// The size of this process's descriptor table, as the kernel tells it.
fn table_size() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    size.and_then(|size| size.trim().parse().ok()).unwrap_or_default()
}

/// What a call returned, or an errno.
pub type Outcome = Result<usize, Errno>;

/// The readings of the clock around a call, and what it returned.
fn bracketed(call: impl FnOnce() -> libc::c_long) -> ([u64; 2], Outcome) {
    let before = calls::now();
    let result = call();
    let after = calls::now();
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    ([before, after], usize::try_from(result).map_err(|_| errno))
}

/// The time-out behind its address, its second number in parts of 1 / `parts` ms. The kernel writes back what is left.
fn time(limit: Limit, parts: i64, room: &mut [i64; 2]) -> *mut [i64; 2] {
    *room = match limit {
        Limit::Infinite => return std::ptr::null_mut(),
        Limit::Unreadable => return calls::UNMAPPED as *mut _,
        Limit::Zero => [0, 0],
        Limit::Millis(millis) => [i64::from(millis) / 1000, i64::from(millis) % 1000 * parts],
        Limit::Bad => [0, 2_000_000_000],
    };
    room
}

/// poll or ppoll. More `nfds` than `fds` only where the kernel refuses so many before it looks at any.
fn poll(call: Call, fds: &[i32], nfds: usize, limit: Limit) -> ([u64; 2], Outcome) {
    let mut entries: Vec<libc::pollfd> =
        fds.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    let (entries, number) = (entries.as_mut_ptr(), call.number());
    if number != libc::SYS_ppoll {
        let millis = match limit {
            Limit::Zero => 0,
            Limit::Millis(millis) => i32::from(millis),
            Limit::Infinite | Limit::Bad | Limit::Unreadable => -1,
        };
        // SAFETY: the entries live through the call, which reads no more of them than there are.
        return bracketed(|| unsafe { libc::syscall(number, entries, nfds, millis) });
    }
    let mut room = [0; 2];
    let time = time(limit, 1_000_000, &mut room);
    // SAFETY: as above; the time lives through the call, is null, or is refused; there is no mask.
    bracketed(|| unsafe { libc::syscall(number, entries, nfds, time, std::ptr::null::<u64>(), 8_usize) })
}

/// select or pselect6.
fn select(call: Call, fds: &[i32], nfds: usize, except: bool, limit: Limit) -> ([u64; 2], Outcome) {
    let mut read = [0_u64; FD_SETSIZE / 64];
    for fd in fds.iter().map(|fd| fd.cast_unsigned() as usize) {
        if let Some(long) = read.get_mut(fd / 64) {
            *long |= 1 << (fd % 64);
        }
    }
    let mut room = [0; 2];
    let parts = if call.number() == libc::SYS_pselect6 { 1_000_000 } else { 1000 };
    let time = time(limit, parts, &mut room);
    let none = std::ptr::null_mut::<u64>();
    let mut exceptions = [0_u64; FD_SETSIZE / 64];
    let exceptions = if except { exceptions.as_mut_ptr() } else { none };
    // SAFETY: the sets hold FD_SETSIZE bits and live through the call, or are null; the time lives through it, is
    // null, or is refused; no mask is given to pselect6.
    bracketed(|| unsafe {
        libc::syscall(call.number(), nfds, read.as_mut_ptr(), none, exceptions, time, none)
    })
}

/// One wait for reading that nobody counts.
pub fn call(call: Call, fds: &[i32], limit: Limit) -> Outcome {
    let nfds = if call.is_poll() { fds.len() } else { FD_SETSIZE };
    match call.is_poll() {
        true => poll(call, fds, nfds, limit).1,
        false => select(call, fds, nfds, false, limit).1,
    }
}

/// Does `work` while another thread sends SIGALRM, whose handler does nothing, to this one every ms.
fn pestered<T>(work: impl FnOnce() -> T) -> T {
    let (pid, tid) = (std::process::id(), rustix::thread::gettid().as_raw_nonzero().get());
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // SAFETY: numbers only; the thread lives until this one has ended.
                unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGALRM) };
                thread::sleep(Duration::from_millis(1));
            }
        });
        let done = work();
        ended.store(true, Ordering::Relaxed);
        done
    })
}

/// Runs a case in a thread of its own, to its end.
pub fn alone(case: impl FnOnce() -> Result<Value> + Send) -> Result<Value> {
    thread::scope(|scope| scope.spawn(case).join().map_err(|_| anyhow!("a thread panicked"))?)
}

/// Two descriptors that are ready and one that is not, at `place` or above; open until the process ends.
fn descriptors(place: u64) -> Result<[i32; 3]> {
    let idle = fcntl_dupfd_cloexec(calls::event(0)?, i32::try_from(place)?)?;
    Ok([calls::event(1)?, calls::event(1)?, idle].map(IntoRawFd::into_raw_fd))
}

const CASES: [&str; 7] = ["ready", "timeout", "empty", "interrupted", "refused", "fault", "mix"];

/// Every call with every result, `n` times each; the highest descriptor is at `place`.
pub fn run(n: u64, place: u64) -> Result<Value> {
    calls::alarm_every(0)?;
    let fds = descriptors(place)?;
    let mut rows = Vec::new();
    for call in Call::ALL {
        for case in CASES {
            // No fault is possible where the time-out is a number.
            if case != "fault" || call.number() != PLAIN[0] || PLAIN[0] == libc::SYS_ppoll {
                rows.push(alone(|| one_case(call, case, n, fds)).with_context(|| case)?);
            }
        }
    }
    Ok(json!({ "rows": rows, "highest": fds[2] }))
}

fn one_case(call: Call, case: &str, n: u64, all: [i32; 3]) -> Result<Value> {
    let (mut waiter, idle) = (Waiter::new(call), [all[2]]);
    if case == "interrupted" {
        let interrupted =
            pestered(|| (0..n).all(|_| waiter.wait(&idle, Limit::Infinite) == Err(Errno::INTR)));
        ensure!(interrupted, "a signal ends each wait");
        return Ok(waiter.done(case));
    }
    for i in 0..n {
        match case {
            "ready" => ensure!(waiter.wait(&all, Limit::Infinite) == Ok(2)),
            "timeout" => ensure!(waiter.wait(&idle, Limit::Millis(1)) == Ok(0)),
            "empty" => ensure!(waiter.wait(&idle, Limit::Zero) == Ok(0)),
            "refused" => refused(&mut waiter, all)?,
            "fault" => ensure!(waiter.wait(&idle, Limit::Unreadable) == Err(Errno::FAULT)),
            _ => mixed(&mut waiter, all, i % 3)?,
        }
    }
    Ok(waiter.done(case))
}

/// A wait that the kernel refuses, by what each call has for that.
fn refused(waiter: &mut Waiter, all: [i32; 3]) -> Result<()> {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(1 << 30);
    let (result, expected) = match waiter.call {
        Call::Poll => (waiter.wait_for(&all, usize::try_from(most)? + 1, false, Limit::Zero), Errno::INVAL),
        Call::Ppoll => (waiter.wait(&all, Limit::Bad), Errno::INVAL),
        // One below the end of the smallest table is open in no workload.
        Call::Select | Call::Pselect6 => (waiter.wait(&[62], Limit::Zero), Errno::BADF),
    };
    ensure!(result == Err(expected), "{result:?}");
    Ok(())
}

/// Waits with each kind of time-out and several sizes.
fn mixed(waiter: &mut Waiter, [first, second, idle]: [i32; 3], i: u64) -> Result<()> {
    let (fds, limit): (&[i32], Limit) = match i {
        0 => (&[first, second, idle], Limit::Infinite),
        1 => (&[idle], Limit::Zero),
        _ => (&[first, idle], Limit::Millis(1)),
    };
    let nfds = if waiter.call.is_poll() { fds.len() } else { 64 };
    ensure!(waiter.wait_for(fds, nfds, true, limit)? == fds.len() - 1);
    Ok(())
}

/// Threads of 15, 16 and 40 waits by poll and by select.
pub fn streaks() -> Result<Value> {
    let [_, _, idle] = descriptors(3)?;
    let mut rows = Vec::new();
    for (call, waits) in
        [Call::Poll, Call::Select].into_iter().flat_map(|call| [15, 16, 40].map(|n| (call, n)))
    {
        let mut waiter = Waiter::new(call);
        rows.push(alone(|| {
            (0..waits).try_for_each(|_| waiter.wait(&[idle], Limit::Millis(1)).map(drop))?;
            Ok(waiter.done("streak"))
        })?);
    }
    Ok(json!({ "rows": rows }))
}

/// One wait for stdin by the `call`th call, for so many ms or, if 0, for ever.
pub fn one(call: u64, millis: u64) -> Result<Value> {
    calls::alarm_every(0)?;
    let mut waiter = Waiter::new(*Call::ALL.get(usize::try_from(call)?).context("no such call")?);
    let limit = if millis == 0 { Limit::Infinite } else { Limit::Millis(u16::try_from(millis)?) };
    alone(|| {
        // What it returned is in the counts.
        let _ = waiter.wait(&[0], limit);
        Ok(waiter.done("one"))
    })
}

/// `n` + 1 waits on an epoll instance; between each two a wait of 2 ms by the `call`th call.
pub fn between(call: u64, n: u64) -> Result<Value> {
    let mut other = Waiter::new(*Call::ALL.get(usize::try_from(call)?).context("no such call")?);
    let (epfd, idle) = (calls::create()?, calls::event(0)?);
    alone(|| {
        let mut waiter = tally::Waiter::new(&epfd, calls::Call::Wait);
        waiter.wait(8, calls::Limit::Millis(1))?;
        for _ in 0..n {
            other.wait(&[idle.as_raw_fd()], Limit::Millis(2))?;
            waiter.wait(8, calls::Limit::Millis(1))?;
        }
        Ok(json!({ "epoll": waiter.done(), "other": other.done("between") }))
    })
}

/// Threads of a wait for a low descriptor, up to three such waits that a signal ends, and 192 for one at `place`.
pub fn highest(place: u64) -> Result<Value> {
    calls::alarm_every(0)?;
    let ([_, _, low], [_, _, high]) = (descriptors(3)?, descriptors(place)?);
    let mut rows = Vec::new();
    for signals in 0..4 {
        rows.push(alone(|| {
            let mut waiter = Waiter::new(Call::Select);
            waiter.wait(&[low], Limit::Zero)?;
            let interrupted =
                pestered(|| (0..signals).all(|_| waiter.wait(&[low], Limit::Infinite) == Err(Errno::INTR)));
            ensure!(interrupted, "a signal ends each wait");
            (0..192).try_for_each(|_| waiter.wait(&[high], Limit::Zero).map(drop))?;
            Ok(waiter.done("highest"))
        })?);
    }
    Ok(json!({ "rows": rows, "highest": high }))
}
