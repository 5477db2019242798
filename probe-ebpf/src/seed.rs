//! The waits in progress before anything is attached: they show as waiting at once, and enter no count.
//!
//! Runs once, before the probes: there is no writer yet, so it may write the records of other tasks.

use loopscope_probe::{probe, timeout, waitable};

use crate::{
    aio,
    call::{Call, Timeout},
    epoll, filter, instance,
    kernel::{
        self, AGENT_EPFD, FILE_F_OP, REGS_ARG0, REGS_ARG1, REGS_ARG2, REGS_ARG3, REGS_ARG4, REGS_ENOSYS,
        REGS_NUMBER, REGS_RETURN, TaskIter, TaskPtr,
    },
    poll, select,
    storage::reader,
    uring, wait,
};

/// What a system call's return register holds on x86-64 until the call ends; on arm64 it is the first argument's as well
/// and holds that. A task that is back in its program has the registers of its last call still: on arm64 one whose
/// result was as large as its first argument is taken for a waiting one.
const ENOSYS: u64 = -38_i64 as u64;

/// One call of the iterator: a task, or null at the end of the pass.
#[inline(always)]
pub fn show(ctx: *const TaskIter) {
    // SAFETY: the verifier knows the context's layout.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    // SAFETY: meta is never null.
    if unsafe { (*meta).seq_num } == 0 {
        learn();
    }
    if task.is_null() {
        return;
    }
    if filter::selected(task)
        && let Some((call, file)) = waiting(task)
    {
        wait::inherit(task, call, file);
    }
}

/// Learns the address of the kernel's epoll file operations from a descriptor of the reading process:
/// kallsyms has no data symbols on many kernels.
#[inline(always)]
fn learn() {
    let file = instance::file(kernel::current(), AGENT_EPFD.load() as i32);
    if let (Some(reader), Some(operations)) = (reader(), kernel::probe(file + u64::from(FILE_F_OP.load()))) {
        reader.epoll_fops = operations;
        reader.tgid = kernel::ids(kernel::current()).0.into();
    }
}

/// The wait that a task is inside, and what it waits on.
#[inline(always)]
fn waiting(task: TaskPtr) -> Option<(Call, u64)> {
    let registers = kernel::registers(task);
    if registers.is_null() {
        return None;
    }
    let argument0: u64 = kernel::field(registers, &REGS_ARG0);
    let during = if REGS_ENOSYS.load() != 0 { ENOSYS } else { argument0 };
    if kernel::field::<u64>(registers, &REGS_RETURN) != during {
        return None;
    }
    let argument1: u64 = kernel::field(registers, &REGS_ARG1);
    let argument2: u64 = kernel::field(registers, &REGS_ARG2);
    let argument3: u64 = kernel::field(registers, &REGS_ARG3);
    match kernel::probe_of(kernel::field(registers, &REGS_NUMBER)) {
        probe::EPOLL_WAIT | probe::EPOLL_PWAIT => {
            on_instance(task, epoll::call(argument0, argument2, Timeout::millis(argument3 as i32)))
        }
        probe::EPOLL_PWAIT2 => on_instance(task, epoll::call(argument0, argument2, elsewhere(argument3))),
        probe::POLL => Some((poll::call(argument1, Timeout::millis(argument2 as i32)), waitable::POLL)),
        probe::PPOLL => Some((poll::call(argument1, elsewhere(argument2)), waitable::POLL)),
        probe::SELECT | probe::PSELECT6 => {
            let timeout = elsewhere(kernel::field(registers, &REGS_ARG4));
            Some((select::inherited(argument0, timeout), waitable::SELECT))
        }
        probe::IO_URING_ENTER => uring::inherited(task, argument0, argument2, argument3),
        probe::IO_GETEVENTS | probe::IO_PGETEVENTS => {
            let timeout = elsewhere(kernel::field(registers, &REGS_ARG4));
            Some((aio::call([argument1, argument2], timeout), aio::context(argument0)))
        }
        _ => None,
    }
}

/// A time-out in the memory of another process: only its absence can be seen.
#[inline(always)]
fn elsewhere(address: u64) -> Timeout {
    Timeout::unmeasured(if address == 0 { timeout::INFINITE } else { timeout::UNKNOWN })
}

/// An epoll wait, if its descriptor is an instance.
#[inline(always)]
fn on_instance(task: TaskPtr, call: Call) -> Option<(Call, u64)> {
    let file = instance::file(task, call.fd);
    (file != 0 && instance::is_epoll(file)).then_some((call, file))
}
