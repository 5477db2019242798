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

mod entries;
pub mod histogram;
mod lines;
mod numbers;
#[cfg(not(target_arch = "bpf"))]
pub mod object;

use histogram::{COUNT_BUCKETS, TIME_BUCKETS};

pub use entries::{CHUNK_ENTRIES, Chunk, ChunkHead, Entry};
pub use lines::{ALL_LINES, LINES, Line, Scalars, Sent, line_of};
pub use numbers::*;

/// Waitables that are not a kernel object: numbers where no kernel address can be.
pub mod waitable {
    /// This slot is free.
    pub const FREE: u64 = 0;
    /// Waits and epoll_ctl calls on a descriptor that is no epoll instance.
    pub const NO_INSTANCE: u64 = 1;
    /// The thread's poll and ppoll calls.
    pub const POLL: u64 = 2;
    /// The thread's select and pselect6 calls.
    pub const SELECT: u64 = 3;
    /// The last of them: what is greater is the address of an instance.
    pub const LAST: u64 = SELECT;
}

/// Poll or select calls of a thread are a loop after this many waits...
pub const LOOP_WAITS: u32 = 16;
/// ...and no more after a gap of more than this, ns.
pub const LOOP_GAP_NS: u64 = 10_000_000_000;

/// Loops of one thread beyond the first; a power of two. A tenth waitable flushes these eight to the ring buffer.
pub const LOOPS_MORE: usize = 8;
/// Epoll instances on which one thread's epoll_ctl calls are counted; a power of two. One more flushes all of
/// them.
pub const CTL_SLOTS: usize = 4;
/// Columns of [`Ctl::errors`]: the power of two above the number of [`ctl_errno`]s, so that a mask bounds an index.
pub const CTL_ERRNO_COLUMNS: usize = 16;
const _: () = assert!(ctl_errno::NAMES.len() <= CTL_ERRNO_COLUMNS);

