//! Epoll instances: who holds them, who waits, and what epoll_ctl did, summed over threads.

use std::{collections::BTreeSet, sync::Arc};

use super::{interest::InterestSet, shared::Listener, totals::CtlTotals};

/// An instance in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceWindow {
    /// A number of ours.
    pub number: u64,
    /// Threads that waited on it, or are waiting.
    pub waiters: usize,
    /// Processes that are known to hold it, with the descriptor that they used.
    pub holders: BTreeSet<(u32, i32)>,
    /// epoll_ctl calls, by whichever thread.
    pub ctl: CtlTotals,
    /// What it watches; None until that was read, or where nobody holds it any more.
    pub set: Option<Arc<InterestSet>>,
    /// Listening sockets that it and other instances watch, as far as the sets are known.
    pub listeners: Vec<Listener>,
}

impl InstanceWindow {
    /// An instance of which nothing else is known yet.
    pub fn new(number: u64, waiters: usize) -> Self {
        InstanceWindow {
            number,
            waiters,
            holders: BTreeSet::new(),
            ctl: CtlTotals::default(),
            set: None,
            listeners: Vec::new(),
        }
    }

    /// Notes that a process used it by a descriptor.
    pub fn hold(&mut self, tgid: u32, fd: i32) {
        self.holders.insert((tgid, fd));
    }
}
