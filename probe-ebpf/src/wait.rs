//! What all waiting calls share, entry and exit: wait time, busy time, results, time-outs, events.
//!
//! Entry ends a busy time, exit ends a wait. Both find the loop's slot: the thread's first waitable is in its
//! record, up to seven more are in a second storage that only such threads have.

use core::ptr;

use aya_ebpf::{EbpfContext, helpers::generated::bpf_ktime_get_ns};
use aya_log_ebpf::{debug, error, info, warn};
use loopscope_probe::{
    LOOP_GAP_NS, LOOP_WAITS, LOOPS_MORE, Loop, Max, MoreLoops, Task, Wait,
    histogram::{COUNT_BUCKETS, TIME_BUCKETS, count_bucket, time_bucket},
    lost, probe, reason, result, timeout, waitable,
};

use crate::{
    counters, filter, flush, instance,
    kernel::{self, SIGACTION_HANDLER, TaskPtr},
    storage::{MORE, TASKS, bump, reader},
};

/// EINTR, as a system call returns it.
const INTERRUPTED: i64 = -4;
/// What a call returns that a signal made come back only to go on: ERESTARTSYS to ERESTART_RESTARTBLOCK
/// (include/linux/errno.h). User space sees it only as EINTR, when a handler ran.
const RESTARTS: core::ops::RangeInclusive<i64> = -516..=-512;

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

/// CLOCK_MONOTONIC, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// `to - from`; a negative difference becomes 0 and is counted.
#[inline(always)]
fn elapsed(from: u64, to: u64) -> u64 {
    if to < from {
        counters::lost(lost::CLAMPED);
        return 0;
    }
    to - from
}

/// The record of the running thread, made where it has none; None where it is not watched.
#[inline(always)]
pub fn record<C: EbpfContext>(ctx: &C, task: TaskPtr) -> Option<&'static mut Task> {
    match TASKS.get(task) {
        Some(record) => Some(record),
        None => create(ctx, task),
    }
}

/// Entry of a waiting call on `waitable`.
#[inline(always)]
pub fn enter(task: TaskPtr, record: &mut Task, call: &Call, waitable: u64) {
    if record.wait.paused_ns != 0 && record.wait.mechanism == call.mechanism {
        // A stop and a continuation: the same wait goes on, with its first entry and its first time-out.
        bump(&mut record.sequence);
        record.wait.paused_ns = 0;
        bump(&mut record.sequence);
        return;
    }
    let now = now();
    let (slot, generation) = find(task, record, waitable);
    bump(&mut record.sequence);
    let wait = &mut record.wait;
    wait.entry_ns = now;
    wait.waitable = waitable;
    wait.generation = generation;
    wait.timeout_ns = call.timeout.ns;
    wait.paused_ns = 0;
    wait.fd = call.fd;
    wait.asked = call.asked;
    wait.timeout = call.timeout.kind;
    wait.mechanism = call.mechanism;
    wait.slot = slot;
    wait.inherited = 0;
    wait.bytes_in = call.sets.bytes_in;
    wait.bytes_out = call.sets.bytes_out;
    wait.highest = call.sets.highest;
    let (thread_wait_ns, window) = (record.wait_ns, record.window as u32);
    if let Some(looped) = at(task, record, slot) {
        busy(looped, now, thread_wait_ns, window);
    }
    bump(&mut record.sequence);
}

/// Exit of a waiting call with return value `ret`.
#[inline(always)]
pub fn exit<C: EbpfContext>(ctx: &C, probe: usize, ret: i64) {
    counters::run(probe);
    let task = kernel::current();
    let Some(record) = TASKS.get(task) else {
        // The first that is seen of this thread is the end of a wait: it began before the probes.
        create(ctx, task);
        return;
    };
    if record.wait.entry_ns == 0 {
        counters::lost(lost::UNPAIRED);
        warn!(ctx, "exit without an entry, returned {}", ret);
        return;
    }
    if RESTARTS.contains(&ret) {
        pause(task, record);
        return;
    }
    if ret < 0
        && ret != INTERRUPTED
        && record.wait.waitable > waitable::LAST
        && !instance::is_epoll(record.wait.waitable)
    {
        record.wait.waitable = waitable::NO_INSTANCE;
        record.wait.generation = 0;
        record.wait.slot = Wait::NO_SLOT;
    }
    finish(ctx, task, record, ret, now());
}

