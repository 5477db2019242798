//! Rings of io_uring: every way in which a wait on one can end, what is submitted to one, what it has no room for, and
//! requests that act on an epoll instance.
//!
//! Must count what lies in the completion ring by its own reading of it, right after a wait.
#![expect(clippy::indexing_slicing, reason = "the keys of a JSON object that was made here")]

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use io_uring::{
    IoUring, opcode, squeue,
    types::{Fd, SubmitArgs, Timespec},
};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    hear, say,
    tally::Waiter,
};

/// Requests and completions that a ring has room for.
const SUBMISSIONS: u32 = 8;
const COMPLETIONS: u32 = 16;
/// A time-out that runs out.
const SHORT: Duration = Duration::from_millis(2);

/// A ring whose user counts.
struct Ring {
    ring: IoUring,
    waiter: Waiter,
    submissions: u64,
    least: usize,
}

impl Ring {
    fn new() -> Result<Ring> {
        let ring = IoUring::builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?;
        let waiter = Waiter::on(ring.as_raw_fd(), Call::Wait);
        Ok(Ring { ring, waiter, submissions: 0, least: 0 })
    }

    fn push(&mut self, entry: &squeue::Entry) -> Result<()> {
        // SAFETY: what the entries of this file point to lives until they complete.
        unsafe { self.ring.submission().push(entry) }.context("the submission ring is full")
    }

