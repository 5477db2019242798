//! Callers that are rare: time-outs in ns, instances that poll their devices, tasks that another one traces, that share
//! their parent's memory, or that are in a pid namespace of their own.

use std::{os::fd::AsRawFd, ptr};

use anyhow::{Context, Result, ensure};
use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, waitpid},
};
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    say,
    tally::Waiter,
};

/// The time-out of [`nanos`], ns.
const NANOS: i64 = 250_000;
/// EPIOCSPARAMS (include/uapi/linux/eventpoll.h), since Linux 6.9: 8 bytes to the kernel.
const SET_PARAMETERS: libc::c_ulong = 0x4008_8a01;

/// `n` waits of nothing on a new instance that stays open.
fn some(n: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for _ in 0..n {
        waiter.wait(8, Limit::Millis(1))?;
    }
    std::mem::forget(epfd);
    Ok(waiter.done())
}

/// `n` waits by epoll_pwait2 that take a quarter of a ms.
pub fn nanos(n: u64) -> Result<Value> {
    let epfd = calls::create()?;
    let mut waiter = Waiter::new(&epfd, Call::Pwait2);
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
    let time = [0, NANOS];
    for _ in 0..n {
        // The tally asks for the kind of time-out alone.
        waiter.around(8, Limit::Millis(1), || {
            // SAFETY: there is room for 8 events; the time lives through the call; no mask is given.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    epfd.as_raw_fd(),
                    events.as_mut_ptr(),
                    8,
                    time.as_ptr(),
                    ptr::null::<u64>(),
                    8,
                )
            };
            usize::try_from(result).map_err(|_| Errno::IO)
        })?;
    }
    std::mem::forget(epfd);
    Ok(json!({ "rows": [waiter.done()], "nanos": NANOS }))
}

/// `n` waits on an instance that polls its devices for 20 us first; whether the kernel knows of that.
pub fn busy_poll(n: u64) -> Result<Value> {
    let epfd = calls::create()?;
    // struct epoll_params: busy_poll_usecs, busy_poll_budget, prefer_busy_poll.
    let parameters: [u16; 4] = [20, 0, 8, 1];
    // SAFETY: the parameters live through the call.
    let set = unsafe { libc::ioctl(epfd.as_raw_fd(), SET_PARAMETERS, parameters.as_ptr()) } == 0;
    let ready = calls::event(1)?;
    let mut waiter = Waiter::new(&epfd, Call::Wait);
    for _ in 0..n {
        ensure!(waiter.wait(8, Limit::Millis(1)) == Ok(0), "nothing is ready");
        calls::add(&epfd, &ready)?;
        ensure!(waiter.wait(8, Limit::Infinite) == Ok(1), "one is ready");
        calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_DEL, ready.as_raw_fd(), None)?;
    }
    std::mem::forget((epfd, ready));
    Ok(json!({ "rows": [waiter.done()], "set": set }))
}

/// A child makes `n` waits while this process stops it at the entry and the exit of each call.
pub fn traced(n: u64) -> Result<Value> {
    let Some(child) = calls::fork()? else {
        // SAFETY: the call changes who traces this process; the signal is caught by who does.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
        let _ = some(n).and_then(|done| say(&done));
        calls::leave();
    };
    let mut stops = 0_u64;
    loop {
        let mut status = 0;
        // SAFETY: the status lives through the call.
        ensure!(unsafe { libc::waitpid(child, &raw mut status, 0) } == child, "it is a child of ours");
        if libc::WIFEXITED(status) {
            return Ok(json!({ "pid": child, "stops": stops }));
        }
        stops += 1;
        // SAFETY: the child is stopped; no signal is passed on.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, child, 0, 0) };
    }
}

/// What a child that shares this process's memory does, and how often.
struct Borrowed {
    epfd: i32,
    waits: u64,
}

/// A child that shares memory, and holds its parent back, makes `n` waits; then the parent makes as many.
pub fn vfork(n: u64) -> Result<Value> {
    extern "C" fn child(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the parent's value, which lives while the parent is held back.
        let borrowed = unsafe { &*argument.cast::<Borrowed>() };
        for _ in 0..borrowed.waits {
            let _ = calls::wait(Call::Pwait, borrowed.epfd, None, 8, Limit::Zero);
        }
        0
    }
    let epfd = calls::create()?;
    let mut borrowed = Borrowed { epfd: epfd.as_raw_fd(), waits: n };
    let mut stack = vec![0_u128; 4096];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own and the parent is held back until it ends, so that what it borrows lives.
    let pid = unsafe { libc::clone(child, top.cast(), flags, (&raw mut borrowed).cast()) };
    let pid = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 0).context("no child")?;
    waitpid(Some(pid), WaitOptions::empty())?;
    let mut waiter = Waiter::new(&epfd, Call::Pwait);
    for _ in 0..n {
        waiter.wait(8, Limit::Zero)?;
    }
    std::mem::forget(epfd);
    Ok(json!({ "child": pid.as_raw_nonzero().get(), "rows": [waiter.done()] }))
}

/// The first process of a pid namespace of its own makes `n` waits, and stays for a line on stdin.
pub fn inner(n: u64) -> Result<Value> {
    // SAFETY: this process has one thread, and its children alone are in the new namespace.
    ensure!(unsafe { libc::unshare(libc::CLONE_NEWPID) } == 0, "a pid namespace needs root");
    let Some(child) = calls::fork()? else {
        let _ = some(n).and_then(|done| say(&done));
        crate::linger();
        calls::leave();
    };
    Ok(json!({ "pid": child }))
}