/// Exit of restart_syscall: the end of a poll that was stopped and went on, or of something that is no wait.
#[inline(always)]
pub fn restarted<C: EbpfContext>(ctx: &C, probe: usize, ret: i64) {
    counters::run(probe);
    let task = kernel::current();
    if let Some(record) = TASKS.get(task)
        && record.wait.paused_ns != 0
        && record.wait.waitable == waitable::POLL
    {
        if RESTARTS.contains(&ret) {
            pause(task, record);
        } else {
            finish(ctx, task, record, ret, now());
        }
    }
}

/// The call came back without an end: it goes on after a stop, or a signal handler ends it.
#[inline(always)]
fn pause(task: TaskPtr, record: &mut Task) {
    bump(&mut record.sequence);
    record.wait.paused_ns = now();
    let (bytes_in, bytes_out) = copied(&record.wait, INTERRUPTED);
    let slot = record.wait.slot;
    if let Some(looped) = at(task, record, slot) {
        looped.bytes_in = looped.bytes_in.wrapping_add(bytes_in);
        looped.bytes_out = looped.bytes_out.wrapping_add(bytes_out);
    }
    bump(&mut record.sequence);
}

/// The greatest sa_handler that is no handler.
const SIG_IGN: u64 = 1;

/// A signal is delivered to the running thread with this k_sigaction: a handler ends a wait that came back to go on.
/// The default actions do not: a stop goes on, an end shows as the end of the thread.
#[inline(always)]
pub fn signalled<C: EbpfContext>(ctx: &C, action: *const u8) {
    counters::run(probe::SIGNAL_DELIVER);
    if kernel::field::<u64>(action, &SIGACTION_HANDLER) > SIG_IGN {
        interrupt(ctx, kernel::current());
    }
}

/// A signal handler is about to run, or the thread is about to end: a call that came back will not go on, and has
/// ended when it came back.
#[inline(always)]
pub fn interrupt<C: EbpfContext>(ctx: &C, task: TaskPtr) {
    if let Some(record) = TASKS.get(task)
        && record.wait.paused_ns != 0
    {
        // Its bytes were counted by `pause`.
        record.wait.bytes_in = 0;
        record.wait.bytes_out = 0;
        let paused_ns = record.wait.paused_ns;
        finish(ctx, task, record, INTERRUPTED, paused_ns);
    }
}

/// The thread's wait has ended at `now` with return value `ret`.
#[inline(always)]
fn finish<C: EbpfContext>(ctx: &C, task: TaskPtr, record: &mut Task, ret: i64, now: u64) {
    if record.wait.slot == Wait::NO_SLOT {
        record.wait.slot = take(ctx, task, record);
    }
    // Through memory: see `Loop::scratch`.
    // SAFETY: a reference is valid for a volatile read.
    let slot = unsafe { ptr::read_volatile(&record.wait.slot) };
    let duration = elapsed(record.wait.entry_ns, now);
    bump(&mut record.sequence);
    record.wait_ns = record.wait_ns.wrapping_add(duration);
    let (wait, thread_wait_ns, window) = (&raw const record.wait, record.wait_ns, record.window as u32);
    if let Some(looped) = at(task, record, slot) {
        // SAFETY: `wait` is a field of the record that `looped` does not cover.
        complete(looped, unsafe { &*wait }, ret, duration, window);
        looped.last_exit_ns = now;
        looped.thread_wait_ns = thread_wait_ns;
    }
    record.wait.entry_ns = 0;
    record.wait.paused_ns = 0;
    bump(&mut record.sequence);
}

