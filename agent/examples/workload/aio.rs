//! Linux's older asynchronous I/O: every way in which io_getevents and io_pgetevents can end.
//!
//! The calls are raw: libc has none of them.
#![expect(clippy::indexing_slicing, reason = "the keys of a JSON object that was made here")]

use std::{
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
};

use anyhow::{Result, ensure};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::{
    calls::{self, Call, Limit},
    tally::Waiter,
};

/// A `struct iocb` (include/uapi/linux/aio_abi.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    _reserved: u64,
    flags: u32,
    event: u32,
}

/// The number of io_pgetevents, which libc does not have for every architecture.
const IO_PGETEVENTS: libc::c_long = if cfg!(target_arch = "x86_64") { 333 } else { 292 };
/// IOCB_CMD_PWRITE and IOCB_CMD_POLL.
const WRITE: u16 = 1;
const POLL: u16 = 5;

/// A context, its user's counts, and by which of the two calls it waits.
struct Context {
    id: u64,
    waiter: Waiter,
    by: libc::c_long,
    null: File,
}

/// What a raw call returned.
fn outcome(result: i64) -> Result<usize, Errno> {
    usize::try_from(result)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

impl Context {
    fn new(by: libc::c_long) -> Result<Context> {
        let mut id = 0_u64;
        // SAFETY: the kernel writes the number of the context, which lives through the call.
        outcome(unsafe { libc::syscall(libc::SYS_io_setup, 64, &raw mut id) })?;
        let null = File::options().write(true).open("/dev/null")?;
        Ok(Context { id, waiter: Waiter::on(-1, Call::Wait), by, null })
    }

    fn submit(&self, request: &Request, count: usize) -> Result<()> {
        for _ in 0..count {
            let requests = [ptr::from_ref(request)];
            // SAFETY: the request lives through the call, which copies it.
            let taken =
                outcome(unsafe { libc::syscall(libc::SYS_io_submit, self.id, 1, requests.as_ptr()) })?;
            ensure!(taken == 1, "the context takes it");
        }
        Ok(())
    }

    /// `count` requests that are done at once.
    fn write(&self, count: usize) -> Result<()> {
        let byte = 0_u8;
        let request = Request {
            opcode: WRITE,
            fd: self.null.as_raw_fd().cast_unsigned(),
            buffer: (&raw const byte).addr() as u64,
            bytes: 1,
            ..Request::default()
        };
        self.submit(&request, count)
    }

    /// A request that is done when the event comes.
    fn poll(&self, event: &OwnedFd) -> Result<()> {
        let fd = event.as_raw_fd().cast_unsigned();
        self.submit(&Request { opcode: POLL, fd, buffer: libc::POLLIN as u64, ..Request::default() }, 1)
    }

    fn wait(&mut self, least: i64, most: i64, limit: Limit) -> Result<usize, Errno> {
        let (id, by) = (self.id, self.by);
        self.wait_of(id, by, least, most, limit)
    }

    fn wait_of(
        &mut self,
        id: u64,
        by: libc::c_long,
        least: i64,
        most: i64,
        limit: Limit,
    ) -> Result<usize, Errno> {
        // struct io_event has 32 bytes.
        let mut events = [[0_u64; 4]; 64];
        let time = match limit {
            Limit::Millis(millis) => [0, i64::from(millis) * 1_000_000],
            _ => [0, 0],
        };
        let address = match limit {
            Limit::Infinite => ptr::null(),
            Limit::Unreadable => calls::UNMAPPED as *const _,
            _ => time.as_ptr(),
        };
        // The sixth argument is the mask of io_pgetevents: none.
        self.waiter.around(most as i32, limit, || {
            // SAFETY: there is room for as many events as are asked for; the time lives through the call.
            outcome(unsafe { libc::syscall(by, id, least, most, events.as_mut_ptr(), address, 0_u64) })
        })
    }

    fn done(&self, least: i64) -> Value {
        let mut done = self.waiter.done();
        done["mechanism"] = json!("aio");
        done["epfd"] = Value::Null;
        done["min_complete"] = json!(least);
        done
    }
}

/// `n` waits of each kind by the one call, and one more by the other, each on a context of its own.
pub fn run(n: u64) -> Result<Value> {
    let mut rows = Vec::new();
    for (by, n) in [(libc::SYS_io_getevents, n), (IO_PGETEVENTS, n + 1)] {
        let mut context = Context::new(by)?;
        for _ in 0..n {
            context.write(3)?;
            ensure!(context.wait(1, 8, Limit::Infinite) == Ok(3), "three are done");
            ensure!(context.wait(1, 8, Limit::Zero) == Ok(0), "none is left");
            ensure!(context.wait(1, 8, Limit::Millis(1)) == Ok(0), "none comes within 1 ms");
            context.write(4)?;
            ensure!(context.wait(1, 2, Limit::Millis(500)) == Ok(2), "as many as asked for");
            ensure!(context.wait(2, 2, Limit::Zero) == Ok(2), "the rest");
        }
        let event = calls::event(0)?;
        context.poll(&event)?;
        calls::alarm_every(1)?;
        for _ in 0..n {
            ensure!(context.wait(1, 4, Limit::Infinite) == Err(Errno::INTR), "a signal ends it");
        }
        calls::alarm_every(0)?;
        rustix::io::write(&event, &1_u64.to_ne_bytes())?;
        ensure!(context.wait(1, 4, Limit::Infinite) == Ok(1), "the event is done");
        rows.push(context.done(1));
        std::mem::forget((context, event));
    }
    let mut none = Context::new(libc::SYS_io_getevents)?;
    for _ in 0..n {
        let result = none.wait_of(4096, libc::SYS_io_getevents, 1, 8, Limit::Infinite);
        ensure!(result == Err(Errno::INVAL), "no such context");
    }
    let none = none.done(1);
    Ok(json!({ "rows": rows, "none": none }))
}
