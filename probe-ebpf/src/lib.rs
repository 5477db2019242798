//! The records that the eBPF programs and the agent share: the one place that defines them.
//!
//! Every type is `#[repr(C)]` with fixed-width integers, explicit padding and no niche, so that the same bytes
//! mean the same on both sides. This crate is `no_std` and must never depend on aya, in either direction.
//!
//! What is in a map lives in [`Task`] and [`CtlTask`] (BPF task storage, one writer: the thread itself). What
//! reaches user space is always a [`Head`] followed by one of [`Loop`], [`Ctl`], [`Counters`] or nothing,
//! whether it comes from the iterator or from the ring buffer.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod histogram;
#[cfg(not(target_arch = "bpf"))]
pub mod object;

use histogram::{COUNT_BUCKETS, TIME_BUCKETS};

/// Numbers that name a set: a table of names whose index is the number used in the records.
macro_rules! numbers {
    ($(#[$doc:meta])* $module:ident { $($(#[$each:meta])* $name:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        pub mod $module {
            numbers!(@each 0_usize; $($(#[$each])* $name),+);
            /// The names as users see them; the index is the number in the records.
            pub const NAMES: [&str; [$($text),+].len()] = [$($text),+];
        }
    };
    (@each $n:expr; $(#[$doc:meta])* $name:ident $(, $(#[$docs:meta])* $names:ident)*) => {
        $(#[$doc])*
        pub const $name: usize = $n;
        numbers!(@each $n + 1; $($(#[$docs])* $names),*);
    };
    (@each $n:expr;) => {};
}

numbers! {
    /// How a completed wait ended.
    result {
        /// It returned at least one event.
        READY = "ready",
        /// A time-out greater than zero ran out.
        TIMEOUT = "timeout",
        /// A time-out of zero, and nothing was ready.
        EMPTY = "empty",
        /// A signal ended it (EINTR).
        INTERRUPTED = "interrupted",
        /// Any other errno.
        ERROR = "error",
    }
}

numbers! {
    /// What the timeout argument of a wait asked for.
    timeout {
        /// Wait for ever: a negative number, or a null pointer.
        INFINITE = "infinite",
        /// Do not wait.
        ZERO = "zero",
        /// Wait at most that long.
        FINITE = "finite",
        /// Behind a pointer that could not be read.
        UNKNOWN = "unknown",
    }
}

numbers! {
    /// What kind of waiting call a loop uses.
    mechanism {
        /// epoll_wait, epoll_pwait, epoll_pwait2.
        EPOLL = "epoll",
        /// poll, ppoll.
        POLL = "poll",
        /// select, pselect6.
        SELECT = "select",
        /// io_uring_enter with GETEVENTS.
        IO_URING = "io_uring",
        /// io_getevents, io_pgetevents.
        AIO = "aio",
    }
}

numbers! {
    /// The operation of an epoll_ctl call; the numbers are the kernel's (include/uapi/linux/eventpoll.h).
    ctl_op {
        /// A number that is none of the others; such a call always fails.
        OTHER = "other",
        /// EPOLL_CTL_ADD.
        ADD = "add",
        /// EPOLL_CTL_DEL.
        DEL = "del",
        /// EPOLL_CTL_MOD.
        MOD = "mod",
    }
}

numbers! {
    /// The trigger flags of a successful EPOLL_CTL_ADD or EPOLL_CTL_MOD.
    ctl_flag {
        /// EPOLLET.
        EDGE = "edge",
        /// EPOLLONESHOT.
        ONESHOT = "oneshot",
        /// EPOLLEXCLUSIVE.
        EXCLUSIVE = "exclusive",
        /// EPOLLWAKEUP.
        WAKEUP = "wakeup",
    }
}

/// Which bit of `struct epoll_event.events` each [`ctl_flag`] is (include/uapi/linux/eventpoll.h).
pub const CTL_FLAG_BITS: [u32; 4] = [31, 30, 28, 29];

numbers! {
    /// The errno of a failed epoll_ctl (the ones that epoll_ctl(2) names).
    ctl_errno {
        /// EBADF.
        EBADF = "EBADF",
        /// EEXIST.
        EEXIST = "EEXIST",
        /// EFAULT.
        EFAULT = "EFAULT",
        /// EINVAL.
        EINVAL = "EINVAL",
        /// ELOOP.
        ELOOP = "ELOOP",
        /// ENOENT.
        ENOENT = "ENOENT",
        /// ENOMEM.
        ENOMEM = "ENOMEM",
        /// ENOSPC.
        ENOSPC = "ENOSPC",
        /// EPERM.
        EPERM = "EPERM",
        /// Any other.
        OTHER = "other",
    }
}

/// The [`ctl_errno`] of each errno number below its length; of higher ones it is [`ctl_errno::OTHER`].
pub static CTL_ERRNOS: [u8; 64] = {
    let mut table = [ctl_errno::OTHER as u8; 64];
    table[9] = ctl_errno::EBADF as u8;
    table[17] = ctl_errno::EEXIST as u8;
    table[14] = ctl_errno::EFAULT as u8;
    table[22] = ctl_errno::EINVAL as u8;
    table[40] = ctl_errno::ELOOP as u8;
    table[2] = ctl_errno::ENOENT as u8;
    table[12] = ctl_errno::ENOMEM as u8;
    table[28] = ctl_errno::ENOSPC as u8;
    table[1] = ctl_errno::EPERM as u8;
    table
};

numbers! {
    /// What was not recorded, and why. The first five are counted per CPU by the programs; `missed` is read
    /// from the kernel's own count of runs that it skipped.
    lost {
        /// A waiter without a record: no memory, or a limit was reached.
        RECORDS = "records",
        /// The ring buffer was full.
        EVENTS = "events",
        /// An exit without an entry.
        UNPAIRED = "unpaired",
        /// A time difference that was negative, taken as zero.
        CLAMPED = "clamped",
        /// A 32-bit task on a way that cannot read its arguments.
        UNSEEN = "unseen",
    }
}

numbers! {
    /// The programs whose runs are counted; the names are those of the programs in the object.
    program {
        /// Entry of epoll_wait.
        ENTER_EPOLL_WAIT = "enter_epoll_wait",
        /// Exit of epoll_wait.
        EXIT_EPOLL_WAIT = "exit_epoll_wait",
        /// Entry of epoll_pwait.
        ENTER_EPOLL_PWAIT = "enter_epoll_pwait",
        /// Exit of epoll_pwait.
        EXIT_EPOLL_PWAIT = "exit_epoll_pwait",
        /// Entry of epoll_pwait2.
        ENTER_EPOLL_PWAIT2 = "enter_epoll_pwait2",
        /// Exit of epoll_pwait2.
        EXIT_EPOLL_PWAIT2 = "exit_epoll_pwait2",
        /// Exit of epoll_ctl.
        EXIT_EPOLL_CTL = "exit_epoll_ctl",
        /// Exit of epoll_create.
        EXIT_EPOLL_CREATE = "exit_epoll_create",
        /// Exit of epoll_create1.
        EXIT_EPOLL_CREATE1 = "exit_epoll_create1",
        /// A thread ends.
        TASK_EXIT = "task_exit",
        /// A thread executes another program.
        TASK_EXEC = "task_exec",
    }
}

numbers! {
    /// What follows a [`Head`].
    kind {
        /// One [`Loop`] or several, as many as [`Head::size`] says; free ones among them.
        LOOPS = "loops",
        /// One [`Ctl`] or several, likewise.
        CTLS = "ctls",
        /// [`Counters`]; the last record of a pass, so that a pass that was cut short is noticed.
        COUNTERS = "counters",
        /// Nothing: a thread was seen for the first time.
        BORN = "born",
    }
}

numbers! {
    /// Why a record was sent.
    reason {
        /// A pass of the iterator.
        SAMPLE = "sample",
        /// The thread ended: these are its last figures.
        EXIT = "exit",
        /// The thread executes another program: these are the last figures of the old one.
        EXEC = "exec",
        /// The thread used more waitables than [`LOOPS_MORE`] has room for.
        EVICT = "evict",
    }
}

/// Waitables that are not a kernel object: numbers where no kernel address can be.
pub mod waitable {
    /// This slot is free.
    pub const FREE: u64 = 0;
    /// Waits and epoll_ctl calls on a descriptor that is no epoll instance.
    pub const NO_INSTANCE: u64 = 1;
}

/// Loops of one thread beyond the first; a power of two. A tenth waitable flushes these eight to the ring buffer.
pub const LOOPS_MORE: usize = 8;
/// Epoll instances on which one thread's epoll_ctl calls are counted; a power of two. One more flushes all of
/// them.
pub const CTL_SLOTS: usize = 8;
/// Columns of [`Ctl::errors`]: the power of two above the number of [`ctl_errno`]s, so that a mask bounds an index.
pub const CTL_ERRNO_COLUMNS: usize = 16;
const _: () = assert!(ctl_errno::NAMES.len() <= CTL_ERRNO_COLUMNS);

/// The wait that a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// CLOCK_MONOTONIC of its entry, ns; 0: the thread is in no wait.
    pub entry_ns: u64,
    /// What it waits on: the address of the instance's `struct file`, or one of [`waitable`].
    pub waitable: u64,
    /// Which use of that address: CLOCK_MONOTONIC ns of the instance's creation, 0 for one that is older than
    /// the probes.
    pub generation: u64,
    /// The file descriptor that was given.
    pub fd: i32,
    /// The maxevents that was given.
    pub maxevents: u32,
    /// One of [`timeout`].
    pub timeout: u32,
    /// One of [`mechanism`].
    pub mechanism: u32,
    /// Index of the slot that counts it (0: the task's own, above: [`LOOPS_MORE`]), or [`Wait::NO_SLOT`].
    pub slot: u32,
    /// 1: it began before the probes were attached, and its completion enters no count.
    pub inherited: u32,
}

impl Wait {
    /// The waitable has no slot yet: it gets one when this wait completes.
    pub const NO_SLOT: u32 = u32::MAX;
}

/// A largest value, per window of the reader: a single writer cannot be reset by a reader.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Max {
    /// Since the window number in [`Loop::window`].
    pub current: u64,
    /// In the window [`Loop::previous_window`].
    pub previous: u64,
}

/// What one thread did on one waitable, since the slot was taken. Written by that thread alone.
///
/// Bucket and result counts are u32 and wrap: the agent adds up differences.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    /// As [`Wait::waitable`]; [`waitable::FREE`] where the slot is unused.
    pub waitable: u64,
    /// As [`Wait::generation`].
    pub generation: u64,
    /// CLOCK_MONOTONIC of the end of its last wait, ns; 0: none ended yet.
    pub last_exit_ns: u64,
    /// [`Task::wait_ns`] at that moment.
    pub thread_wait_ns: u64,
    /// Sum of the wait times, ns.
    pub wait_ns: u64,
    /// Part of a wait that began before the probes, from the attachment to its end, ns; in no histogram.
    pub inherited_ns: u64,
    /// Sum of the busy times, ns.
    pub busy_ns: u64,
    /// Time that the thread spent in other waits between this loop's waits, ns.
    pub other_wait_ns: u64,
    /// Sum of the events returned.
    pub events: u64,
    /// Longest wait, ns.
    pub wait_max_ns: Max,
    /// Longest busy time, ns.
    pub busy_max_ns: Max,
    /// Most events of a wait.
    pub events_max: Max,
    /// The reader's window ([`Task::window`]) in which this slot was last written.
    pub window: u32,
    /// The one before it in which it was written.
    pub previous_window: u32,
    /// Of the probes only: an index on its way to its use. What comes back from memory is unknown to the verifier,
    /// so that it does not follow every path that led to each index (880,000 instructions in all without, 37,000
    /// with).
    pub scratch: u32,
    /// In a copy made by the iterator: 1 where the descriptor no longer means this instance. Else 0.
    pub closed: u32,
    /// Low bits of the instance epoch under which `generation` was last confirmed; of the probes only.
    pub epoch: u32,
    /// One of [`mechanism`].
    pub mechanism: u32,
    /// The last descriptor that was given.
    pub fd: i32,
    /// The last maxevents that was given.
    pub maxevents: u32,
    /// Waits by [`result`].
    pub results: [u32; result::NAMES.len()],
    /// Waits by [`timeout`].
    pub timeouts: [u32; timeout::NAMES.len()],
    /// Waits that returned as many events as were asked for.
    pub saturated: u32,
    /// Wait times, by [`histogram::time_bucket`].
    pub wait: [u32; TIME_BUCKETS],
    /// Busy times, by [`histogram::time_bucket`].
    pub busy: [u32; TIME_BUCKETS],
    /// Events per wait (waits that did not fail), by [`histogram::count_bucket`].
    pub events_per_wait: [u32; COUNT_BUCKETS],
}

/// The record of a thread that waits: BPF task storage.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Odd while the thread writes: a reader that saw it odd, or changed, reads again.
    pub sequence: u64,
    /// The reader's window number; written by the reader alone.
    pub window: u64,
    /// CLOCK_MONOTONIC ns at which this record was made: with the thread id, its identity.
    pub born_ns: u64,
    /// Process id as the host counts, when the record was made.
    pub tgid: u32,
    /// Thread id as the host counts, when the record was made (an exec from a thread changes it).
    pub tid: u32,
    /// Sum of all wait times of this thread, on whatever waitable, ns.
    pub wait_ns: u64,
    /// The wait that the thread is in.
    pub wait: Wait,
    /// Name of the process (of its main thread) when the record was made.
    pub comm: [u8; 16],
    /// Name of the thread when the record was made.
    pub thread: [u8; 16],
    /// The first waitable that it waited on.
    pub first: Loop,
}

/// The further waitables of a thread that uses several: task storage of its own, so that the common thread
/// pays for one loop only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoreLoops {
    /// Filled from the front.
    pub loops: [Loop; LOOPS_MORE],
}

/// The epoll_ctl calls of one thread on one instance.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ctl {
    /// As [`Wait::waitable`].
    pub waitable: u64,
    /// As [`Wait::generation`].
    pub generation: u64,
    /// As [`Loop::epoch`].
    pub epoch: u32,
    /// The last epfd that was given.
    pub fd: i32,
    /// Calls that succeeded, by [`ctl_op`].
    pub done: [u32; ctl_op::NAMES.len()],
    /// Flags of the successful adds and mods, by [`ctl_flag`].
    pub flags: [u32; ctl_flag::NAMES.len()],
    /// Calls that failed, by [`ctl_op`] and [`ctl_errno`]; the columns beyond the names stay 0.
    pub errors: [[u32; CTL_ERRNO_COLUMNS]; ctl_op::NAMES.len()],
}

/// The epoll_ctl calls of a thread: BPF task storage.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CtlTask {
    /// As [`Task::sequence`].
    pub sequence: u64,
    /// The slot that was used last: where the next call looks first.
    pub hint: u64,
    /// As [`Task::born_ns`].
    pub born_ns: u64,
    /// As [`Task::tgid`].
    pub tgid: u32,
    /// As [`Task::tid`].
    pub tid: u32,
    /// As [`Task::comm`].
    pub comm: [u8; 16],
    /// As [`Task::thread`].
    pub thread: [u8; 16],
    /// Filled from the front.
    pub slots: [Ctl; CTL_SLOTS],
}

/// Counts per CPU; one element of a per-CPU array, written without atomics by the programs on that CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Runs of each [`program`].
    pub runs: [u64; program::NAMES.len()],
    /// What was lost, by [`lost`].
    pub lost: [u64; lost::NAMES.len()],
}