/// Makes the record of a thread that is seen for the first time.
#[inline(never)]
pub fn create<C: EbpfContext>(ctx: &C, task: TaskPtr) -> Option<&'static mut Task> {
    if !filter::selected(task) {
        return None;
    }
    let Some(record) = TASKS.get_or_create(task) else {
        counters::lost(lost::RECORDS);
        error!(ctx, "no memory for a thread's record");
        return None;
    };
    identify(record, task);
    flush::born(record);
    debug!(ctx, "first wait of thread {}", record.tid);
    Some(record)
}

/// Writes into a new record whose it is.
#[inline(always)]
fn identify(record: &mut Task, task: TaskPtr) {
    record.born_ns = now();
    record.comm = kernel::process_comm(task);
    record.thread = kernel::comm(task);
    (record.tgid, record.tid) = kernel::ids(task);
    record.window = reader().map_or(0, |reader| reader.window);
}

/// The slot of a waitable, or [`Wait::NO_SLOT`], and the generation of its address.
#[inline(always)]
fn find(task: TaskPtr, record: &mut Task, file: u64) -> (u32, u64) {
    let epoch = instance::epoch(file);
    let first = &mut record.first;
    if first.waitable == file && first.epoch == epoch {
        return (0, first.generation);
    }
    find_slowly(task, record, file, epoch)
}

/// As [`find`], where the first slot is not it at first sight.
#[inline(never)]
fn find_slowly(task: TaskPtr, record: &mut Task, file: u64, epoch: u32) -> (u32, u64) {
    let generation = instance::generation(file);
    if record.first.waitable == file && record.first.generation == generation {
        record.first.epoch = epoch;
        return (0, generation);
    }
    if record.first.waitable != waitable::FREE
        && let Some(more) = MORE.get(task)
    {
        for i in 0..LOOPS_MORE {
            // SAFETY: i is below the length of the array.
            let slot = unsafe { more.loops.get_unchecked_mut(i) };
            if slot.waitable == file && slot.generation == generation {
                return (i as u32 + 1, generation);
            }
        }
    }
    (Wait::NO_SLOT, generation)
}

/// The loop in a slot.
#[inline(always)]
fn at(task: TaskPtr, record: &mut Task, slot: u32) -> Option<&mut Loop> {
    match slot {
        0 => Some(&mut record.first),
        Wait::NO_SLOT => None,
        _ => {
            let i = kernel::below::<LOOPS_MORE>(slot as usize - 1);
            // SAFETY: below the length of the array.
            Some(unsafe { MORE.get(task)?.loops.get_unchecked_mut(i) })
        }
    }
}

/// Takes a slot for the waitable of the wait that ends; [`Wait::NO_SLOT`] where there is no memory.
#[inline(never)]
fn take<C: EbpfContext>(ctx: &C, task: TaskPtr, record: &mut Task) -> u32 {
    let (slot, _) = find_slowly(task, record, record.wait.waitable, 0);
    if slot != Wait::NO_SLOT {
        return slot;
    }
    if record.wait.waitable > waitable::LAST && is_passing(&record.first) {
        // The first slot is the cheap one: Rust's runtime polls once before main, and then the program's loop comes.
        bump(&mut record.sequence);
        flush::first(record, reason::EVICT);
        kernel::copy(&raw mut record.first, &raw const EMPTY);
        bump(&mut record.sequence);
    }
    if record.first.waitable == waitable::FREE {
        name(&mut record.first, &record.wait);
        return 0;
    }
    let Some(more) = MORE.get_or_create(task) else {
        counters::lost(lost::RECORDS);
        error!(ctx, "no memory for a further loop of thread {}", record.tid);
        return Wait::NO_SLOT;
    };
    for i in 0..LOOPS_MORE {
        // SAFETY: i is below the length of the array.
        let slot = unsafe { more.loops.get_unchecked_mut(i) };
        if slot.waitable == waitable::FREE {
            name(slot, &record.wait);
            return i as u32 + 1;
        }
    }
    evict(ctx, task, record, more)
}

/// Whether a slot is of poll or select calls that are no loop.
#[inline(always)]
fn is_passing(slot: &Loop) -> bool {
    slot.waitable >= waitable::POLL && slot.waitable <= waitable::LAST && slot.streak < LOOP_WAITS
}

