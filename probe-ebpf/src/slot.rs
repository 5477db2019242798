//! Where a thread's waitables are counted: the first in its record, up to eight more in a second storage that only such
//! threads have. A tenth sends the eight to user space and starts them anew.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{error, info};
use loopscope_probe::{LOOP_WAITS, LOOPS_MORE, Loop, MoreLoops, Task, Wait, lost, reason, waitable};

use crate::{
    counters, flush, instance,
    kernel::{self, TaskPtr},
    storage::{MORE, bump},
};

/// The slot of a waitable, or [`Wait::NO_SLOT`], and the generation of its address.
#[inline(always)]
pub fn find(task: TaskPtr, record: &mut Task, file: u64) -> (u32, u64) {
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
pub fn at(task: TaskPtr, record: &mut Task, slot: u32) -> Option<&mut Loop> {
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

/// Changes the loop in a slot, where there is one, while the record's sequence word is open.
#[inline(always)]
pub fn change(task: TaskPtr, record: &mut Task, slot: u32, how: impl FnOnce(&mut Loop)) {
    let word = &raw mut record.sequence;
    if let Some(looped) = at(task, record, slot) {
        // SAFETY: a field of the record that `looped` does not cover.
        let word = unsafe { &mut *word };
        bump(word);
        how(looped);
        bump(word);
    }
}

/// Takes a slot for the waitable of the wait that ends; [`Wait::NO_SLOT`] where there is no memory.
#[inline(never)]
pub fn take<C: EbpfContext>(ctx: &C, task: TaskPtr, record: &mut Task) -> u32 {
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
        name(&mut record.first, &record.wait, &mut record.takes);
        return 0;
    }
    let Some(more) = MORE.get_or_create(task) else {
        counters::lost(lost::RECORDS);
        error!(ctx, "no memory for a further loop of thread {}", record.tid);
        return Wait::NO_SLOT;
    };
    record.has_more = 1;
    for i in 0..LOOPS_MORE {
        // SAFETY: i is below the length of the array.
        let slot = unsafe { more.loops.get_unchecked_mut(i) };
        if slot.waitable == waitable::FREE {
            name(slot, &record.wait, &mut record.takes);
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
    // A reader that copied them between the two would send them a second time, as of after they were sent away.
    bump(&mut record.sequence);
    flush::more(record, more, reason::EVICT);
    MORE.delete(task);
    bump(&mut record.sequence);
    match MORE.get_or_create(task) {
        Some(more) => {
            name(&mut more.loops[0], &record.wait, &mut record.takes);
            1
        }
        None => {
            record.has_more = 0;
            counters::lost(lost::RECORDS);
            Wait::NO_SLOT
        }
    }
}

/// Writes into an empty slot whose it is.
#[inline(always)]
fn name(slot: &mut Loop, wait: &Wait, takes: &mut u64) {
    *takes = takes.wrapping_add(1);
    slot.serial = *takes as u32;
    slot.generation = wait.generation;
    slot.mechanism = wait.mechanism;
    slot.waitable = wait.waitable;
}