/// What precedes every record that reaches user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// One of [`kind`].
    pub kind: u32,
    /// Bytes of the record, this head included.
    pub size: u32,
    /// One of [`reason`].
    pub reason: u32,
    /// The window number that the reader opened with this sample; a flush carries the one that would be next.
    pub window: u32,
    /// CLOCK_MONOTONIC of the copy, ns.
    pub now_ns: u64,
    /// As [`Task::born_ns`].
    pub born_ns: u64,
    /// As [`Task::tgid`].
    pub tgid: u32,
    /// As [`Task::tid`].
    pub tid: u32,
    /// Name of the process.
    pub comm: [u8; 16],
    /// Name of the thread.
    pub thread: [u8; 16],
    /// As [`Task::wait_ns`].
    pub wait_ns: u64,
    /// As [`Task::wait`].
    pub wait: Wait,
}

/// A [`Head`] and what follows it, as they are sent.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Record<T> {
    /// What precedes every record.
    pub head: Head,
    /// What the head announces.
    pub body: T,
}

// Sizes are part of the contract: a hole that the compiler put in would show here. With what a task storage value
// needs beside them in the kernel, Task takes an allocation of 2 KB and CtlTask one of 4 KB.
const _: () = assert!(size_of::<Wait>() == 48);
const _: () = assert!(size_of::<Head>() == 128);
const _: () = assert!(size_of::<Loop>() == 72 + 48 + 8 + 24 + 20 + 16 + 4 + 512 + 512 + 256);
const _: () = assert!(size_of::<Task>() == 40 + 48 + 32 + size_of::<Loop>());
const _: () = assert!(size_of::<Ctl>() == 16 + 8 + 16 + 16 + 256);
const _: () = assert!(size_of::<CtlTask>() == 64 + CTL_SLOTS * size_of::<Ctl>());
const _: () = assert!(size_of::<Record<Loop>>() == size_of::<Head>() + size_of::<Loop>());
const _: () = assert!(size_of::<Record<Ctl>>() == size_of::<Head>() + size_of::<Ctl>());

// SAFETY of copying bytes into these types, on the agent's side: every one of them is integers and arrays of
// integers only, so any bit pattern is a value.
macro_rules! plain {
    ($($name:ty),+) => { $(
        impl $name {
            /// Reads the record from the start of `bytes`; None where they are too few.
            pub fn read(bytes: &[u8]) -> Option<Self> {
                if bytes.len() < size_of::<Self>() {
                    return None;
                }
                // SAFETY: the length was checked above, read_unaligned asks for no alignment, and the type is
                // made of integers alone.
                Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
            }
        }
    )+ };
}
plain!(Head, Loop, Ctl, Counters);
