//! What all waiting calls share: entry, exit, restarts and interruptions, and the record of a thread that waits.
//!
//! Entry ends a busy time, exit ends a wait; [`crate::slot`] finds the loop that they belong to, [`crate::tally`] counts.

use core::ptr;

use aya_ebpf::{EbpfContext, helpers::generated::bpf_ktime_get_ns};
use aya_log_ebpf::{debug, error, warn};
use loopscope_probe::{Task, Wait, lost, mechanism, probe, waitable};

use crate::{
    backlog,
    call::Call,
    counters, filter, flush, hot, instance,
    kernel::{self, SIGACTION_HANDLER, TaskPtr},
    slot,
    storage::{TASKS, bump, reader},
    tally,
};

/// EINTR, as a system call returns it.
pub const INTERRUPTED: i64 = -4;
/// What a call returns that a signal made come back only to go on: ERESTARTSYS to ERESTART_RESTARTBLOCK
/// (include/linux/errno.h). User space sees it only as EINTR, when a handler ran.
pub const RESTARTS: core::ops::RangeInclusive<i64> = -516..=-512;

/// CLOCK_MONOTONIC, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
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
    let (slot, generation) = slot::find(task, record, waitable);
    bump(&mut record.sequence);
    let wait = &mut record.wait;
    wait.entry_ns = now;
    wait.waitable = waitable;
    wait.generation = generation;
    wait.timeout_ns = call.timeout.ns;
    wait.paused_ns = 0;
    wait.passes = 0;
    wait.fd = call.fd;
    wait.asked = call.asked;
    wait.timeout = call.timeout.kind;
    wait.mechanism = call.mechanism;
    let slot = tally::forget(&mut wait.slot, slot);
    // Volatile: the compiler makes four zeros in a row a call of memset, which is a loop over bytes (15 ns).
    // SAFETY: references are valid for volatile writes.
    unsafe {
        ptr::write_volatile(&mut wait.inherited, 0);
        ptr::write_volatile(&mut wait.bytes_in, call.sets.bytes_in);
        ptr::write_volatile(&mut wait.bytes_out, call.sets.bytes_out);
        ptr::write_volatile(&mut wait.highest, call.sets.highest);
    }
    let (thread_wait_ns, window) = (record.wait_ns, record.window as u32);
    if let Some(looped) = slot::at(task, record, slot) {
        tally::busy(looped, now, thread_wait_ns, window);
        if call.mechanism == mechanism::EPOLL as u32 {
            backlog::entered(looped, waitable);
        }
    }
    bump(&mut record.sequence);
}

/// Exit of a waiting call with return value `ret`.
#[inline(always)]
pub fn exit<C: EbpfContext>(ctx: &C, probe: usize, ret: i64) {
    counters::run(probe);
    let task = kernel::current();
    let Some(record) = begun(ctx, task, ret) else {
        return;
    };
    if RESTARTS.contains(&ret) {
        pause(record);
        return;
    }
    if ret < 0
        && ret != INTERRUPTED
        && record.wait.waitable > waitable::LAST
        && !instance::is_epoll(record.wait.waitable)
    {
        on_nothing(&mut record.wait);
    }
    let now = now();
    // Here, and not at the end: what is live through all that comes between would be paths of their own to verify.
    hot::delivered(task, &record.wait, ret);
    let ret = tally::forget(&mut record.scratch, ret);
    finish::<C, true>(ctx, task, record, ret, now);
}

/// Exit of a waiting call with return value `ret`, beside programs of which the exit runs only where the entry did: of
/// interest where the wait began before the probes. Any other has no entry any more by now, or goes on.
#[inline(always)]
pub fn ended<C: EbpfContext>(ctx: &C, ret: i64) {
    let task = kernel::current();
    let Some(record) = TASKS.get(task) else {
        return;
    };
    if record.wait.inherited == 0 || record.wait.entry_ns == 0 || record.wait.paused_ns != 0 {
        return;
    }
    if RESTARTS.contains(&ret) {
        pause(record);
    } else {
        finish::<C, false>(ctx, task, record, ret, now());
    }
}

/// The record of a thread whose wait ends with return value `ret`; None where none had begun.
#[inline(always)]
pub fn begun<C: EbpfContext>(ctx: &C, task: TaskPtr, ret: i64) -> Option<&'static mut Task> {
    let Some(record) = TASKS.get(task) else {
        // The first that is seen of this thread is the end of a wait: it began before the probes.
        create(ctx, task);
        return None;
    };
    if record.wait.entry_ns == 0 {
        counters::lost(lost::UNPAIRED);
        warn!(ctx, "exit without an entry, returned {}", ret);
        return None;
    }
    Some(record)
}

/// What a wait was on turned out to be nothing that can be waited on.
#[inline(always)]
pub fn on_nothing(wait: &mut Wait) {
    wait.waitable = waitable::NO_INSTANCE;
    wait.generation = 0;
    wait.slot = Wait::NO_SLOT;
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
            pause(record);
        } else {
            finish::<C, false>(ctx, task, record, ret, now());
        }
    }
}

/// The call came back without an end: it goes on after a stop, or a signal handler ends it.
#[inline(always)]
pub fn pause(record: &mut Task) {
    bump(&mut record.sequence);
    record.wait.paused_ns = now();
    record.wait.passes = record.wait.passes.wrapping_add(1);
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
        // The pass that came back was its last.
        record.wait.passes = record.wait.passes.wrapping_sub(1);
        let paused_ns = record.wait.paused_ns;
        finish::<C, false>(ctx, task, record, INTERRUPTED, paused_ns);
    }
}

/// The thread's wait has ended at `now` with return value `ret`. EVENTS: it may have delivered an instance's events.
#[inline(always)]
pub fn finish<C: EbpfContext, const EVENTS: bool>(
    ctx: &C,
    task: TaskPtr,
    record: &mut Task,
    ret: i64,
    now: u64,
) {
    if record.wait.slot == Wait::NO_SLOT {
        record.wait.slot = slot::take(ctx, task, record);
    }
    // Through memory: see `Loop::scratch`.
    // SAFETY: a reference is valid for a volatile read.
    let slot = unsafe { ptr::read_volatile(&record.wait.slot) };
    let duration = tally::elapsed(record.wait.entry_ns, now);
    bump(&mut record.sequence);
    record.wait_ns = record.wait_ns.wrapping_add(duration);
    let (wait, thread_wait_ns, window) = (&raw const record.wait, record.wait_ns, record.window as u32);
    if let Some(looped) = slot::at(task, record, slot) {
        // SAFETY: `wait` is a field of the record that `looped` does not cover.
        let wait = unsafe { &*wait };
        tally::complete(looped, wait, ret, duration, window);
        backlog::left(looped, wait, if EVENTS { ret } else { 0 });
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