    fn push_nops(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.push(&opcode::Nop::new().build()))
    }

    /// Submits what was pushed without a wait.
    fn submit(&mut self) -> Result<()> {
        self.submissions += self.ring.submit()? as u64;
        Ok(())
    }

    /// Submits what was pushed and waits for `least` completions; takes those that are there then.
    fn wait(&mut self, least: usize, limit: Limit) -> Result<usize, Errno> {
        let (ring, submissions) = (&mut self.ring, &mut self.submissions);
        self.least = least;
        self.waiter.around(COMPLETIONS as i32, limit, || {
            let time = match limit {
                Limit::Millis(millis) => Timespec::from(Duration::from_millis(millis.into())),
                _ => Timespec::from(Duration::ZERO),
            };
            let submitted = match limit {
                Limit::Infinite => ring.submit_and_wait(least),
                _ => ring.submitter().submit_with_args(least, &SubmitArgs::new().timespec(&time)),
            };
            let found = ring.completion().count();
            match submitted {
                Ok(count) => {
                    *submissions += count as u64;
                    match found {
                        // The test knows which of the two it is: see `hidden`.
                        0 if limit == Limit::Infinite => Err(Errno::INTR),
                        found => Ok(found),
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(0),
                Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        })
    }

    fn done(&self) -> Value {
        let mut done = self.waiter.done();
        done["mechanism"] = json!("io_uring");
        done["maxevents"] = json!(COMPLETIONS);
        done["min_complete"] = json!(self.least);
        done["submissions"] = json!(self.submissions);
        done
    }
}

/// `n` waits of each kind on one ring; and on what is no ring.
pub fn run(n: u64) -> Result<Value> {
    let mut ring = Ring::new()?;
    for i in 0..n as usize {
        let count = 1 + i % SUBMISSIONS as usize;
        ring.push_nops(count)?;
        ensure!(ring.wait(count, Limit::Infinite) == Ok(count), "{count} complete");
        ensure!(ring.wait(1, Limit::Zero) == Ok(0), "nothing is there");
        ensure!(ring.wait(1, Limit::Millis(2)) == Ok(0), "nothing comes within 2 ms");
        // What was submitted without a wait lies there.
        ring.push_nops(2)?;
        ring.submit()?;
        ring.push_nops(1)?;
        ensure!(ring.wait(1, Limit::Millis(500)) == Ok(3), "three are there");
    }
    hidden(&mut ring, n)?;
    registered(&mut ring, n)?;
    let overflows = overflow(&mut ring, n)?;
    let mut done = ring.done();
    done["cq_overflows"] = json!(overflows);
    let none = no_ring(n)?;
    std::mem::forget(ring);
    Ok(json!({ "rows": [done], "none": none }))
}

/// Waits that end otherwise than by a completion, without and with a submission, whose number they return then.
fn hidden(ring: &mut Ring, n: u64) -> Result<()> {
    calls::alarm_every(1)?;
    for _ in 0..n {
        ensure!(ring.wait(1, Limit::Infinite) == Err(Errno::INTR), "a signal ends it");
    }
    for i in 0..n {
        let never = calls::event(0)?;
        let poll = opcode::PollAdd::new(Fd(never.as_raw_fd()), libc::POLLIN as u32).build().user_data(i + 1);
        ring.push(&poll)?;
        ensure!(ring.wait(1, Limit::Infinite) == Err(Errno::INTR), "a signal ends what submitted");
        cancel(ring, i + 1)?;
    }
    calls::alarm_every(0)?;
    for i in 0..n {
        let never = calls::event(0)?;
        let poll = opcode::PollAdd::new(Fd(never.as_raw_fd()), libc::POLLIN as u32).build().user_data(i + 1);
        ring.push(&poll)?;
        ensure!(ring.wait(1, Limit::Millis(2)) == Ok(0), "its time is over, and it submitted");
        cancel(ring, i + 1)?;
    }
    Ok(())
}

/// Ends a request: two completions.
fn cancel(ring: &mut Ring, user_data: u64) -> Result<()> {
    ring.push(&opcode::AsyncCancel::new(user_data).build())?;
    ring.submit()?;
    // Both are there when the call returns, or soon after; a wait that signals end is no matter of this.
    let mut found = 0;
    while found < 2 {
        found += ring.ring.completion().count();
    }
    Ok(())
}

/// Waits by the place of a registered descriptor.
fn registered(ring: &mut Ring, n: u64) -> Result<()> {
    let (waiter, submissions) = (&mut ring.waiter, &mut ring.submissions);
    let (mut submitter, mut requests, mut completions) = ring.ring.split();
    submitter.register_ring_fd()?;
    for _ in 0..n {
        // SAFETY: such a request points to nothing.
        unsafe { requests.push(&opcode::Nop::new().build()) }.context("the submission ring is full")?;
        requests.sync();
        let waited = waiter.around(COMPLETIONS as i32, Limit::Infinite, || {
            *submissions += submitter.submit_and_wait(1).unwrap_or(0) as u64;
            completions.sync();
            let found = completions.by_ref().count();
            // Gives back the room.
            completions.sync();
            Ok(found)
        });
        ensure!(waited == Ok(1), "one completes");
    }
    Ok(submitter.unregister_ring_fd()?)
}

/// More completions than there is room for, `n` times; how many too many.
fn overflow(ring: &mut Ring, n: u64) -> Result<u64> {
    for _ in 0..n {
        for _ in 0..3 {
            ring.push_nops(SUBMISSIONS as usize)?;
            ring.submit()?;
        }
        ensure!(ring.wait(1, Limit::Infinite) == Ok(COMPLETIONS as usize), "the ring is full");
        ensure!(ring.wait(1, Limit::Infinite) == Ok(SUBMISSIONS as usize), "the rest follows");
    }
    Ok(n * u64::from(3 * SUBMISSIONS - COMPLETIONS))
}

/// Waits on a descriptor that is no ring.
fn no_ring(n: u64) -> Result<Value> {
    let file = calls::event(0)?;
    let mut waiter = Waiter::new(&file, Call::Wait);
    for _ in 0..n {
        let result = waiter.around(0, Limit::Infinite, || {
            // SAFETY: numbers, and no mask.
            let result = unsafe {
                libc::syscall(libc::SYS_io_uring_enter, file.as_raw_fd(), 0, 1, 1, std::ptr::null::<u8>(), 0)
            };
            usize::try_from(result).map_err(|_| Errno::OPNOTSUPP)
        });
        ensure!(result == Err(Errno::OPNOTSUPP), "an eventfd is no ring");
    }
    let mut done = waiter.done();
    done["mechanism"] = json!("io_uring");
    Ok(done)
}

/// `n` loops of a ring, one after the other in threads of their own, each of 40 rounds with work between the waits.
pub fn sums(n: u64) -> Result<Value> {
    let one = || -> Result<Value> {
        let mut ring = Ring::new()?;
        for i in 0..40 {
            ring.push_nops(1)?;
            ring.wait(1, Limit::Infinite)?;
            if i % 3 == 0 {
                ring.wait(1, Limit::Millis(1))?;
            }
            thread::sleep(SHORT / 4);
        }
        let done = ring.done();
        std::mem::forget(ring);
        Ok(done)
    };
    let threads: Vec<_> = (0..n).map(|_| thread::spawn(one)).collect();
    let rows: Result<Vec<Value>> = threads
        .into_iter()
        .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
        .collect();
    Ok(json!({ "rows": rows? }))
}

/// Says who it is and waits for a completion that comes with a line on stdin; says what it counted.
pub fn open() -> Result<()> {
    let mut ring = Ring::new()?;
    let event = calls::event(0)?;
    ring.push(&opcode::PollAdd::new(Fd(event.as_raw_fd()), libc::POLLIN as u32).build())?;
    ring.submit()?;
    say(&ring.done())?;
    let writer = thread::spawn(move || {
        let heard = hear();
        let _ = rustix::io::write(&event, &1_u64.to_ne_bytes());
        heard
    });
    ensure!(ring.wait(1, Limit::Infinite) == Ok(1), "the event completes it");
    say(&ring.done())?;
    // A second one that is seen from its entry.
    ring.push_nops(1)?;
    ensure!(ring.wait(1, Limit::Infinite) == Ok(1), "one completes");
    say(&ring.done())?;
    drop(writer);
    while hear().is_some() {}
    Ok(())
}

/// A thread that has waited on its ring once, and then, at a line on stdin, gives it `n` requests without a wait. Says what it
/// has done before and after.
pub fn submits(n: u64) -> Result<()> {
    let mut ring = Ring::new()?;
    ring.push_nops(1)?;
    ensure!(ring.wait(1, Limit::Infinite) == Ok(1), "one completes");
    say(&ring.done())?;
    hear();
    for _ in 0..n {
        ring.push_nops(1)?;
        ring.submit()?;
    }
    say(&ring.done())?;
    while hear().is_some() {}
    Ok(())
}

/// An epoll instance whose entries are added, changed and deleted by a ring, and waits on it that the ring makes.
pub fn epoll(n: u64) -> Result<Value> {
    let mut ring = Ring::new()?;
    let epfd = calls::create()?;
    let events: Vec<OwnedFd> = (0..n).map(|_| calls::event(0)).collect::<Result<_, _>>()?;
    let mut done = Ctl::default();
    for (i, event) in events.iter().enumerate() {
        // Some by the ring's workers.
        done.add += ring.control(&epfd, libc::EPOLL_CTL_ADD, event.as_raw_fd(), libc::EPOLLIN, i % 3 == 0)?;
    }
    for event in events.iter().step_by(2) {
        let flags = libc::EPOLLIN | libc::EPOLLET;
        done.modified += ring.control(&epfd, libc::EPOLL_CTL_MOD, event.as_raw_fd(), flags, false)?;
    }
    for event in events.iter().step_by(4) {
        done.del += ring.control(&epfd, libc::EPOLL_CTL_DEL, event.as_raw_fd(), 0, false)?;
        ensure!(
            ring.control(&epfd, libc::EPOLL_CTL_DEL, event.as_raw_fd(), 0, false) == Err(Errno::NOENT),
            "it is gone"
        );
        done.missing += 1;
    }
    let last = events.last().context("there is one")?.as_raw_fd();
    ensure!(
        ring.control(&epfd, libc::EPOLL_CTL_ADD, last, libc::EPOLLIN, true) == Err(Errno::EXIST),
        "there"
    );
    ensure!(
        ring.control(&events[0], libc::EPOLL_CTL_ADD, last, 0, false) == Err(Errno::INVAL),
        "no instance"
    );
    let watched = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", epfd.as_raw_fd()))?;
    let watched = watched.lines().filter(|line| line.starts_with("tfd:")).count();
    let waits = ring.epoll_waits(&epfd, &events[events.len() - 1], n)?;
    let said = json!({
        "pid": std::process::id(),
        "tid": rustix::thread::gettid().as_raw_nonzero().get(),
        "epfd": epfd.as_raw_fd(),
        "watched": watched,
        "ctl": {
            // One more by a system call, before the waits.
            "add": done.add, "mod": done.modified + 1, "del": done.del,
            "errors": { "EEXIST": 1, "ENOENT": done.missing },
            "flags": { "edge": done.modified, "oneshot": 0, "exclusive": 0, "wakeup": 0 },
        },
        "epoll_waits": waits,
        "ring": ring.done(),
    });
    std::mem::forget((ring, epfd, events));
    Ok(said)
}

/// What was done to an instance.
#[derive(Default)]
struct Ctl {
    add: u64,
    modified: u64,
    del: u64,
    missing: u64,
}

impl Ring {
    /// One epoll_ctl by the ring; `async`: not by the thread itself. Gives 1.
    fn control(&mut self, epfd: &OwnedFd, op: i32, fd: RawFd, flags: i32, apart: bool) -> Result<u64, Errno> {
        let event = libc::epoll_event { events: flags.cast_unsigned(), u64: 7 };
        let entry =
            opcode::EpollCtl::new(Fd(epfd.as_raw_fd()), Fd(fd), op, (&raw const event).cast()).build();
        let flags = if apart { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
        match self.result_of(&entry.flags(flags)) {
            0 => Ok(1),
            errno => Err(Errno::from_raw_os_error(-errno)),
        }
    }

    /// Submits one request and waits for it.
    fn result_of(&mut self, entry: &squeue::Entry) -> i32 {
        let mut result = i32::MIN;
        // SAFETY: what it points to lives until it has completed, below.
        if unsafe { self.ring.submission().push(entry) }.is_err() {
            return result;
        }
        let (ring, submissions) = (&mut self.ring, &mut self.submissions);
        self.least = 1;
        let _ = self.waiter.around(COMPLETIONS as i32, Limit::Infinite, || {
            *submissions += ring.submit_and_wait(1).unwrap_or(0) as u64;
            Ok(ring.completion().map(|completion| result = completion.result()).count())
        });
        result
    }

    /// `n` waits on the instance by the ring, of which every one finds an event of `event`; what they came to.
    fn epoll_waits(&mut self, epfd: &OwnedFd, event: &OwnedFd, n: u64) -> Result<Value> {
        calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_MOD, event.as_raw_fd(), Some(libc::EPOLLIN))?;
        rustix::io::write(event, &1_u64.to_ne_bytes())?;
        let mut found = [libc::epoll_event { events: 0, u64: 0 }; 4];
        for _ in 0..n {
            let entry = opcode::EpollWait::new(Fd(epfd.as_raw_fd()), found.as_mut_ptr().cast(), 4).build();
            let result = self.result_of(&entry);
            if result == -libc::EINVAL {
                // Before Linux 6.15.
                return Ok(Value::Null);
            }
            ensure!(result == 1, "one event, not {result}");
        }
        Ok(json!({ "waits": n, "events": n }))
    }
}
