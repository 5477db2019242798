//! epoll_ctl, counted by operation, errno and flag in the record of the thread that calls it.
//!
//! One program, at the exit: the arguments are still in the saved registers, and the event that the kernel
//! has just copied is resident, so nothing has to be carried over from an entry program. (Another thread that
//! rewrites the event during the call could make its flags be counted wrongly, never the call.)

use core::ptr;

use aya_ebpf::EbpfContext;
use aya_log_ebpf::error;
use loopscope_probe::{
    CTL_ERRNO_COLUMNS, CTL_ERRNOS, CTL_FLAG_BITS, CTL_SLOTS, Ctl, CtlTask, ctl_errno, ctl_op, histogram,
    lost, probe, reason, waitable,
};

use crate::{
    counters, filter, flush, instance,
    kernel::{self, REGS_ARG0, REGS_ARG1, REGS_ARG3, TaskPtr},
    storage::{CTLS, bump},
    wait::now,
};

/// Exit of epoll_ctl(epfd, op, fd, event) with return value `ret`.
#[inline(always)]
pub fn exit<C: EbpfContext>(ctx: &C, ret: i64) {
    let registers = kernel::registers(kernel::current());
    let fd = kernel::field::<u64>(registers, &REGS_ARG0) as i32;
    let op = kernel::field::<u64>(registers, &REGS_ARG1) as u32;
    let event: u64 = kernel::field(registers, &REGS_ARG3);
    count(ctx, ret, fd, op, || kernel::read_user(event).unwrap_or(0));
}

/// As [`exit`], of arguments that are known; `events` gives the flags of the event, where they are asked for.
#[inline(always)]
pub fn count<C: EbpfContext>(ctx: &C, ret: i64, fd: i32, op: u32, events: impl FnOnce() -> u32) {
    counters::run(probe::EPOLL_CTL);
    let task = kernel::current();
    let record = match CTLS.get(task) {
        Some(record) => record,
        None => match create(ctx, task) {
            Some(record) => record,
            None => return,
        },
    };
    let op = u64::from(op);
    // ADD to MOD, else OTHER, which is 0; by arithmetic, since each branch doubles the paths to verify.
    let op = (op & histogram::above(ctl_op::MOD as u64 + 1, op).wrapping_neg()) as usize;
    let mut file = instance::file(task, fd);
    if file == 0 || (ret < 0 && !instance::is_epoll(file)) {
        file = waitable::NO_INSTANCE;
    }
    let Some(record) = place(ctx, task, record, file) else {
        return;
    };
    bump(&mut record.sequence);
    let slot = hinted(record);
    slot.fd = fd;
    if ret < 0 {
        failed(slot, op, -ret);
    } else {
        done(slot, op, events);
    }
    bump(&mut record.sequence);
}

/// Counts a call that succeeded, and its flags where it added or changed an entry.
#[inline(always)]
fn done(slot: &mut Ctl, op: usize, events: impl FnOnce() -> u32) {
    // SAFETY: below the length of the array.
    let count = unsafe { slot.done.get_unchecked_mut(kernel::below::<{ ctl_op::NAMES.len() }>(op)) };
    *count = count.wrapping_add(1);
    if op == ctl_op::DEL {
        return;
    }
    let bits = events();
    // By arithmetic, since four branches are sixteen paths to verify.
    for (count, bit) in slot.flags.iter_mut().zip(CTL_FLAG_BITS) {
        *count = count.wrapping_add((bits >> bit) & 1);
    }
}

/// Counts a call that failed.
#[inline(always)]
fn failed(slot: &mut Ctl, op: usize, errno: i64) {
    let index = match errno {
        // SAFETY: below the length of the table.
        0..64 => unsafe { *CTL_ERRNOS.get_unchecked(kernel::below::<64>(errno as usize)) as usize },
        _ => ctl_errno::OTHER,
    };
    // SAFETY: both indices are below the lengths of their arrays.
    let count = unsafe {
        let errors = slot.errors.get_unchecked_mut(kernel::below::<{ ctl_op::NAMES.len() }>(op));
        errors.get_unchecked_mut(kernel::below::<CTL_ERRNO_COLUMNS>(index))
    };
    *count = count.wrapping_add(1);
}

/// Makes the record of a thread that calls epoll_ctl for the first time.
#[inline(never)]
fn create<C: EbpfContext>(ctx: &C, task: TaskPtr) -> Option<&'static mut CtlTask> {
    if !filter::selected(task) {
        return None;
    }
    let Some(record) = CTLS.get_or_create(task) else {
        counters::lost(lost::RECORDS);
        error!(ctx, "no memory for a thread's epoll_ctl record");
        return None;
    };
    record.born_ns = now();
    record.comm = kernel::process_comm(task);
    record.thread = kernel::comm(task);
    (record.tgid, record.tid) = kernel::ids(task);
    Some(record)
}

/// Puts into the record's hint the slot of an instance, taken where it has none. Where all are taken, they go out and
/// the thread gets a new record, which comes back.
#[inline(always)]
fn place<C: EbpfContext>(
    ctx: &C,
    task: TaskPtr,
    mut record: &'static mut CtlTask,
    file: u64,
) -> Option<&'static mut CtlTask> {
    let epoch = instance::epoch(file);
    let slot = hinted(record);
    if slot.waitable == file && slot.epoch == epoch {
        return Some(record);
    }
    let generation = instance::generation(file);
    let mut i = search(record, file, generation);
    if i == CTL_SLOTS {
        flush::ctls(record, reason::EVICT);
        CTLS.delete(task);
        record = create(ctx, task)?;
        i = 0;
    }
    record.hint = i as u64;
    let slot = hinted(record);
    slot.waitable = file;
    slot.generation = generation;
    slot.epoch = epoch;
    Some(record)
}

/// The slot that the record's hint means. The index comes from memory, so that the verifier forgets by which of many
/// paths it came about.
#[inline(always)]
fn hinted(record: &mut CtlTask) -> &mut Ctl {
    // SAFETY: a reference is valid for a volatile read.
    let hint = unsafe { ptr::read_volatile(&record.hint) } as usize;
    // SAFETY: below the length of the array.
    unsafe { record.slots.get_unchecked_mut(kernel::below::<CTL_SLOTS>(hint)) }
}

/// The slot of an instance, or the first free one; [`CTL_SLOTS`] where all are taken by others.
#[inline(always)]
fn search(record: &CtlTask, file: u64, generation: u64) -> usize {
    for i in 0..CTL_SLOTS {
        // SAFETY: i is below the length of the array.
        let slot = unsafe { record.slots.get_unchecked(i) };
        if slot.waitable == waitable::FREE || (slot.waitable == file && slot.generation == generation) {
            return i;
        }
    }
    CTL_SLOTS
}
