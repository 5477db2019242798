//! io_uring_enter: (fd, to_submit, min_complete, flags, argp, ...). With IORING_ENTER_GETEVENTS and a min_complete it is
//! a wait; what a ring took of requests is counted at every exit.
//!
//! What a wait delivers is what lies in the completion ring at its exit. Completions that a program takes from the mapped
//! ring without a system call are not seen. The return value of a call that also submits says nothing of its wait: see
//! [`outcome`].

use core::ptr;

use aya_ebpf::EbpfContext;
use aya_log_ebpf::error;
use loopscope_probe::{Task, Wait, lost, mechanism, probe, timeout, waitable};

use crate::{
    call::{Call, Sets, Timeout},
    counters, instance,
    kernel::{
        self, FILE_PRIVATE_DATA, REGISTERED_RINGS, REGS_ARG0, REGS_ARG1, REGS_ARG2, REGS_ARG3, RING_ENTRIES,
        RING_RINGS, RING_WAIT_ARG, RINGS_HEAD, RINGS_TAIL, TASK_IO_URING, TaskPtr,
    },
    slot,
    storage::{OVERFLOWED, OVERFLOWS, bump, ordered},
    tally,
    wait::{self, INTERRUPTED},
};

/// IORING_ENTER_GETEVENTS and others (include/uapi/linux/io_uring.h).
const GETEVENTS: u64 = 1;
const EXT_ARG: u64 = 1 << 3;
const REGISTERED_RING: u64 = 1 << 4;
const ABS_TIMER: u64 = 1 << 5;
const EXT_ARG_REG: u64 = 1 << 6;
/// IORING_REG_WAIT_TS, in the upper half of the third word of a `struct io_uring_reg_wait`.
const REG_WAIT_TS: u64 = 1 << 32;
/// Descriptors that a thread can register (IO_RINGFD_REG_MAX); a power of two.
const REGISTERED: usize = 16;
/// ETIME, EBADF and EOPNOTSUPP, as a system call returns them; the last two say that the descriptor is no ring.
const TIME_IS_OVER: i64 = -62;
const BAD_DESCRIPTOR: i64 = -9;
const NO_RING: i64 = -95;
/// EAGAIN: what a call that did not come to its wait counts as.
const NOT_BEGUN: i64 = -11;

/// Whether a call waits.
#[inline(always)]
fn waits(min_complete: u64, flags: u64) -> bool {
    flags & GETEVENTS != 0 && min_complete as u32 != 0
}

/// The `struct file` of the ring that a call means; 0 where there is none.
#[inline(always)]
fn file(task: TaskPtr, fd: u64, flags: u64) -> u64 {
    if flags & REGISTERED_RING == 0 {
        return instance::file(task, fd as i32);
    }
    let own = kernel::read(task as u64 + u64::from(TASK_IO_URING.load()));
    if own == 0 {
        return 0;
    }
    let i = kernel::below::<REGISTERED>(fd as usize) as u64;
    kernel::read(own + u64::from(REGISTERED_RINGS.load()) + i * 8)
}

/// The `struct io_ring_ctx` of a ring.
#[inline(always)]
fn ring(file: u64) -> u64 {
    kernel::read(file + u64::from(FILE_PRIVATE_DATA.load()))
}

/// How many completions a ring has room for.
#[inline(always)]
fn entries(ring: u64) -> u32 {
    kernel::read(ring + u64::from(RING_ENTRIES.load())) as u32
}

/// Completions that lie in a ring. Both numbers are in memory that the program can write.
#[inline(always)]
fn available(ring: u64) -> u32 {
    let rings = kernel::read(ring + u64::from(RING_RINGS.load()));
    let head = kernel::read(rings + u64::from(RINGS_HEAD.load())) as u32;
    let tail = kernel::read(rings + u64::from(RINGS_TAIL.load())) as u32;
    let (found, room) = (tail.wrapping_sub(head), entries(ring));
    if found > room { room } else { found }
}

/// The time-out of a call. Its time may be one of the clock rather than a length.
#[inline(always)]
fn timeout(ring: u64, flags: u64, argument: u64) -> Timeout {
    if flags & EXT_ARG == 0 {
        return Timeout::unmeasured(timeout::INFINITE);
    }
    let mut timeout = if flags & EXT_ARG_REG == 0 {
        // struct io_uring_getevents_arg: the signal mask and its size come before the time.
        match kernel::read_user::<[u64; 3]>(argument) {
            Some([_, _, time]) => Timeout::at(time, Timeout::NANOS),
            None => Timeout::unmeasured(timeout::UNKNOWN),
        }
    } else {
        registered(ring, argument)
    };
    if flags & ABS_TIMER != 0 && timeout.ns != 0 {
        timeout.ns = timeout.ns.saturating_sub(wait::now());
    }
    timeout
}

