//! Threads that stay in a poll, a ppoll or a select of descriptors that are never ready, and one that polls now and then:
//! what `inspect` shows of their calls is compared with it.
//!
//! Must leave the threads where it says that they are.

use std::{
    net::TcpListener,
    os::fd::{AsRawFd, OwnedFd},
    ptr, thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::calls;

/// More numbers than the sets have members: FD_SETSIZE, which most programs pass.
const FD_SETSIZE: usize = 1024;

/// A select's three sets.
type Sets = [[u64; FD_SETSIZE / 64]; 3];

/// The number of a thread that runs `body`, which does not return.
fn stay(name: &str, body: impl FnOnce() + Send + 'static) -> Result<i32> {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // A receiver that is gone has failed already.
        let _ = sender.send(rustix::thread::gettid().as_raw_nonzero().get());
        body();
    })?;
    Ok(receiver.recv()?)
}

/// An eventfd that cannot be written to.
fn full() -> Result<OwnedFd> {
    let event = calls::event(0)?;
    rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes())?;
    Ok(event)
}

/// Waits for ever, by each call.
pub fn run() -> Result<Value> {
    let (event, full) = (calls::event(0)?, full()?);
    let (reader, writer) = std::io::pipe()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let fds = [event.as_raw_fd(), full.as_raw_fd(), reader.as_raw_fd(), listener.as_raw_fd()];
    let [event_fd, full_fd, reader_fd, listener_fd] = fds;
    let entry = |fd, events| libc::pollfd { fd, events, revents: 0 };
    let entries = move || {
        vec![
            entry(listener_fd, libc::POLLIN | libc::POLLPRI),
            entry(-1, libc::POLLIN),
            entry(event_fd, libc::POLLIN | libc::POLLRDHUP),
            entry(full_fd, libc::POLLOUT),
            entry(reader_fd, 0),
        ]
    };
    let polled = stay("polls", move || {
        let mut asked = entries();
        // SAFETY: the entries live as long as the call.
        unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, -1) };
    })?;
    let ppolled = stay("ppolls", move || {
        let mut asked = vec![entry(reader_fd, libc::POLLIN)];
        // SAFETY: as above; there is no time-out and no mask.
        unsafe { libc::ppoll(asked.as_mut_ptr(), 1, ptr::null(), ptr::null()) };
    })?;
    let mut sets = Sets::default();
    for (set, fd) in [(0, event_fd), (0, reader_fd), (1, full_fd), (2, event_fd), (2, listener_fd)] {
        let fd = usize::try_from(fd)?;
        *sets.get_mut(set).and_then(|set| set.get_mut(fd / 64)).context("below 1,024")? |= 1 << (fd % 64);
    }
    let selected = stay("selects", move || {
        let mut asked = sets;
        let [read, write, except] = asked.each_mut().map(|set| set.as_mut_ptr().cast::<libc::fd_set>());
        // SAFETY: each set has FD_SETSIZE bits, and lives as long as the call.
        unsafe { libc::select(FD_SETSIZE as i32, read, write, except, ptr::null_mut()) };
    })?;
    let (done, told) = std::sync::mpsc::channel();
    let elsewhere = stay("elsewhere", move || {
        let mut asked = [entry(event_fd, libc::POLLIN)];
        for _ in 0..3 {
            // SAFETY: as above.
            unsafe { libc::poll(asked.as_mut_ptr(), 1, 0) };
        }
        // A receiver that is gone has failed already.
        let _ = done.send(());
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    })?;
    told.recv()?;
    std::mem::forget((event, full, reader, writer, listener));
    Ok(json!({
        "event": event_fd, "full": full_fd, "reader": reader_fd, "listener": listener_fd, "address": address,
        "polled": polled, "ppolled": ppolled, "selected": selected, "elsewhere": elsewhere,
    }))
}
