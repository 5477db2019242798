//! The arguments of a waiting call, in the form in which every mechanism notes them. Holds no state.

use loopscope_probe::timeout;

use crate::kernel;

/// The arguments of a waiting call.
pub struct Call {
    /// One of [`loopscope_probe::mechanism`].
    pub mechanism: u32,
    /// The epoll descriptor; -1 for poll and select.
    pub fd: i32,
    /// maxevents or nfds.
    pub asked: u32,
    /// The time-out.
    pub timeout: Timeout,
    /// What poll and select copy.
    pub sets: Sets,
}

/// A time-out argument.
#[derive(Clone, Copy)]
pub struct Timeout {
    /// One of [`timeout`].
    pub kind: u32,
    /// How long, where it is finite.
    pub ns: u64,
}

impl Timeout {
    /// The unit of a `struct timespec`'s second number, ns.
    pub const NANOS: u64 = 1;
    /// The unit of a `struct timeval`'s second number, ns.
    pub const MICROS: u64 = 1000;

    /// A time-out of which only the kind is known.
    #[inline(always)]
    pub fn unmeasured(kind: usize) -> Timeout {
        Timeout { kind: kind as u32, ns: 0 }
    }

    /// Milliseconds; negative: for ever (epoll_wait(2), poll(2)).
    #[inline(always)]
    pub fn millis(ms: i32) -> Timeout {
        match ms {
            ..0 => Timeout::unmeasured(timeout::INFINITE),
            0 => Timeout::unmeasured(timeout::ZERO),
            1.. => Timeout { kind: timeout::FINITE as u32, ns: ms as u64 * 1_000_000 },
        }
    }

    /// The address of two numbers, seconds and `unit` ns; null: for ever.
    #[inline(always)]
    pub fn at(address: u64, unit: u64) -> Timeout {
        if address == 0 {
            return Timeout::unmeasured(timeout::INFINITE);
        }
        match kernel::read_user::<[u64; 2]>(address) {
            None => Timeout::unmeasured(timeout::UNKNOWN),
            Some([0, 0]) => Timeout::unmeasured(timeout::ZERO),
            // A number of seconds that is beyond this is for ever, for all that can be measured.
            Some([s, _]) if s >= 1 << 33 => Timeout::unmeasured(timeout::INFINITE),
            Some([s, part]) => Timeout { kind: timeout::FINITE as u32, ns: s * 1_000_000_000 + part * unit },
        }
    }
}

/// What a call copies between user and kernel beside its result: see [`crate::poll`] and [`crate::select`].
#[derive(Clone, Copy, Default)]
pub struct Sets {
    /// Bytes in.
    pub bytes_in: u32,
    /// Bytes out, where it succeeds.
    pub bytes_out: u32,
    /// Highest descriptor in the sets, plus 1; 0 where they were not looked at.
    pub highest: u32,
}