/// The time-out in a `struct io_uring_reg_wait`, which lies in memory that the program has registered.
#[inline(always)]
fn registered(ring: u64, offset: u64) -> Timeout {
    let region = match RING_WAIT_ARG.load() {
        0 => 0,
        place => kernel::read(ring + u64::from(place)),
    };
    match kernel::probe::<[u64; 3]>(region.wrapping_add(offset)) {
        Some([.., flags]) if region != 0 && flags & REG_WAIT_TS == 0 => {
            Timeout::unmeasured(timeout::INFINITE)
        }
        Some([0, 0, _]) if region != 0 => Timeout::unmeasured(timeout::ZERO),
        Some([s, ns, _]) if region != 0 && s < 1 << 33 => {
            Timeout { kind: timeout::FINITE as u32, ns: s * 1_000_000_000 + ns }
        }
        _ => Timeout::unmeasured(timeout::UNKNOWN),
    }
}

/// The arguments, as they are noted. The place of a registered descriptor is no descriptor.
#[inline(always)]
fn call(fd: u64, min_complete: u64, flags: u64, entries: u32, timeout: Timeout) -> Call {
    Call {
        mechanism: mechanism::IO_URING as u32,
        fd: if flags & REGISTERED_RING == 0 { fd as i32 } else { -1 },
        asked: entries,
        timeout,
        sets: Sets { highest: min_complete as u32, ..Sets::default() },
    }
}

/// Entry.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, fd: u64, min_complete: u64, flags: u64, argument: u64) {
    counters::run(probe::IO_URING_ENTER);
    if !waits(min_complete, flags) {
        return;
    }
    let task = kernel::current();
    let Some(record) = wait::record(ctx, task) else {
        return;
    };
    let file = file(task, fd, flags);
    let ring = ring(file);
    let waitable = if file == 0 { waitable::NO_INSTANCE } else { file };
    let call = call(fd, min_complete, flags, entries(ring), timeout(ring, flags, argument));
    wait::enter(task, record, &call, waitable);
}

/// A wait of another task that is in progress: its time-out is in the memory of that one.
#[inline(always)]
pub fn inherited(task: TaskPtr, fd: u64, min_complete: u64, flags: u64) -> Option<(Call, u64)> {
    let file = file(task, fd, flags);
    if !waits(min_complete, flags) || file == 0 {
        return None;
    }
    let kind = if flags & EXT_ARG == 0 { timeout::INFINITE } else { timeout::UNKNOWN };
    Some((call(fd, min_complete, flags, entries(ring(file)), Timeout::unmeasured(kind)), file))
}

/// Exit with return value `ret`.
#[inline(always)]
pub fn exit<C: EbpfContext>(ctx: &C, ret: i64) {
    counters::run(probe::IO_URING_ENTER);
    let task = kernel::current();
    let registers = kernel::registers(task);
    let fd: u64 = kernel::field(registers, &REGS_ARG0);
    let to_submit = kernel::field::<u64>(registers, &REGS_ARG1) as u32;
    let min_complete: u64 = kernel::field(registers, &REGS_ARG2);
    let flags: u64 = kernel::field(registers, &REGS_ARG3);
    // A call of which something was submitted gives how much, whatever came of its wait.
    let submitted = if to_submit != 0 && ret > 0 { ret as u64 } else { 0 };
    if waits(min_complete, flags) {
        if let Some(record) = wait::begun(ctx, task, ret) {
            // What was submitted before the probes were attached is nobody's.
            let submitted = if record.wait.inherited == 0 { submitted } else { 0 };
            waited(ctx, task, record, ret, to_submit, submitted);
        }
        return;
    }
    let file = file(task, fd, flags);
    if submitted == 0 || file == 0 {
        return;
    }
    if let Some(record) = wait::record(ctx, task) {
        let slot = slot_of(ctx, task, record, file, mechanism::IO_URING as u32);
        slot::change(task, record, slot, |looped| looped.bytes_in = looped.bytes_in.wrapping_add(submitted));
    }
}

