//! The iterator that user space reads: every thread's loops and epoll_ctl calls, then the counters.
//!
//! A record is first copied aside between two looks at its sequence word, so what is sent was never half
//! written. The reader writes one word of a record, its window number, which the writer only reads.

use core::{ffi::c_void, mem::offset_of, ptr};

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_loop, bpf_map_lookup_percpu_elem, bpf_seq_write},
};
use loopscope_probe::{
    ALL_LINES, CTL_SLOTS, Counters, Ctl, CtlTask, Head, LINES, LOOPS_MORE, Line, Loop, MoreLoops, Record,
    Scalars, Sent, Task, histogram::nonzero, kind, reason, waitable,
};

use crate::{
    flush,
    instance::{self, Table},
    kernel::{self, CPUS, TaskIter, TaskPtr},
    storage::{COUNTERS, CTLS, MORE, PARTS_ROOM, Parts, Reader, TASKS, WHOLE, reader, sequence},
    tally,
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
        reader.whole = WHOLE.get(0).copied().unwrap_or(0);
    }
    if task.is_null() {
        counters(seq, reader);
        return;
    }
    if let Some(record) = TASKS.get(task) {
        if record.has_more == 0 {
            one_loop(seq, reader, task, record);
        } else {
            several_loops(seq, reader, task, record);
        }
    }
    if let Some(record) = CTLS.get(task) {
        ctls(seq, reader, task, record);
    }
}

/// The record's sequence word when the pass before this one sent it, and 1 where that pass did not: then nothing is known
/// of what user space has. Without a branch: each doubles the paths to verify.
#[inline(always)]
fn before(sent: &Sent, reader: &Reader) -> (u64, u64) {
    let window = reader.window;
    let i = kernel::below::<2>(window as usize + 1);
    // SAFETY: below the lengths of the arrays.
    let (known, sequence) = unsafe { (*sent.windows.get_unchecked(i), *sent.sequences.get_unchecked(i)) };
    (sequence, nonzero((known ^ window) | reader.whole))
}

/// Notes that this pass has sent the record as it was at `sequence`.
#[inline(always)]
fn note(sent: &mut Sent, window: u64, sequence: u64) {
    let i = kernel::below::<2>(window as usize);
    // SAFETY: below the lengths of the arrays.
    unsafe {
        *sent.windows.get_unchecked_mut(i) = window + 1;
        *sent.sequences.get_unchecked_mut(i) = sequence;
    }
}

/// Fills the head of a thread's records in this pass.
#[inline(always)]
fn head(reader: &mut Reader, task: TaskPtr, record: &Task) {
    let head = &mut reader.parts.head;
    let [comm, thread] = kernel::names(task);
    (head.born_ns, head.tgid, head.tid) = (record.born_ns, record.tgid, record.tid);
    // The names are read anew: threads name themselves after their first wait.
    (head.comm, head.thread) = (comm, thread);
    (head.window, head.reason) = (reader.window as u32, reason::SAMPLE as u32);
}

/// Sends the loop of a thread that has but one: the lines that were written, or nothing but the thread's head where it has
/// neither begun nor ended a wait since the pass before. A copy that met a writer in every try is left out: user space
/// keeps what it had.
#[inline(always)]
fn one_loop(seq: *mut seq_file, reader: &mut Reader, task: TaskPtr, record: &mut Task) {
    let window = reader.window;
    let (base_sequence, whole) = before(&record.sent, reader);
    // Before the window number is written: what the thread writes from then on may be a window of its own, and the lines
    // of two windows are known. (A writer that a copy did not see yet wrote in the window before that copy's.)
    let lines = written(record) | (whole.wrapping_neg() & ALL_LINES);
    record.window = window;
    head(reader, task, record);
    reader.parts.lines = lines;
    let copied = copy(reader, record, ptr::null(), copy_one);
    let parts = &mut reader.parts;
    if !copied {
        // All the same it is there: a thread that a pass does not show has ended.
        alone(seq, parts, kind::BORN);
        return;
    }
    let sequence = parts.sequence;
    let closed = tally::forget(&mut parts.closed, instance::table(task).closed_loop(&record.first));
    record.sent.closed |= u64::from(closed);
    note(&mut record.sent, window, sequence);
    if (sequence ^ base_sequence) | whole | record.sent.closed == 0 {
        alone(seq, parts, kind::SAME);
    } else {
        send(seq, parts, closed);
    }
}

