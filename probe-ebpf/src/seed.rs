//! The waits in progress before anything is attached: they show as waiting at once, and enter no count.
//!
//! Runs once, before the probes: there is no writer yet, so it may write the records of other tasks.

use loopscope_probe::{mechanism, timeout};

use crate::{
    filter, instance,
    kernel::{
        self, AGENT_EPFD, FILE_F_OP, NR_EPOLL_PWAIT, NR_EPOLL_PWAIT2, NR_EPOLL_WAIT, REGS_ARG0, REGS_ARG2, REGS_ARG3,
        REGS_ENOSYS, REGS_NUMBER, REGS_RETURN, TaskIter, TaskPtr,
    },
    storage::reader,
    wait::{self, Call},
};

/// What a system call's return register holds on x86-64 until the call ends.
const ENOSYS: i64 = -38;

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
    }
}

/// The epoll wait that a task is inside, and the instance that it waits on.
#[inline(always)]
fn waiting(task: TaskPtr) -> Option<(Call, u64)> {
    let registers = kernel::registers(task);
    if registers.is_null() {
        return None;
    }
    if REGS_ENOSYS.load() != 0 && kernel::field::<i64>(registers, &REGS_RETURN) != ENOSYS {
        return None;
    }
    let number = kernel::field::<u64>(registers, &REGS_NUMBER) as u32;
    let argument3: u64 = kernel::field(registers, &REGS_ARG3);
    let timeout = if number == NR_EPOLL_PWAIT2.load() {
        // The time-out is in the memory of another process.
        if argument3 == 0 { timeout::INFINITE } else { timeout::UNKNOWN }
    } else if number == NR_EPOLL_WAIT.load() || number == NR_EPOLL_PWAIT.load() {
        match argument3 as i32 {
            ..0 => timeout::INFINITE,
            0 => timeout::ZERO,
            1.. => timeout::FINITE,
        }
    } else {
        return None;
    };
    let call = Call {
        mechanism: mechanism::EPOLL as u32,
        fd: kernel::field::<u64>(registers, &REGS_ARG0) as i32,
        maxevents: kernel::field::<u64>(registers, &REGS_ARG2) as u32,
        timeout: timeout as u32,
    };
    let file = instance::file(task, call.fd);
    (file != 0 && instance::is_epoll(file)).then_some((call, file))
}