/// The wait that a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// CLOCK_MONOTONIC of its entry, ns; 0: the thread is in no wait.
    pub entry_ns: u64,
    /// What it waits on: the address of the `struct file` of an instance or a ring, the number of an AIO context (an
    /// address of its process), or one of [`waitable`].
    pub waitable: u64,
    /// Which use of that address: CLOCK_MONOTONIC ns of the instance's creation, 0 for one that is older than
    /// the probes.
    pub generation: u64,
    /// A finite time-out, ns.
    pub timeout_ns: u64,
    /// Where the call came back only to go on (-512 to -516, see signal(7)): when it did, ns; else 0.
    pub paused_ns: u64,
    /// The descriptor of the instance or ring that was given; -1 where there is none.
    pub fd: i32,
    /// The maxevents, nfds or nr that was given; of a ring, how many completions it has room for.
    pub asked: u32,
    /// One of [`timeout`].
    pub timeout: u32,
    /// One of [`mechanism`].
    pub mechanism: u32,
    /// Index of the slot that counts it (0: the task's own, above: [`LOOPS_MORE`]), or [`Wait::NO_SLOT`].
    pub slot: u32,
    /// 1: it began before the probes were attached, and its completion enters no count.
    pub inherited: u32,
    /// Bytes of descriptor sets that the kernel copies in for this call.
    pub bytes_in: u32,
    /// Bytes of descriptor sets that the kernel copies out when it succeeds.
    pub bytes_out: u32,
    /// Highest descriptor in the sets of select, plus 1, where this call was sampled; else 0.
    pub highest: u32,
    /// How often it came back only to go on: each time the kernel copies the sets anew.
    pub passes: u32,
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
    /// Sum of the times by which waits exceeded their finite time-out, ns.
    pub overrun_ns: u64,
    /// Longest of them, ns.
    pub overrun_max_ns: Max,
    /// Sum of the nfds of poll or select.
    pub nfds: u64,
    /// Greatest nfds.
    pub nfds_max: Max,
    /// Bytes of descriptor sets that the kernel copied in (poll and select); requests that a ring took.
    pub bytes_in: u64,
    /// Bytes of descriptor sets that the kernel copied out (poll and select); completions for which a ring had no room.
    pub bytes_out: u64,
    /// Sum of the ready list's lengths at the entries of waits (epoll).
    pub backlog: u64,
    /// Longest ready list.
    pub backlog_max: Max,
    /// Of [`Loop::backlog`], what the loop's wait before had delivered and the kernel had put back.
    pub requeued: u64,
    /// Most of that.
    pub requeued_max: Max,
    /// The reader's window ([`Task::window`]) in which this slot was last written.
    pub window: u32,
    /// The one before it in which it was written.
    pub previous_window: u32,
    /// Of the probes only: an index on its way to its use. What comes back from memory is unknown to the verifier,
    /// so that it does not follow every path that led to each index (880,000 instructions in all without, 37,000
    /// with).
    pub scratch: u32,
    /// In a record that is sent: 1 where the descriptor no longer means this instance. Else 0.
    pub closed: u32,
    /// Low bits of the instance epoch under which `generation` was last confirmed; of the probes only.
    pub epoch: u32,
    /// One of [`mechanism`].
    pub mechanism: u32,
    /// The last descriptor that was given.
    pub fd: i32,
    /// The last maxevents or nfds that was given.
    pub asked: u32,
    /// Waits since the last gap of more than [`LOOP_GAP_NS`]; stops at [`LOOP_WAITS`]. Of poll and select only.
    pub streak: u32,
    /// Highest descriptor seen in the sets of select, plus 1; 0 while none was. Of rings and AIO contexts the number of
    /// completions that was last waited for (min_complete, min_nr).
    pub highest: u32,
    /// Ready lists that were longer than the walk.
    pub truncated: u32,
    /// Entries that the last wait left in the ready list; of the probes only.
    pub requeues: u32,
    /// Waits that leave the ready list alone from here on; of the probes only.
    pub sparse: u32,
    /// Which use of a slot of this thread it is, counted from 1 by [`Task::takes`].
    pub serial: u32,
    /// Bit i: line i of the histograms was written in the window [`Loop::window`].
    pub touched: u64,
    /// The same for [`Loop::previous_window`].
    pub previous_touched: u64,
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
    /// Times beyond a finite time-out, of the waits that it ended, by [`histogram::time_bucket`].
    pub overrun: [u32; TIME_BUCKETS],
    /// nfds of poll or select (waits that did not fail), by [`histogram::count_bucket`].
    pub nfds_per_wait: [u32; COUNT_BUCKETS],
    /// Lengths of ready lists, by [`histogram::count_bucket`].
    pub backlog_per_wait: [u32; COUNT_BUCKETS],
    /// Their requeued entries, by [`histogram::count_bucket`].
    pub requeued_per_wait: [u32; COUNT_BUCKETS],
}

impl Loop {
    /// A slot that is free.
    pub const EMPTY: Loop = Loop {
        waitable: 0,
        generation: 0,
        last_exit_ns: 0,
        thread_wait_ns: 0,
        wait_ns: 0,
        inherited_ns: 0,
        busy_ns: 0,
        other_wait_ns: 0,
        events: 0,
        wait_max_ns: Max { current: 0, previous: 0 },
        busy_max_ns: Max { current: 0, previous: 0 },
        events_max: Max { current: 0, previous: 0 },
        overrun_ns: 0,
        overrun_max_ns: Max { current: 0, previous: 0 },
        nfds: 0,
        nfds_max: Max { current: 0, previous: 0 },
        bytes_in: 0,
        bytes_out: 0,
        backlog: 0,
        backlog_max: Max { current: 0, previous: 0 },
        requeued: 0,
        requeued_max: Max { current: 0, previous: 0 },
        scratch: 0,
        closed: 0,
        window: 0,
        previous_window: 0,
        epoch: 0,
        mechanism: 0,
        fd: 0,
        asked: 0,
        streak: 0,
        highest: 0,
        truncated: 0,
        requeues: 0,
        sparse: 0,
        serial: 0,
        touched: 0,
        previous_touched: 0,
        results: [0; result::NAMES.len()],
        timeouts: [0; timeout::NAMES.len()],
        saturated: 0,
        wait: [0; TIME_BUCKETS],
        busy: [0; TIME_BUCKETS],
        events_per_wait: [0; COUNT_BUCKETS],
        overrun: [0; TIME_BUCKETS],
        nfds_per_wait: [0; COUNT_BUCKETS],
        backlog_per_wait: [0; COUNT_BUCKETS],
        requeued_per_wait: [0; COUNT_BUCKETS],
    };
}

