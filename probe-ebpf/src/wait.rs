//! Entry and exit of the waiting calls: wait time, busy time, results, time-outs, events.
//!
//! Entry ends a busy time, exit ends a wait. Both find the loop's slot: the thread's first waitable is in its
//! record, up to seven more are in a second storage that only such threads have.

use core::ptr;

use aya_ebpf::{EbpfContext, helpers::generated::bpf_ktime_get_ns};
use aya_log_ebpf::{debug, error, info, warn};
use loopscope_probe::{
    LOOPS_MORE, Loop, Max, MoreLoops, Task, Wait,
    histogram::{COUNT_BUCKETS, TIME_BUCKETS, count_bucket, time_bucket},
    lost, reason, result, timeout, waitable,
};

use crate::{
    counters, filter, flush, instance,
    kernel::{self, TaskPtr},
    storage::{MORE, TASKS, bump, reader},
};

/// EINTR, as a system call returns it.
const INTERRUPTED: i64 = -4;

/// The arguments of a waiting call.
pub struct Call {
    /// One of [`loopscope_probe::mechanism`].
    pub mechanism: u32,
    /// The epoll descriptor.
    pub fd: i32,
    /// The maxevents.
    pub maxevents: u32,
    /// One of [`timeout`].
    pub timeout: u32,
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

/// Entry of a waiting call.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, program: usize, call: Call) {
    counters::run(program);
    let task = kernel::current();
    let record = match TASKS.get(task) {
        Some(record) => record,
        None => match create(ctx, task) {
            Some(record) => record,
            None => return,
        },
    };
    let file = match instance::file(task, call.fd) {
        0 => waitable::NO_INSTANCE,
        file => file,
    };
    let now = now();
    let (slot, generation) = find(task, record, file);
    bump(&mut record.sequence);
    record.wait = Wait {
        entry_ns: now,
        waitable: file,
        generation,
        fd: call.fd,
        maxevents: call.maxevents,
        timeout: call.timeout,
        mechanism: call.mechanism,
        slot,
        inherited: 0,
    };
    let (thread_wait_ns, window) = (record.wait_ns, record.window as u32);
    if let Some(looped) = at(task, record, slot) {
        busy(looped, now, thread_wait_ns, window);
    }
    bump(&mut record.sequence);
}

/// Exit of a waiting call with return value `ret`.
#[inline(always)]
pub fn exit<C: EbpfContext>(ctx: &C, program: usize, ret: i64) {
    counters::run(program);
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
    if ret < 0 && ret != INTERRUPTED && !instance::is_epoll(record.wait.waitable) {
        record.wait.waitable = waitable::NO_INSTANCE;
        record.wait.generation = 0;
        record.wait.slot = Wait::NO_SLOT;
    }
    let now = now();
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
#[inline(always)]
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
#[inline(always)]
fn take<C: EbpfContext>(ctx: &C, task: TaskPtr, record: &mut Task) -> u32 {
    let (slot, _) = find_slowly(task, record, record.wait.waitable, 0);
    if slot != Wait::NO_SLOT {
        return slot;
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
    for max in [&mut looped.wait_max_ns, &mut looped.busy_max_ns, &mut looped.events_max] {
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
    let other = thread_wait_ns.wrapping_sub(looped.thread_wait_ns);
    let duration = elapsed(looped.last_exit_ns.wrapping_add(other), now);
    roll(looped, window);
    looped.other_wait_ns = looped.other_wait_ns.wrapping_add(other);
    looped.busy_ns = looped.busy_ns.wrapping_add(duration);
    raise(&mut looped.busy_max_ns, duration);
    bucket::<TIME_BUCKETS>(&mut looped.busy, &mut looped.scratch, time_bucket(duration));
}

/// A wait ends.
#[inline(always)]
fn complete(looped: &mut Loop, wait: &Wait, ret: i64, duration: u64, window: u32) {
    if wait.inherited != 0 {
        looped.inherited_ns = looped.inherited_ns.wrapping_add(duration);
        looped.fd = wait.fd;
        looped.maxevents = wait.maxevents;
        return;
    }
    roll(looped, window);
    looped.fd = wait.fd;
    looped.maxevents = wait.maxevents;
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
        if ret > 0 && ret as u32 == wait.maxevents {
            looped.saturated = looped.saturated.wrapping_add(1);
        }
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
    record.wait = Wait {
        entry_ns: record.born_ns,
        waitable: file,
        generation: 0,
        fd: call.fd,
        maxevents: call.maxevents,
        timeout: call.timeout,
        mechanism: call.mechanism,
        slot: Wait::NO_SLOT,
        inherited: 1,
    };
}
