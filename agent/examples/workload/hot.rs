//! Loops that do nothing but wait, as fast as they can, and whose waits follow a pattern: whatever is read of one at
//! any moment must fit the pattern.
//!
//! Must not make any other wait in these threads.

use std::{
    os::fd::{AsRawFd, IntoRawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    calls::{self, Events, ROOM},
    hear, sets,
};

/// How a thread waits.
#[derive(Clone, Copy)]
enum How {
    Epoll,
    Sets(sets::Call),
}

/// Two epoll loops, one by poll and one by select, until a line comes. Each round is two waits that find two events:
/// the first with a zero time-out and, of epoll, with room for just two; the second with a time-out of a second.
pub fn run() -> Result<Value> {
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    let all = [How::Epoll, How::Epoll, How::Sets(sets::Call::Poll), How::Sets(sets::Call::Select)];
    for how in all {
        let (stop, sender) = (Arc::clone(&stop), sender.clone());
        thread::spawn(move || {
            // A receiver that is gone has failed already.
            let _ = sender.send(rounds(how, &stop));
            loop {
                thread::park();
            }
        });
    }
    hear();
    stop.store(true, Ordering::Relaxed);
    let rows: Result<Vec<Value>> = receiver.iter().take(all.len()).collect();
    Ok(json!({ "rows": rows? }))
}

/// Rounds until it is told to stop.
fn rounds(how: How, stop: &AtomicBool) -> Result<Value> {
    let fds = [calls::event(1)?.into_raw_fd(), calls::event(1)?.into_raw_fd()];
    let epfd = calls::create()?;
    for fd in fds {
        calls::control(epfd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, Some(libc::EPOLLIN))?;
    }
    let mut events: Events = [libc::epoll_event { events: 0, u64: 0 }; ROOM];
    let mut rounds = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let found = match how {
            How::Epoll => {
                let (epfd, wait) = (epfd.as_raw_fd(), calls::Call::Wait);
                let first = calls::wait(wait, epfd, Some(&mut events), 2, calls::Limit::Zero);
                [first, calls::wait(wait, epfd, Some(&mut events), 8, calls::Limit::Millis(1000))]
            }
            How::Sets(call) => {
                [sets::Limit::Zero, sets::Limit::Millis(1000)].map(|limit| sets::call(call, &fds, limit))
            }
        };
        ensure!(found == [Ok(2), Ok(2)], "{found:?}");
        rounds += 1;
    }
    let mechanism = match how {
        How::Epoll => "epoll",
        How::Sets(sets::Call::Poll) => "poll",
        How::Sets(_) => "select",
    };
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    std::mem::forget(epfd);
    Ok(json!({ "tid": tid, "mechanism": mechanism, "waits": rounds * 2 }))
}