/// The record of a thread that waits: BPF task storage.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Odd while the thread writes: a reader that saw it odd, or changed, reads again.
    pub sequence: u64,
    /// The reader's window number; written by the reader alone.
    pub window: u64,
    /// What the reader has sent; written by the reader alone.
    pub sent: Sent,
    /// 1 where [`MoreLoops`] of this thread were made: a storage that is not there is dear to look for.
    pub has_more: u64,
    /// How many slots were taken.
    pub takes: u64,
    /// Of the probes only: a return value on its way to its use, as [`Loop::scratch`].
    pub scratch: i64,
    /// CLOCK_MONOTONIC ns at which this record was made: with the thread id, its identity.
    pub born_ns: u64,
    /// Process id as the host counts, when the record was made.
    pub tgid: u32,
    /// Thread id as the host counts, when the record was made (an exec from a thread changes it).
    pub tid: u32,
    /// Sum of all wait times of this thread, on whatever waitable, ns.
    pub wait_ns: u64,
    /// Entries of select and pselect6; the sets are looked at in one of 64.
    pub selects: u64,
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
    /// As [`Loop::closed`].
    pub closed: u32,
    /// Padding.
    pub _unused: u32,
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
    /// As [`Task::sent`].
    pub sent: Sent,
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

/// What stands in the programs for the number of the kernel function `bpf_rdonly_cast`.
pub const RDONLY_CAST: u32 = 0x6c6f_6f70;

/// Length of [`Counters::runs`]: a power of two above the number of [`probe`]s.
pub const PROBE_COUNTERS: usize = 32;
const _: () = assert!(probe::NAMES.len() <= PROBE_COUNTERS);

/// Counts per CPU; one element of a per-CPU array, written without atomics by the programs on that CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Runs for each [`probe`].
    pub runs: [u64; PROBE_COUNTERS],
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
// needs beside them in the kernel, Task takes an allocation of 4 KB and CtlTask one of 2 KB.
const _: () = assert!(size_of::<Wait>() == 80);
const _: () = assert!(size_of::<Head>() == 80 + size_of::<Wait>());
const _: () = assert!(
    size_of::<Loop>() == 72 + 48 + 24 + 24 + 16 + 48 + 8 + 32 + 16 + 16 + 20 + 16 + 4 + 3 * 512 + 4 * 256
);
const _: () =
    assert!(size_of::<Task>() == 80 + 24 + size_of::<Sent>() + size_of::<Wait>() + size_of::<Loop>());
const _: () = assert!(size_of::<Ctl>() == 16 + 16 + 16 + 16 + 256);
const _: () = assert!(size_of::<CtlTask>() == 64 + size_of::<Sent>() + CTL_SLOTS * size_of::<Ctl>());
const _: () = assert!(size_of::<Record<Loop>>() == size_of::<Head>() + size_of::<Loop>());
const _: () = assert!(size_of::<Loop>() == size_of::<Scalars>() + LINES * size_of::<Line>());
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
plain!(Head, Loop, Ctl, Counters, ChunkHead, Entry);
