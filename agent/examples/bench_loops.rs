//! Many event loops at a known rate, for `cargo xtask bench`: what the agent and the kernel pay per loop.
//!
//! `bench_loops LOOPS RATE`: LOOPS threads, each with an epoll instance and a timer of its own, that together wait
//! RATE times a second. Prints `ready` when all threads stand before their first wait, with everything allocated that
//! they need themselves; starts them at the first line on stdin; at the second each thread calls epoll_ctl once. With the
//! end of stdin prints what they did as JSON and ends. Must not use loopscope's own code.

use std::{
    env,
    io::{self, BufRead, Read},
    mem, ptr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// The shortest time between two bursts of a loop: what is beyond 100 waits a second comes in bursts.
const TICK: Duration = Duration::from_millis(10);
/// The longest time between two waits of a loop.
const LONGEST_TICK: Duration = Duration::from_secs(10);
const STACK: usize = 64 * 1024;

/// Whether every thread shall call epoll_ctl, once.
static CTL: AtomicBool = AtomicBool::new(false);

/// How often a loop waits: so many times in a row, once per tick.
#[derive(Clone, Copy)]
struct Pace {
    tick: Duration,
    burst: u64,
}

impl Pace {
    fn new(loops: u32, rate: u32) -> Pace {
        let each = f64::from(rate.max(1)) / f64::from(loops.max(1));
        let tick = Duration::from_secs_f64((1.0 / each).min(LONGEST_TICK.as_secs_f64())).max(TICK);
        Pace { tick, burst: ((each * tick.as_secs_f64()).round() as u64).max(1) }
    }
}

/// An epoll instance with a timer in it.
struct Loop {
    epoll: i32,
    timer: i32,
}

fn main() -> Result<()> {
    let mut words = env::args().skip(1).map(|word| word.parse::<u32>());
    let mut number = |what| words.next().transpose()?.with_context(|| format!("no number of {what}"));
    let (loops, rate) = (number("loops")?, number("waits a second")?);
    let pace = Pace::new(loops, rate);
    allow_descriptors(2 * u64::from(loops) + 64)?;
    let gate = Arc::new(Barrier::new(loops as usize + 1));
    let waits: Arc<[AtomicU64]> = (0..loops).map(|_| AtomicU64::new(0)).collect();
    for i in 0..loops {
        let made = Loop::new()?;
        let (gate, waits) = (Arc::clone(&gate), Arc::clone(&waits));
        let offset = pace.tick.mul_f64(f64::from(i) / f64::from(loops)) + Duration::from_micros(1);
        let turn = move || {
            gate.wait();
            if let Some(count) = waits.get(i as usize) {
                made.turn(pace, offset, count);
            }
        };
        thread::Builder::new().stack_size(STACK).spawn(turn).context("cannot start a thread")?;
    }
    println!("ready");
    let mut input = io::stdin().lock();
    input.read_line(&mut String::new())?;
    gate.wait();
    let started = Instant::now();
    input.read_line(&mut String::new())?;
    CTL.store(true, Ordering::Relaxed);
    // Nothing more is said: the end is the word.
    input.read_to_end(&mut Vec::new())?;
    let total: u64 = waits.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    println!("{}", json!({ "waits": total, "seconds": started.elapsed().as_secs_f64() }));
    Ok(())
}

impl Loop {
    fn new() -> Result<Loop> {
        // SAFETY: both make a descriptor and take no memory.
        let (epoll, timer) =
            unsafe { (libc::epoll_create1(0), libc::timerfd_create(libc::CLOCK_MONOTONIC, 0)) };
        ensure!(epoll >= 0 && timer >= 0, "cannot make descriptors: {}", io::Error::last_os_error());
        let made = Loop { epoll, timer };
        ensure!(made.control(libc::EPOLL_CTL_ADD), "cannot watch the timer: {}", io::Error::last_os_error());
        Ok(made)
    }

    fn control(&self, operation: i32) -> bool {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
        // SAFETY: `event` lives through the call.
        unsafe { libc::epoll_ctl(self.epoll, operation, self.timer, &raw mut event) == 0 }
    }

    /// Waits for ever, at that pace; ends only when a call fails.
    fn turn(&self, pace: Pace, offset: Duration, waits: &AtomicU64) {
        let setting = libc::itimerspec { it_interval: timespec(pace.tick), it_value: timespec(offset) };
        // SAFETY: `setting` lives through the call, and null is allowed for the old value.
        if unsafe { libc::timerfd_settime(self.timer, 0, &raw const setting, ptr::null_mut()) } < 0 {
            return;
        }
        let mut has_controlled = false;
        loop {
            if !has_controlled && CTL.load(Ordering::Relaxed) {
                has_controlled = self.control(libc::EPOLL_CTL_MOD);
            }
            for _ in 0..pace.burst {
                let mut event = libc::epoll_event { events: 0, u64: 0 };
                // The first sleeps until the timer is due; it stays readable, so that the others do not.
                // SAFETY: there is room for one event.
                if unsafe { libc::epoll_wait(self.epoll, &raw mut event, 1, -1) } < 1 {
                    return;
                }
            }
            waits.fetch_add(pace.burst, Ordering::Relaxed);
            let mut ticks = 0_u64;
            // SAFETY: there is room for 8 bytes.
            if unsafe { libc::read(self.timer, (&raw mut ticks).cast(), mem::size_of::<u64>()) } != 8 {
                return;
            }
        }
    }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos().into() }
}

/// Raises the limit of open files as far as it takes.
fn allow_descriptors(wanted: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through the call.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    ensure!(failed == 0, "cannot ask for the limit of files: {}", io::Error::last_os_error());
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted;
        limit.rlim_max = limit.rlim_max.max(wanted);
        // SAFETY: as above.
        let failed = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        ensure!(failed == 0, "cannot open {wanted} files: {}", io::Error::last_os_error());
    }
    Ok(())
}