/// The lines of the first loop that were written in the last two windows; all where the thread wrote in every try.
#[inline(never)]
fn written(record: &mut Task) -> u64 {
    for _ in 0..TRIES {
        let before = sequence(&mut record.sequence);
        let lines = record.first.touched | record.first.previous_touched;
        if before & 1 == 0 && sequence(&mut record.sequence) == before {
            return lines;
        }
    }
    ALL_LINES
}

/// A record on its way from a thread's storage to the reader's room.
struct Copying {
    /// The reader's room.
    reader: *mut Reader,
    /// The thread's record.
    record: *mut Task,
    /// Its further loops; null where only the first is copied.
    more: *const MoreLoops,
}

/// Runs `attempt` until the record was whole: its sequence word even, and the same before and after. Gives whether it was;
/// the word is then in [`Parts::sequence`]. A loop in place would be verified once for each try.
#[inline(always)]
fn copy(
    reader: &mut Reader,
    record: &mut Task,
    more: *const MoreLoops,
    attempt: unsafe extern "C" fn(u32, *mut c_void) -> i64,
) -> bool {
    reader.parts.copied = 0;
    let mut copying = Copying { reader, record, more };
    // SAFETY: the callback's signature is what the helper calls, and the context outlives the call.
    unsafe { bpf_loop(TRIES, attempt as *const () as *mut c_void, (&raw mut copying).cast(), 0) };
    reader.parts.copied != 0
}

/// One try to copy the thread's wait and its first loop, of the histograms the lines that `parts` says and those that were
/// written since; 1 where it was whole.
unsafe extern "C" fn copy_one(_: u32, copying: *mut c_void) -> i64 {
    // SAFETY: the context that `copy` gave, and what it points to.
    let (parts, record) = unsafe {
        let copying = &*copying.cast::<Copying>();
        (&mut (*copying.reader).parts, &mut *copying.record)
    };
    let before = sequence(&mut record.sequence);
    wait(parts, record);
    // A loop begins with its scalars.
    kernel::copy_words(&raw mut parts.scalars, (&raw const record.first).cast());
    parts.lines |= record.first.touched | record.first.previous_touched;
    pick(parts, &record.first);
    ended(parts, record, before)
}

/// One try to copy a thread's wait and all of its loops; 1 where it was whole.
unsafe extern "C" fn copy_several(_: u32, copying: *mut c_void) -> i64 {
    // SAFETY: as in `copy_one`.
    let (reader, record, more) = unsafe {
        let copying = &*copying.cast::<Copying>();
        (&mut *copying.reader, &mut *copying.record, copying.more)
    };
    let before = sequence(&mut record.sequence);
    wait(&mut reader.parts, record);
    kernel::copy(&raw mut reader.first, &record.first);
    kernel::copy(&raw mut reader.more, more);
    ended(&mut reader.parts, record, before)
}

/// Copies what a head says of the thread's wait.
#[inline(always)]
fn wait(parts: &mut Parts, record: &Task) {
    parts.head.now_ns = crate::wait::now();
    parts.head.wait_ns = record.wait_ns;
    kernel::copy_words(&raw mut parts.head.wait, &record.wait);
}

