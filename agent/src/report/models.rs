//! The I/O model of a row: which of the ways of waiting it is, as far as its waits tell. Pure, and the only place that says.
//!
//! What a window does not show is `None`: that a thread reads and writes without waiting, or that a pool of threads works
//! for a loop, no waiting call says.

use super::{
    derived::share,
    document::{InstanceRow, LoopRow, Mechanism},
};

/// Waits of a window from which on their kind means something.
const ENOUGH: u64 = 16;
/// The share of waits from which on a row polls by hand.
const NEARLY_ALL: f64 = 0.9;

/// A way of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoModel {
    /// Nearly all waits ask not to wait, and find nothing: the program looks again and again.
    Polled,
    /// One thread, all descriptors copied in and looked at in each call, to 1,023.
    Select,
    /// As select, without that limit.
    Poll,
    /// One thread on an instance; what is not drained is reported again.
    EpollLevel,
    /// One thread on an instance; each change is reported once.
    EpollEdge,
    /// One thread on an instance that has both.
    EpollBoth,
    /// Several threads wait on one instance, as runtimes of coroutines and pools of workers do.
    EpollShared,
    /// Operations are submitted, and the wait is for what was completed.
    Completion,
}

impl IoModel {
    /// Of a row, and the instance that it waits on. None: it cannot be said.
    pub fn of(row: &LoopRow, instance: Option<&InstanceRow>) -> Option<IoModel> {
        let nearly_all =
            |part| row.waits >= ENOUGH && share(part, row.waits).is_some_and(|share| share >= NEARLY_ALL);
        if nearly_all(row.timeouts.zero) && nearly_all(row.results.empty) {
            return Some(IoModel::Polled);
        }
        match row.mechanism {
            Mechanism::IoUring | Mechanism::Aio => Some(IoModel::Completion),
            // A call now and then is no model.
            Mechanism::Poll => row.is_loop.then_some(IoModel::Poll),
            Mechanism::Select => row.is_loop.then_some(IoModel::Select),
            Mechanism::Epoll => {
                let instance = instance?;
                match (instance.waiters, instance.trigger()?) {
                    (2.., _) => Some(IoModel::EpollShared),
                    (_, "LT") => Some(IoModel::EpollLevel),
                    (_, "ET") => Some(IoModel::EpollEdge),
                    _ => Some(IoModel::EpollBoth),
                }
            }
        }
    }

    /// In a column.
    pub fn name(self) -> &'static str {
        match self {
            IoModel::Polled => "by hand",
            IoModel::Select => "select",
            IoModel::Poll => "poll",
            IoModel::EpollLevel => "loop LT",
            IoModel::EpollEdge => "loop ET",
            IoModel::EpollBoth => "loop LT+ET",
            IoModel::EpollShared => "shared",
            IoModel::Completion => "completion",
        }
    }

    /// In a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            IoModel::Polled => {
                "non-blocking, polled by hand: nearly all waits ask not to wait, and find nothing"
            }
            IoModel::Select => "select: all descriptors are copied in and looked at in each call",
            IoModel::Poll => "poll: all descriptors are copied in and looked at in each call",
            IoModel::EpollLevel => {
                "event loop on epoll, level-triggered: what is not drained is reported again"
            }
            IoModel::EpollEdge => "event loop on epoll, edge-triggered: each change is reported once",
            IoModel::EpollBoth => "event loop on epoll, level- and edge-triggered",
            IoModel::EpollShared => "several threads on one epoll instance, as coroutines and pools have it",
            IoModel::Completion => "completion: operations are submitted, and waited for",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{Results, Timeouts, Watched};
    use super::*;

    fn instance(waiters: u32, level: u64, edge: u64) -> InstanceRow {
        let watched = Watched { total: level + edge, level, edge, ..Watched::default() };
        InstanceRow { waiters, watched: Some(watched), ..InstanceRow::default() }
    }

    fn name(row: &LoopRow, instance: Option<&InstanceRow>) -> Option<&'static str> {
        IoModel::of(row, instance).map(IoModel::name)
    }

    #[test]
    fn an_epoll_loop_is_told_by_its_set_and_unknown_without() {
        let row = LoopRow { is_loop: true, ..LoopRow::default() };
        assert_eq!(name(&row, None), None);
        assert_eq!(name(&row, Some(&InstanceRow::default())), None);
        assert_eq!(name(&row, Some(&instance(1, 0, 0))), None);
        for (waiters, level, edge, expected) in
            [(1, 3, 0, "loop LT"), (1, 0, 9, "loop ET"), (1, 1, 1, "loop LT+ET"), (4, 0, 9, "shared")]
        {
            assert_eq!(name(&row, Some(&instance(waiters, level, edge))), Some(expected));
        }
    }

    #[test]
    fn a_poll_now_and_then_has_no_model_and_a_loop_of_polls_has_one() {
        for (mechanism, expected) in [(Mechanism::Poll, "poll"), (Mechanism::Select, "select")] {
            let row = LoopRow { mechanism, waits: 3, ..LoopRow::default() };
            assert_eq!(name(&row, None), None);
            assert_eq!(name(&LoopRow { is_loop: true, ..row }, None), Some(expected));
        }
    }

    #[test]
    fn zero_timeouts_are_polling_by_hand_only_where_they_find_nothing() {
        let row = |waits, empty| LoopRow {
            mechanism: Mechanism::Poll,
            is_loop: true,
            waits,
            timeouts: Timeouts { zero: waits, ..Timeouts::default() },
            results: Results { empty, ready: waits - empty, ..Results::default() },
            ..LoopRow::default()
        };
        assert_eq!(name(&row(1000, 950), None), Some("by hand"));
        // A busy loop that looks whether there is more before it sleeps.
        assert_eq!(name(&row(1000, 300), None), Some("poll"));
        assert_eq!(name(&row(5, 5), None), Some("poll"), "five waits say nothing");
    }
}
