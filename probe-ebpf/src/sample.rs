//! The iterator that user space reads: every thread's loops and epoll_ctl calls, then the counters.
//!
//! A record is first copied aside between two looks at its sequence word, so what is sent was never half
//! written. The reader writes one word of a record, its window number, which the writer only reads.

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_map_lookup_percpu_elem, bpf_seq_write},
};
use loopscope_probe::{
    CTL_SLOTS, Counters, Ctl, CtlTask, Head, LOOPS_MORE, Loop, Record, Task, kind, reason, waitable,
};

use crate::{
    flush,
    instance::{self, Table},
    kernel::{self, CPUS, TaskIter, TaskPtr},
    storage::{COUNTERS, CTLS, MORE, Reader, TASKS, reader, sequence},
};

/// Tries to copy a record whole. In a loop that does nothing but wait, a copy meets a writer in about one of
/// twelve tries (measured); four in a row are then one in 20,000, and such a record waits for the next pass.
const TRIES: u32 = 4;

/// One call of the iterator: a task, or null at the end of the pass.
#[inline(always)]
pub fn show(ctx: *const TaskIter) {
    // SAFETY: the verifier knows the context's layout.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    // SAFETY: meta is never null.
    let (seq, session) = unsafe { ((*meta).seq, (*meta).session_id) };
    let Some(reader) = reader() else {
        return;
    };
    if reader.session != session {
        reader.session = session;
        reader.window += 1;
    }
    if task.is_null() {
        counters(seq, reader);
        return;
    }
    let table = instance::table(task);
    if let Some(record) = TASKS.get(task) {
        record.window = reader.window;
        loops(seq, reader, task, record, table);
    }
    if let Some(record) = CTLS.get(task) {
        ctls(seq, reader, record, table);
    }
}

/// Sends a thread's loops. A copy that met a writer in every try is left out: user space keeps what it had.
#[inline(always)]
fn loops(seq: *mut seq_file, reader: &mut Reader, task: TaskPtr, record: &mut Task, table: Table) {
    let more = MORE.get(task).map(|more| &*more);
    let mut now = 0;
    let whole = copy_whole(&raw mut record.sequence, || {
        now = crate::wait::now();
        kernel::copy(&raw mut reader.task, record);
        if let Some(more) = more {
            kernel::copy(&raw mut reader.more, more);
        }
    });
    if !whole {
        // All the same it is there: a thread that a pass does not show has ended.
        let head = &raw mut reader.head;
        flush::announce(head, kind::BORN, size_of::<Head>(), reason::SAMPLE);
        flush::waits(head, record);
        reader.head.window = reader.window as u32;
        write(seq, head);
        return;
    }
    // The names are read anew: threads name themselves after their first wait.
    reader.task.comm = kernel::process_comm(task);
    reader.task.thread = kernel::comm(task);
    let head = &raw mut reader.head;
    flush::announce(head, kind::LOOPS, size_of::<Record<Loop>>(), reason::SAMPLE);
    flush::waits(head, &reader.task);
    reader.head.now_ns = now;
    reader.head.window = reader.window as u32;
    let first = &mut reader.task.first;
    first.closed = table.closed(first.fd, first.waitable, first.generation);
    write(seq, head);
    write::<Loop>(seq, &reader.task.first);
    if more.is_none() {
        return;
    }
    for i in 0..LOOPS_MORE {
        // SAFETY: i is below the length of the array.
        let slot = unsafe { reader.more.loops.get_unchecked_mut(i) };
        if slot.waitable != waitable::FREE {
            slot.closed = table.closed(slot.fd, slot.waitable, slot.generation);
            write(seq, head);
            write::<Loop>(seq, slot);
        }
    }
}

/// Sends a thread's epoll_ctl calls, likewise.
#[inline(always)]
fn ctls(seq: *mut seq_file, reader: &mut Reader, record: &mut CtlTask, table: Table) {
    let mut now = 0;
    let whole = copy_whole(&raw mut record.sequence, || {
        now = crate::wait::now();
        kernel::copy(&raw mut reader.ctl, record);
    });
    if !whole {
        return;
    }
    let head = &raw mut reader.head;
    flush::announce(head, kind::CTLS, size_of::<Record<Ctl>>(), reason::SAMPLE);
    flush::ctl(head, &reader.ctl);
    reader.head.now_ns = now;
    reader.head.window = reader.window as u32;
    for i in 0..CTL_SLOTS {
        // SAFETY: i is below the length of the array.
        let slot = unsafe { reader.ctl.slots.get_unchecked_mut(i) };
        if slot.waitable != waitable::FREE {
            slot.closed = table.closed(slot.fd, slot.waitable, slot.generation);
            write(seq, head);
            write::<Ctl>(seq, slot);
        }
    }
}

/// Runs `copy` until the sequence word was even and the same before and after.
#[inline(always)]
fn copy_whole(word: *mut u64, mut copy: impl FnMut()) -> bool {
    for _ in 0..TRIES {
        // SAFETY: the word is part of a live record.
        let before = sequence(unsafe { &mut *word });
        copy();
        // SAFETY: as above.
        if before & 1 == 0 && sequence(unsafe { &mut *word }) == before {
            return true;
        }
    }
    false
}

/// Sends the sums of the counters over all CPUs: the end of a pass.
#[inline(always)]
fn counters(seq: *mut seq_file, reader: &mut Reader) {
    reader.counters = Counters::default();
    for cpu in 0..CPUS.load() {
        let key = 0_u32;
        // SAFETY: the helper returns null or that CPU's element, which lives as long as the map.
        let Some(counters) = (unsafe {
            bpf_map_lookup_percpu_elem((&raw const COUNTERS).cast_mut().cast(), (&raw const key).cast(), cpu)
                .cast::<Counters>()
                .as_ref()
        }) else {
            break;
        };
        for (sum, count) in reader.counters.runs.iter_mut().zip(&counters.runs) {
            *sum = sum.wrapping_add(*count);
        }
        for (sum, count) in reader.counters.lost.iter_mut().zip(&counters.lost) {
            *sum = sum.wrapping_add(*count);
        }
    }
    let head = &raw mut reader.head;
    flush::announce(head, kind::COUNTERS, size_of::<Record<Counters>>(), reason::SAMPLE);
    flush::ctl(head, &reader.ctl);
    reader.head.window = reader.window as u32;
    write(seq, head);
    write::<Counters>(seq, &reader.counters);
}

/// Sends a part of a record. Where the iterator's buffer is full, the kernel drops what this task has written and
/// shows the task again at the next read.
#[inline(always)]
fn write<T>(seq: *mut seq_file, part: *const T) {
    // SAFETY: the verifier checks the room.
    unsafe { bpf_seq_write(seq, part.cast(), size_of::<T>() as u32) };
}