/// A slot that is free.
static EMPTY: Loop = Loop::EMPTY;

/// Sends all further loops of a thread to user space and starts them anew with the current one.
#[inline(always)]
fn evict<C: EbpfContext>(ctx: &C, task: TaskPtr, record: &mut Task, more: &mut MoreLoops) -> u32 {
    info!(ctx, "thread {} uses more than {} waitables", record.tid, LOOPS_MORE + 1);
    flush::more(record, more, reason::EVICT);
    MORE.delete(task);
    match MORE.get_or_create(task) {
        Some(more) => {
            name(&mut more.loops[0], &record.wait);
            1
        }
        None => {
            counters::lost(lost::RECORDS);
            Wait::NO_SLOT
        }
    }
}

/// Writes into an empty slot whose it is.
#[inline(always)]
fn name(slot: &mut Loop, wait: &Wait) {
    slot.generation = wait.generation;
    slot.mechanism = wait.mechanism;
    slot.waitable = wait.waitable;
}

/// Starts a new window of largest values when the reader has begun one.
#[inline(always)]
fn roll(looped: &mut Loop, window: u32) {
    if looped.window == window {
        return;
    }
    looped.previous_window = looped.window;
    looped.window = window;
    let Loop { wait_max_ns, busy_max_ns, events_max, overrun_max_ns, nfds_max, .. } = looped;
    for max in [wait_max_ns, busy_max_ns, events_max, overrun_max_ns, nfds_max] {
        max.previous = max.current;
        max.current = 0;
    }
}

/// Takes a value into a [`Max`].
#[inline(always)]
fn raise(max: &mut Max, value: u64) {
    if value > max.current {
        max.current = value;
    }
}

/// Adds one to a bucket; `i` is below N by construction. The way over memory makes it unknown to the verifier: see
/// [`Loop::scratch`].
#[inline(always)]
fn bucket<const N: usize>(buckets: &mut [u32; N], scratch: &mut u32, i: usize) {
    // SAFETY: a reference is valid for a volatile write and read.
    let i = unsafe {
        ptr::write_volatile(scratch, i as u32);
        ptr::read_volatile(scratch) as usize
    };
    // SAFETY: below the length of the array.
    let count = unsafe { buckets.get_unchecked_mut(kernel::below::<N>(i)) };
    *count = count.wrapping_add(1);
}

/// A busy time ends: from the loop's last exit to now, less what the thread waited elsewhere in between.
#[inline(always)]
fn busy(looped: &mut Loop, now: u64, thread_wait_ns: u64, window: u32) {
    if looped.last_exit_ns == 0 {
        return;
    }
    if looped.waitable <= waitable::LAST && !is_loop(looped, now) {
        return;
    }
    let other = thread_wait_ns.wrapping_sub(looped.thread_wait_ns);
    let duration = elapsed(looped.last_exit_ns.wrapping_add(other), now);
    roll(looped, window);
    looped.other_wait_ns = looped.other_wait_ns.wrapping_add(other);
    looped.busy_ns = looped.busy_ns.wrapping_add(duration);
    raise(&mut looped.busy_max_ns, duration);
    bucket::<TIME_BUCKETS>(&mut looped.busy, &mut looped.scratch, time_bucket(duration));
}

/// Whether poll or select calls are a loop as this one begins; a gap that is too long starts the count anew.
#[inline(always)]
fn is_loop(looped: &mut Loop, now: u64) -> bool {
    if now.wrapping_sub(looped.last_exit_ns) > LOOP_GAP_NS {
        looped.streak = 0;
    }
    looped.streak >= LOOP_WAITS
}

/// Bytes that the kernel has copied for a call that returned `ret`: (in, out). poll gives every entry's revents back
/// even when a signal ended it, select nothing but a success (fs/select.c: do_sys_poll, core_sys_select).
#[inline(always)]
fn copied(wait: &Wait, ret: i64) -> (u64, u64) {
    let out = ret >= 0 || (ret == INTERRUPTED && wait.waitable == waitable::POLL);
    let all_in = ret >= 0 || ret == INTERRUPTED;
    (if all_in { u64::from(wait.bytes_in) } else { 0 }, if out { u64::from(wait.bytes_out) } else { 0 })
}

