//! What is rare and has to be counted right all the same: a process without its first thread, ids that are used again,
//! calls of 32-bit tasks, calls that the kernel refuses before it begins them.
//!
//! Must say what was really done: a reuse that did not come about is a failure.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    linger, say,
    tally::Waiter,
};

/// `waits` waits of nothing, on a new instance that stays open.
fn some(waits: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for _ in 0..waits {
        waiter.wait(8, Limit::Millis(1))?;
    }
    std::mem::forget(epfd);
    Ok(waiter.done())
}

/// The first thread makes `waits` waits and ends, which leaves it as a zombie; then two more make `waits` each, and one
/// of them waits on for stdin.
pub fn headless(waits: u64) -> Result<Option<Value>> {
    let first = some(waits)?;
    let (sender, receiver) = mpsc::channel();
    for _ in 0..2 {
        let sender = sender.clone();
        thread::spawn(move || {
            let done = until_headless().and_then(|()| some(waits));
            // A receiver that is gone has failed already.
            let _ = sender.send(done);
            loop {
                thread::park();
            }
        });
    }
    thread::spawn(move || {
        let rows: Result<Vec<Value>> = receiver.iter().take(2).collect();
        let said = rows.and_then(|rows| say(&json!({ "rows": [first, rows.first(), rows.last()] })));
        let waited = said.and_then(|()| {
            let epfd = calls::create()?;
            calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_ADD, 0, Some(libc::EPOLLIN))?;
            let waited = Waiter::new(&epfd, Call::Wait).wait(8, Limit::Infinite);
            std::mem::forget(epfd);
            Ok(waited?)
        });
        linger();
        std::process::exit(i32::from(waited.is_err()));
    });
    // SAFETY: ends this thread alone, which holds no lock; what it has borrowed stays, since it never unwinds.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Err(anyhow!("the first thread did not end"))
}

/// Waits until the process's first thread is a zombie.
fn until_headless() -> Result<()> {
    let stat = format!("/proc/self/task/{}/stat", std::process::id());
    while !fs::read_to_string(&stat)?.contains(") Z ") {
        thread::yield_now();
    }
    Ok(())
}

/// Two processes of one id, one after the other, that make three and five waits on the instance that both inherit, and
/// as many on one of their own.
pub fn same_process() -> Result<Value> {
    let epfd = calls::create()?;
    let live = |waits: u64| {
        let mut waiter = Waiter::new(&epfd, Call::Wait);
        let shared = (0..waits).try_for_each(|_| waiter.wait(8, Limit::Zero).map(drop));
        if shared.is_ok() {
            let _ = some(waits);
        }
        calls::leave();
    };
    let Some(pid) = calls::fork()? else { live(3) };
    waitpid(Pid::from_raw(pid), WaitOptions::empty())?;
    let Some(again) = calls::fork_as(pid)? else { live(5) };
    waitpid(Pid::from_raw(again), WaitOptions::empty())?;
    ensure!(pid == again, "process id {again} instead of {pid}");
    Ok(json!({ "pid": pid, "shared": epfd.as_raw_fd() }))
}

/// Two threads of one id, one after the other, that make three and five waits on one instance.
pub fn same_thread() -> Result<Value> {
    let epfd = std::sync::Arc::new(calls::create()?);
    let (first, done) = a_life(&epfd, 3, None)?.context("no first thread")?;
    // Others of this host may get the id instead.
    for _ in 0..1000 {
        fs::write("/proc/sys/kernel/ns_last_pid", (first - 1).to_string())?;
        if let Some((_, again)) = a_life(&epfd, 5, Some(first))? {
            let fd = epfd.as_raw_fd();
            std::mem::forget(epfd);
            return Ok(json!({ "tid": first, "epfd": fd, "rows": [done, again] }));
        }
    }
    Err(anyhow!("nobody got the thread id {first} again"))
}

/// A thread that makes `waits` waits, and its id; one that should have another id makes none.
fn a_life(epfd: &std::sync::Arc<OwnedFd>, waits: u64, wanted: Option<i32>) -> Result<Option<(i32, Value)>> {
    let epfd = std::sync::Arc::clone(epfd);
    let body = move || {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        if wanted.is_some_and(|wanted| wanted != tid) {
            return Ok(None);
        }
        let mut waiter = Waiter::new(&epfd, Call::Wait);
        (0..waits).try_for_each(|_| waiter.wait(8, Limit::Zero).map(drop))?;
        Ok(Some((tid, waiter.done())))
    };
    thread::spawn(body).join().map_err(|_| anyhow!("a thread panicked"))?
}

/// `n` times each call of the 32-bit table that waits, by a 64-bit process, between waits of its own: a poll of 8 ms;
/// the others are refused for an address that is not mapped or a descriptor that is no instance. And waitpid, which
/// has the number of the 64-bit poll.
#[cfg(target_arch = "x86_64")]
pub fn compat(n: u64) -> Result<Value> {
    const WAITS: [u32; 7] = [142, 168, 256, 308, 309, 319, 441];
    const WAITPID: u32 = 7;
    let epfd = calls::create()?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    let mut answers = std::collections::BTreeSet::new();
    for _ in 0..n {
        waiter.wait(8, Limit::Zero)?;
        for number in WAITS {
            answers.insert(calls::in_32_bits(number, [0, 0, 8, 8, 8]));
        }
        // Any child, and do not wait: there is none.
        let waited = calls::in_32_bits(WAITPID, [u32::MAX, 0, 1, 0, 0]);
        ensure!(waited == -libc::ECHILD, "waitpid: {waited}");
    }
    waiter.wait(8, Limit::Zero)?;
    std::mem::forget(epfd);
    Ok(json!({ "rows": [waiter.done()], "compat": n * WAITS.len() as u64, "answers": answers }))
}

/// `n` waits that a filter of system calls refuses, after one that it lets pass and before another: the kernel shows
/// their exits and no entry.
pub fn refused(n: u64) -> Result<Value> {
    const ROOM: i32 = 7;
    let epfd = calls::create()?;
    let mut waiter = Waiter::new(&epfd, Call::Pwait);
    waiter.wait(8, Limit::Zero)?;
    calls::refuse_pwait_of(ROOM.cast_unsigned())?;
    for _ in 0..n {
        // Not among the counts: no wait has begun.
        let result = calls::wait(Call::Pwait, epfd.as_raw_fd(), None, ROOM, Limit::Zero);
        ensure!(result == Err(rustix::io::Errno::PERM), "{result:?}");
    }
    waiter.wait(8, Limit::Zero)?;
    std::mem::forget(epfd);
    Ok(json!({ "rows": [waiter.done()], "refused": n }))
}