/// Notes whether the copy that began with this sequence word is whole, as 1 or 0.
#[inline(always)]
fn ended(parts: &mut Parts, record: &mut Task, before: u64) -> i64 {
    let whole = before & 1 == 0 && sequence(&mut record.sequence) == before;
    parts.sequence = before;
    parts.copied = whole.into();
    whole.into()
}

/// A copy of lines in progress.
struct Picking {
    /// Where to. What changes is there too: in memory of a map, of which the verifier knows no values.
    parts: *mut Parts,
    /// The loop's lines.
    from: *const Line,
}

/// Copies the lines of a loop that `parts` says.
#[inline(always)]
fn pick(parts: &mut Parts, looped: &Loop) {
    // SAFETY: the lines follow the scalars.
    let from = unsafe { (&raw const *looped).byte_add(size_of::<Scalars>()).cast::<Line>() };
    (parts.left, parts.taken) = (parts.lines, 0);
    let mut picking = Picking { parts, from };
    // A loop in place would be verified line by line, in each try.
    // SAFETY: the callback's signature is what the helper calls, and the context outlives the call.
    unsafe { bpf_loop(LINES as u32, step as *const () as *mut c_void, (&raw mut picking).cast(), 0) };
}

/// One line; 1 where there is none left.
unsafe extern "C" fn step(_: u32, picking: *mut c_void) -> i64 {
    // SAFETY: the context that `pick` gave, and what it points to.
    let (parts, from) = unsafe {
        let picking = &*picking.cast::<Picking>();
        (&mut *picking.parts, picking.from)
    };
    let left = parts.left;
    if left == 0 {
        return 1;
    }
    let (i, to) = (lowest(left), kernel::below::<PARTS_ROOM>(parts.taken as usize));
    // SAFETY: there are LINES lines, and i is below; `to` is below the length of the array.
    unsafe { kernel::copy_words(parts.room.get_unchecked_mut(to), from.add(i)) };
    parts.left = left & (left - 1);
    parts.taken += 1;
    0
}

/// The lowest bit of a set of lines; the machine has no instruction for it.
#[inline(always)]
fn lowest(set: u64) -> usize {
    let place = (set & set.wrapping_neg()).wrapping_mul(DE_BRUIJN) >> 58;
    // SAFETY: below the length of the table. Through memory, where the verifier knows no values.
    let i =
        unsafe { (&raw const PLACES).cast::<u8>().add(kernel::below::<64>(place as usize)).read_volatile() };
    let i = usize::from(i);
    if i < LINES { i } else { 0 }
}

/// A number whose six highest bits differ for each of its 64 shifts to the left...
const DE_BRUIJN: u64 = 0x03f7_9d71_b4cb_0a89;
/// ...and by those bits the shift.
static PLACES: [u8; 64] = {
    let mut places = [0; 64];
    let mut shift = 0;
    while shift < 64 {
        places[(DE_BRUIJN.wrapping_shl(shift) >> 58) as usize] = shift as u8;
        shift += 1;
    }
    places
};

/// Sends what was copied.
#[inline(always)]
fn send(seq: *mut seq_file, parts: &mut Parts, closed: u32) {
    // SAFETY: the scalars are a Loop's, in which this field has its place.
    unsafe { (&raw mut parts.scalars).byte_add(offset_of!(Loop, closed)).cast::<u32>().write(closed) };
    // SAFETY: a reference is valid for a volatile read.
    let taken = kernel::below::<PARTS_ROOM>(unsafe { ptr::read_volatile(&parts.taken) } as usize);
    let size = offset_of!(Parts, room) + taken * size_of::<Line>();
    (parts.head.kind, parts.head.size) = (kind::LINES as u32, size as u32);
    // SAFETY: the verifier checks the room.
    unsafe { bpf_seq_write(seq, (&raw const *parts).cast(), size as u32) };
}

/// Sends a thread's head and nothing else.
#[inline(always)]
fn alone(seq: *mut seq_file, parts: &mut Parts, kind: usize) {
    (parts.head.kind, parts.head.size) = (kind as u32, size_of::<Head>() as u32);
    write(seq, &parts.head);
}