/// A wait ends.
#[inline(always)]
fn complete(looped: &mut Loop, wait: &Wait, ret: i64, duration: u64, window: u32) {
    looped.fd = wait.fd;
    looped.asked = wait.asked;
    if wait.inherited != 0 {
        looped.inherited_ns = looped.inherited_ns.wrapping_add(duration);
        return;
    }
    roll(looped, window);
    looped.wait_ns = looped.wait_ns.wrapping_add(duration);
    raise(&mut looped.wait_max_ns, duration);
    bucket::<TIME_BUCKETS>(&mut looped.wait, &mut looped.scratch, time_bucket(duration));
    if let Some(count) = looped.timeouts.get_mut(wait.timeout as usize) {
        *count = count.wrapping_add(1);
    }
    let outcome = match ret {
        1.. => result::READY,
        0 if wait.timeout == timeout::ZERO as u32 => result::EMPTY,
        0 => result::TIMEOUT,
        INTERRUPTED => result::INTERRUPTED,
        _ => result::ERROR,
    };
    if let Some(count) = looped.results.get_mut(outcome) {
        *count = count.wrapping_add(1);
    }
    if ret >= 0 {
        looped.events = looped.events.wrapping_add(ret as u64);
        raise(&mut looped.events_max, ret as u64);
        bucket::<COUNT_BUCKETS>(&mut looped.events_per_wait, &mut looped.scratch, count_bucket(ret as u32));
    }
    if wait.waitable > waitable::LAST {
        if ret > 0 && ret as u32 == wait.asked {
            looped.saturated = looped.saturated.wrapping_add(1);
        }
    } else if wait.waitable >= waitable::POLL {
        scanned(looped, wait, ret);
    }
    if ret == 0 && wait.timeout == timeout::FINITE as u32 {
        let overrun = duration.saturating_sub(wait.timeout_ns);
        looped.overrun_ns = looped.overrun_ns.wrapping_add(overrun);
        raise(&mut looped.overrun_max_ns, overrun);
        bucket::<TIME_BUCKETS>(&mut looped.overrun, &mut looped.scratch, time_bucket(overrun));
    }
}

/// What poll and select have beside other waits: sets that are copied and scanned.
#[inline(always)]
fn scanned(looped: &mut Loop, wait: &Wait, ret: i64) {
    let (bytes_in, bytes_out) = copied(wait, ret);
    looped.bytes_in = looped.bytes_in.wrapping_add(bytes_in);
    looped.bytes_out = looped.bytes_out.wrapping_add(bytes_out);
    if looped.streak < LOOP_WAITS {
        looped.streak += 1;
    }
    if wait.highest > looped.highest {
        looped.highest = wait.highest;
    }
    if ret >= 0 || ret == INTERRUPTED {
        let nfds = u64::from(wait.asked);
        looped.nfds = looped.nfds.wrapping_add(nfds);
        raise(&mut looped.nfds_max, nfds);
        bucket::<COUNT_BUCKETS>(&mut looped.nfds_per_wait, &mut looped.scratch, count_bucket(wait.asked));
    }
}

/// Makes the record of a thread that is inside a wait while nothing is attached yet.
#[inline(always)]
pub fn inherit(task: TaskPtr, call: Call, file: u64) {
    let Some(record) = TASKS.get_or_create(task) else {
        counters::lost(lost::RECORDS);
        return;
    };
    identify(record, task);
    let wait = &mut record.wait;
    wait.entry_ns = record.born_ns;
    wait.waitable = file;
    wait.fd = call.fd;
    wait.asked = call.asked;
    wait.timeout = call.timeout.kind;
    wait.timeout_ns = call.timeout.ns;
    wait.mechanism = call.mechanism;
    wait.slot = Wait::NO_SLOT;
    wait.inherited = 1;
}
