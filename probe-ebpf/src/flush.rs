//! Last figures: what leaves through the ring buffer when a thread ends, executes, or runs out of slots.

use aya_ebpf::EbpfContext;
use loopscope_probe::{
    CTL_SLOTS, Ctl, CtlTask, Head, Loop, MoreLoops, Record, Task, Wait, kind, lost, probe, reason,
};

use crate::{
    counters, instance,
    kernel::{self, TaskPtr},
    storage::{CTLS, EVENTS, MORE, TASKS},
    wait::{self, now},
};

/// A thread that is in no wait, as far as its epoll_ctl record knows.
static NO_WAIT: Wait = Wait {
    entry_ns: 0,
    waitable: 0,
    generation: 0,
    timeout_ns: 0,
    paused_ns: 0,
    fd: 0,
    asked: 0,
    timeout: 0,
    mechanism: 0,
    slot: 0,
    inherited: 0,
    bytes_in: 0,
    bytes_out: 0,
    highest: 0,
    passes: 0,
};

/// A thread ends. `task` is the running thread.
#[inline(always)]
pub fn exit<C: EbpfContext>(ctx: &C, task: TaskPtr) {
    counters::run(probe::TASK_EXIT);
    // Its files are still there (kernel/exit.c).
    let table = instance::table(task);
    wait::interrupt(ctx, task);
    if let Some(record) = TASKS.get(task) {
        // A thread may have been renamed since its first wait.
        record.comm = kernel::process_comm(task);
        record.thread = kernel::comm(task);
        // What was closed before is not busy until now.
        let first = &mut record.first;
        first.closed = table.closed_loop(first);
        if let Some(more) = MORE.get(task) {
            for looped in &mut more.loops {
                looped.closed = table.closed_loop(looped);
            }
        }
    }
    all(task, reason::EXIT);
}

/// A thread executes another program. `task` is the running thread; its names are the new program's already, so the
/// record's own go out.
#[inline(always)]
pub fn exec(task: TaskPtr) {
    counters::run(probe::TASK_EXEC);
    all(task, reason::EXEC);
}

/// Sends and ends all records of a thread.
#[inline(always)]
fn all(task: TaskPtr, why: usize) {
    if let Some(record) = TASKS.get(task) {
        first(record, why);
        if let Some(loops) = MORE.get(task) {
            more(record, loops, why);
            MORE.delete(task);
        }
        TASKS.delete(task);
    }
    if let Some(record) = CTLS.get(task) {
        ctls(record, why);
        CTLS.delete(task);
    }
}

/// Sends a thread's first loop; it carries the thread's end even where the slot is free.
#[inline(always)]
pub fn first(record: &Task, why: usize) {
    send::<Loop>(kind::LOOPS, why, &record.first, |head| waits(head, record));
}

/// Sends a thread's further loops.
#[inline(always)]
pub fn more(record: &Task, loops: &MoreLoops, why: usize) {
    send::<MoreLoops>(kind::LOOPS, why, loops, |head| waits(head, record));
}

/// Sends a thread's epoll_ctl calls.
#[inline(always)]
pub fn ctls(record: &CtlTask, why: usize) {
    send::<[Ctl; CTL_SLOTS]>(kind::CTLS, why, &record.slots, |head| ctl(head, record));
}

/// Tells user space of a thread while it lives, so that it can read what /proc says of it.
#[inline(always)]
pub fn born(record: &Task) {
    // Not a loss where the buffer is full: the next pass finds the thread.
    if let Some(mut entry) = EVENTS.reserve::<Head>(0) {
        let head = entry.as_mut_ptr();
        announce(head, kind::BORN, size_of::<Head>(), reason::SAMPLE);
        waits(head, record);
        entry.submit(0);
    }
}

/// Sends one record, or counts its loss.
#[inline(always)]
fn send<T: 'static>(kind: usize, why: usize, body: &T, whose: impl FnOnce(*mut Head)) {
    let Some(mut entry) = EVENTS.reserve::<Record<T>>(0) else {
        counters::lost(lost::EVENTS);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the room is as large as a Record<T>.
    let (head, to) = unsafe { (&raw mut (*record).head, &raw mut (*record).body) };
    announce(head, kind, size_of::<Record<T>>(), why);
    whose(head);
    kernel::copy(to, body);
    entry.submit(0);
}

/// Fills the part of a head that says what the record is. `head` is valid for writing.
#[inline(always)]
pub fn announce(head: *mut Head, kind: usize, size: usize, why: usize) {
    // SAFETY: the callers pass room of their own.
    unsafe {
        (*head).kind = kind as u32;
        (*head).size = size as u32;
        (*head).reason = why as u32;
        (*head).window = 0;
        (*head).now_ns = now();
    }
}

/// Fills the part of a head that says which thread, from its waits. `head` is valid for writing.
#[inline(always)]
pub fn waits(head: *mut Head, record: &Task) {
    // SAFETY: the callers pass room of their own.
    unsafe {
        (*head).born_ns = record.born_ns;
        (*head).tgid = record.tgid;
        (*head).tid = record.tid;
        (*head).comm = record.comm;
        (*head).thread = record.thread;
        (*head).wait_ns = record.wait_ns;
        kernel::copy(&raw mut (*head).wait, &record.wait);
    }
}

/// As [`waits`], from its epoll_ctl calls.
#[inline(always)]
pub fn ctl(head: *mut Head, record: &CtlTask) {
    // SAFETY: the callers pass room of their own.
    unsafe {
        (*head).born_ns = record.born_ns;
        (*head).tgid = record.tgid;
        (*head).tid = record.tid;
        (*head).comm = record.comm;
        (*head).thread = record.thread;
        (*head).wait_ns = 0;
        kernel::copy(&raw mut (*head).wait, &raw const NO_WAIT);
    }
}
