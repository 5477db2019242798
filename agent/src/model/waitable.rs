//! What a wait is on, as the model tells such things apart. Numbers only; what happened on them is elsewhere.

use loopscope_probe::{Wait, mechanism, waitable};

/// A use of a kernel address, the number of an AIO context, or one of [`waitable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Waitable {
    pub(super) address: u64,
    pub(super) generation: u64,
    pub(super) space: Space,
}

/// What the numbers of a waitable are numbers of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Space {
    /// Epoll instances, and [`waitable`].
    #[default]
    Instances,
    /// Rings of io_uring.
    Rings,
    /// AIO contexts of this process.
    Contexts(u32),
}

impl Waitable {
    /// An epoll instance, or one of [`waitable`].
    pub(super) fn instance(address: u64, generation: u64) -> Waitable {
        Waitable { address, generation, space: Space::Instances }
    }

    /// What a wait of this process by this mechanism is on.
    pub(super) fn of(address: u64, generation: u64, mechanism: u32, tgid: u32) -> Waitable {
        let space = match mechanism as usize {
            _ if address <= waitable::LAST => Space::Instances,
            mechanism::IO_URING => Space::Rings,
            mechanism::AIO => Space::Contexts(tgid),
            _ => Space::Instances,
        };
        Waitable { address, generation, space }
    }

    /// What the head's open wait is on.
    pub(super) fn waited_on(wait: &Wait, tgid: u32) -> Waitable {
        Waitable::of(wait.waitable, wait.generation, wait.mechanism, tgid)
    }

    /// Whether it is something that threads can share, rather than a thread's own calls.
    pub(super) fn is_object(self) -> bool {
        self.address > waitable::LAST
    }

    /// Whether it is an epoll instance.
    pub(super) fn is_instance(self) -> bool {
        self.is_object() && self.space == Space::Instances
    }
}