/// Sends the loops of a thread that has several, whole: few threads do.
#[inline(always)]
fn several_loops(seq: *mut seq_file, reader: &mut Reader, task: TaskPtr, record: &mut Task) {
    let table = instance::table(task);
    record.window = reader.window;
    head(reader, task, record);
    let Some(more) = MORE.get(task) else {
        // They are being sent away: as where no copy was whole.
        alone(seq, &mut reader.parts, kind::BORN);
        return;
    };
    let copied = copy(reader, record, more, copy_several)
        // Memory that the thread gave back after it was found holds what the thread has sent away itself.
        && MORE.get(task).is_some_and(|now| ptr::eq(now, more));
    let parts = &mut reader.parts;
    if !copied {
        alone(seq, parts, kind::BORN);
        return;
    }
    (parts.head.kind, parts.head.size) = (kind::LOOPS as u32, size_of::<Record<Loop>>() as u32);
    reader.first.closed = table.closed_loop(&reader.first);
    write(seq, &parts.head);
    write::<Loop>(seq, &reader.first);
    for i in 0..LOOPS_MORE {
        // SAFETY: i is below the length of the array.
        let slot = unsafe { reader.more.loops.get_unchecked_mut(i) };
        if slot.waitable != waitable::FREE {
            slot.closed = table.closed_loop(slot);
            write(seq, &parts.head);
            write::<Loop>(seq, slot);
        }
    }
}

/// Sends a thread's epoll_ctl calls, where there was one since the pass before.
#[inline(always)]
fn ctls(seq: *mut seq_file, reader: &mut Reader, task: TaskPtr, record: &mut CtlTask) {
    let table = instance::table(task);
    let window = reader.window;
    let (base_sequence, whole) = before(&record.sent, reader);
    for i in 0..CTL_SLOTS {
        // SAFETY: i is below the length of the array.
        let slot = unsafe { record.slots.get_unchecked(i) };
        record.sent.closed |= u64::from(tally::forget(&mut reader.parts.closed, closed_ctl(table, slot)));
    }
    let now_sequence = sequence(&mut record.sequence);
    if (now_sequence ^ base_sequence) | whole | record.sent.closed == 0 {
        note(&mut record.sent, window, base_sequence);
        return;
    }
    let head = &raw mut reader.head;
    flush::announce(head, kind::CTLS, size_of::<Record<Ctl>>(), reason::SAMPLE);
    let Some(copied) = copy_ctls(&mut reader.ctl, record, head) else {
        return;
    };
    note(&mut record.sent, window, copied);
    flush::ctl(head, &reader.ctl);
    reader.head.window = window as u32;
    for i in 0..CTL_SLOTS {
        // SAFETY: i is below the length of the array.
        let slot = unsafe { reader.ctl.slots.get_unchecked_mut(i) };
        if slot.waitable != waitable::FREE {
            slot.closed = closed_ctl(table, slot);
            write(seq, head);
            write::<Ctl>(seq, slot);
        }
    }
}

/// As [`copy`], of epoll_ctl calls.
#[inline(always)]
fn copy_ctls(room: &mut CtlTask, record: &mut CtlTask, head: *mut Head) -> Option<u64> {
    for _ in 0..TRIES {
        let before = sequence(&mut record.sequence);
        // SAFETY: the head is the reader's.
        unsafe { (*head).now_ns = crate::wait::now() };
        kernel::copy(room, record);
        if before & 1 == 0 && sequence(&mut record.sequence) == before {
            return Some(before);
        }
    }
    None
}

/// As [`Table::closed`], of epoll_ctl calls on an instance.
#[inline(always)]
fn closed_ctl(table: Table, slot: &Ctl) -> u32 {
    table.closed(slot.fd, slot.waitable, slot.generation, slot.epoch)
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