/// A wait ends.
#[inline(always)]
fn waited<C: EbpfContext>(
    ctx: &C,
    task: TaskPtr,
    record: &mut Task,
    ret: i64,
    to_submit: u32,
    submitted: u64,
) {
    let now = wait::now();
    let file = record.wait.waitable;
    let mut overflows = 0;
    let mut found = 0;
    if file > waitable::LAST {
        if ret == BAD_DESCRIPTOR || ret == NO_RING {
            wait::on_nothing(&mut record.wait);
            record.wait.asked = 0;
        } else {
            let ring = ring(file);
            found = available(ring);
            overflows = take_overflows(ring);
        }
    }
    let ret = outcome(&record.wait, ret, to_submit, found, now);
    let ret = tally::forget(&mut record.scratch, ret);
    wait::finish::<C, false>(ctx, task, record, ret, now);
    note(task, record, [submitted, overflows], record.wait.highest);
}

/// What a wait came to, as other waits return it: completions, 0 where its time was over, or an errno. A call that
/// submits returns how much it submitted. Then a wait that found nothing has ended because its time was over, or else
/// by a signal; and one that submitted less than it was to has not begun.
#[inline(always)]
fn outcome(wait: &Wait, ret: i64, to_submit: u32, found: u32, now: u64) -> i64 {
    if ret == TIME_IS_OVER {
        return 0;
    }
    if ret < 0 {
        return ret;
    }
    if found > 0 {
        return i64::from(found);
    }
    if ret != i64::from(to_submit) {
        return NOT_BEGUN;
    }
    if wait.timeout != timeout::INFINITE as u32 && now.wrapping_sub(wait.entry_ns) >= wait.timeout_ns {
        return 0;
    }
    INTERRUPTED
}

/// Adds to the loop whose wait has just ended what other waits do not have.
#[inline(always)]
pub fn note(task: TaskPtr, record: &mut Task, [submitted, overflows]: [u64; 2], least: u32) {
    // Through memory: see `Loop::scratch`.
    // SAFETY: a reference is valid for a volatile read.
    let slot = unsafe { ptr::read_volatile(&record.wait.slot) };
    slot::change(task, record, slot, |looped| {
        looped.bytes_in = looped.bytes_in.wrapping_add(submitted);
        looped.bytes_out = looped.bytes_out.wrapping_add(overflows);
        looped.highest = least;
    });
}

/// The slot of a waitable that the thread need not wait on, taken where it has none.
#[inline(never)]
pub fn slot_of<C: EbpfContext>(ctx: &C, task: TaskPtr, record: &mut Task, file: u64, mechanism: u32) -> u32 {
    let (slot, generation) = slot::find(task, record, file);
    if slot != Wait::NO_SLOT {
        return slot;
    }
    // A slot is named after the wait that the thread is in, so that one is put aside.
    let wait = &mut record.wait;
    let aside = (wait.entry_ns, wait.waitable, wait.generation, wait.mechanism);
    bump(&mut record.sequence);
    let wait = &mut record.wait;
    (wait.entry_ns, wait.waitable, wait.generation, wait.mechanism) = (0, file, generation, mechanism);
    bump(&mut record.sequence);
    let slot = slot::take(ctx, task, record);
    bump(&mut record.sequence);
    let wait = &mut record.wait;
    (wait.entry_ns, wait.waitable, wait.generation, wait.mechanism) = aside;
    // Its own slot may have been given away for this one: it is looked for again.
    wait.slot = Wait::NO_SLOT;
    bump(&mut record.sequence);
    slot
}

/// A ring has no room for a completion; whose thread finds it there, counts it.
#[inline(always)]
pub fn overflowed<C: EbpfContext>(ctx: &C, ring: u64) {
    counters::run(probe::IO_URING_CQE_OVERFLOW);
    if let Some(all) = OVERFLOWED.get_ptr_mut(0) {
        // SAFETY: an array element lives as long as the map; several CPUs may add at once, hence atomic.
        ordered(unsafe { &mut *all }, 1);
    }
    if let Some(count) = OVERFLOWS.get_ptr_mut(&ring) {
        // SAFETY: as above; entries are never deleted.
        ordered(unsafe { &mut *count }, 1);
        return;
    }
    if OVERFLOWS.insert(&ring, &1, 0).is_err() {
        counters::lost(lost::RECORDS);
        error!(ctx, "no room for another ring's overflows");
    }
}

/// Takes the number of completions for which a ring had no room since it was last taken.
#[inline(always)]
fn take_overflows(ring: u64) -> u64 {
    if OVERFLOWED.get(0).is_none_or(|all| *all == 0) {
        return 0;
    }
    let Some(count) = OVERFLOWS.get_ptr_mut(&ring) else {
        return 0;
    };
    // SAFETY: entries are never deleted.
    let count = unsafe { &mut *count };
    // What is added meanwhile stays for the next.
    let taken = ordered(count, 0);
    ordered(count, taken.wrapping_neg());
    taken
}
