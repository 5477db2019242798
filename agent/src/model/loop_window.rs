//! A loop in a window: what views are given of it. Adds up loops that are shown as one; subtracts nothing.

use super::{
    Thread,
    looped::{Largest, Now, Times},
    shared::Listener,
    totals::Totals,
};

/// A loop, or another waiter, in a window; `T` is [`Totals`], or [`super::Packed`] where many windows are kept.
#[derive(Clone, Debug)]
pub struct LoopWindow<T = Totals> {
    /// Whose it is.
    pub thread: Thread,
    /// One of [`loopscope_probe::mechanism`].
    pub mechanism: u32,
    /// The last descriptor given.
    pub fd: i32,
    /// The last maxevents or nfds given.
    pub asked: u32,
    /// Highest descriptor seen in the sets of select since the thread's first.
    pub highest_fd: Option<u32>,
    /// The last number of completions that a wait on a ring or an AIO context asked for at least.
    pub least: Option<u32>,
    /// It waits on an instance, rather than by poll, select or on a bad descriptor.
    pub on_instance: bool,
    /// The length of its ready list is measured.
    pub has_backlog: bool,
    /// Number of the instance; None where there is none.
    pub instance: Option<u64>,
    /// It comes back to wait.
    pub is_loop: bool,
    /// It is a loop that no other thread shares: busy time and state mean something.
    pub alone: bool,
    /// Its thread or its instance is gone.
    pub ended: bool,
    /// Counts.
    pub totals: T,
    /// Largest values.
    pub largest: Largest,
    /// Times, the open state at both ends included.
    pub times: Times,
    /// The state that it is in.
    pub now: Now,
    /// Listening sockets that its instance and others watch.
    pub listeners: Vec<Listener>,
}

impl<T> AsRef<Thread> for LoopWindow<T> {
    fn as_ref(&self) -> &Thread {
        &self.thread
    }
}

impl<T> LoopWindow<T> {
    /// The same with other totals.
    pub fn with<U>(self, totals: impl FnOnce(T) -> U) -> LoopWindow<U> {
        LoopWindow {
            thread: self.thread,
            mechanism: self.mechanism,
            fd: self.fd,
            asked: self.asked,
            highest_fd: self.highest_fd,
            least: self.least,
            on_instance: self.on_instance,
            instance: self.instance,
            is_loop: self.is_loop,
            alone: self.alone,
            ended: self.ended,
            has_backlog: self.has_backlog,
            totals: totals(self.totals),
            largest: self.largest,
            times: self.times,
            now: self.now,
            listeners: self.listeners,
        }
    }
}

impl LoopWindow {
    /// Adds what another loop did, as if both were one: counts and times add up, the greater maximum counts. What is
    /// said of states is the other's where that one has been busy for longer.
    pub fn merge(&mut self, mut other: LoopWindow) {
        self.forget_shared_busy();
        other.forget_shared_busy();
        self.totals.merge(&other.totals);
        self.largest = self.largest.max(other.largest);
        if other.alone {
            self.times = if self.alone { self.times.plus(other.times) } else { other.times };
        }
        let busy_ns = |now: Now| if let Now::Busy(ns) = now { Some(ns) } else { None };
        if !self.alone || busy_ns(other.now) > busy_ns(self.now) {
            self.now = other.now;
        }
        self.is_loop |= other.is_loop;
        self.alone |= other.alone;
        self.has_backlog |= other.has_backlog;
        self.ended &= other.ended;
    }

    /// Where several threads wait, busy times were noted but mean nothing.
    fn forget_shared_busy(&mut self) {
        if !self.alone {
            self.totals.busy.fill(0);
            (self.totals.busy_ns, self.largest.busy_ns) = (0, 0);
        }
    }
}
