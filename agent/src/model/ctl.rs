//! The epoll_ctl calls of a thread on an instance: from two readings of its slot to counts.

use std::sync::Arc;

use loopscope_probe::{Ctl, Head, reason};

use super::{Model, ThreadKey, Waitable, totals::CtlTotals};
use crate::{decode::name, identity::Process};

/// The epoll_ctl calls of one thread on one instance.
#[derive(Default)]
pub(super) struct CtlState {
    pub(super) raw: Option<Ctl>,
    pub(super) now_ns: u64,
    pub(super) totals: CtlTotals,
    pub(super) base: CtlTotals,
    pub(super) comm: String,
    pub(super) thread: String,
    pub(super) process: Option<Arc<Process>>,
    pub(super) tgid: u32,
    pub(super) fd: i32,
    pub(super) ended: bool,
}

impl CtlState {
    pub(super) fn window(&self, tid: u32) -> CtlWindow {
        CtlWindow {
            tgid: self.tgid,
            tid,
            comm: self.comm.clone(),
            thread: self.thread.clone(),
            process: self.process.clone().unwrap_or_default(),
            totals: self.totals.since(&self.base),
        }
    }
}

/// The epoll_ctl calls of a thread on an instance, or on what is none, in a window.
#[derive(Clone, Debug)]
pub struct CtlWindow {
    /// Process id as the host counts.
    pub tgid: u32,
    /// Thread id as the host counts.
    pub tid: u32,
    /// Name of the process.
    pub comm: String,
    /// Name of the thread.
    pub thread: String,
    /// What /proc says of the process.
    pub process: Arc<Process>,
    /// What it did.
    pub totals: CtlTotals,
}

impl Model {
    /// Advances a thread's epoll_ctl calls.
    pub(super) fn ctls(&mut self, head: &Head, ctls: &[Ctl], identify: &mut dyn FnMut(u32) -> Arc<Process>) {
        let key = ThreadKey { tid: head.tid, born_ns: head.born_ns };
        for raw in ctls {
            let of = Waitable::instance(raw.waitable, raw.generation);
            let state = self.ctls.entry((key, of)).or_default();
            if state.ended || head.now_ns < state.now_ns {
                continue;
            }
            state.totals.advance(state.raw.as_ref(), raw);
            state.raw = Some(*raw);
            state.now_ns = head.now_ns;
            (state.tgid, state.fd) = (head.tgid, raw.fd);
            // The same thread's waits have another record, and so another key.
            state.process.get_or_insert_with(|| identify(head.tgid));
            // As for a thread.
            if head.reason != reason::EXEC as u32 || state.comm.is_empty() {
                (state.comm, state.thread) = (name(&head.comm), name(&head.thread));
            }
            state.ended = head.reason != reason::SAMPLE as u32;
        }
    }
}
