//! The raw backend: sys_enter and sys_exit of all calls, for hosts where the tracepoints of single calls cannot be had.
//!
//! Every call of the host passes here, so the first thing is to turn most of them away. Calls of 32-bit tasks have
//! other numbers (ia32 waitpid is x86-64 poll) and other structures: they are skipped, and waits among them counted.

use aya_ebpf::programs::BtfTracePointContext;
use loopscope_probe::{lost, program};

use crate::{
    counters, ctl, epoll,
    instance,
    kernel::{
        self, COMPAT_ARM, NR_EPOLL_CREATE, NR_EPOLL_CREATE1, NR_EPOLL_CTL, NR_EPOLL_PWAIT, NR_EPOLL_PWAIT2,
        NR_EPOLL_WAIT, NR_POLL, NR_PPOLL, NR_PSELECT6, NR_RESTART, NR_SELECT, REGS_ARG0, REGS_ARG1, REGS_ARG2,
        REGS_ARG3, REGS_ARG4, REGS_NUMBER, TASK_COMPAT, TASK_COMPAT_BIT,
    },
    poll, select,
    storage::RAW_PROGRAMS,
    wait::{self, Timeout},
};

/// Whether the running task is in a 32-bit system call.
#[inline(always)]
fn is_compat() -> bool {
    let flags: u32 = kernel::field(kernel::current(), &TASK_COMPAT);
    flags >> TASK_COMPAT_BIT.load() & 1 == 1
}

/// Whether a 32-bit task's call is a wait (arch/x86/entry/syscalls/syscall_32.tbl, arch/arm/tools/syscall.tbl).
#[inline(always)]
fn is_compat_wait(number: u32) -> bool {
    let shared = matches!(number, 142 | 168 | 413 | 414 | 441);
    let own = if COMPAT_ARM.load() == 0 {
        matches!(number, 82 | 256 | 308 | 309 | 319)
    } else {
        matches!(number, 252 | 335 | 336 | 346)
    };
    shared || own
}

/// Whether the raw programs stand in for one of [`program`], or a tracepoint of its own serves it.
#[inline(always)]
fn serves(program: usize) -> bool {
    RAW_PROGRAMS.get(0).is_some_and(|programs| programs >> program & 1 == 1)
}

/// sys_enter(struct pt_regs *regs, long id)
#[inline(always)]
pub fn enter(ctx: &BtfTracePointContext) {
    let (regs, number): (*const u8, u64) = (ctx.arg(0), ctx.arg(1));
    let number = number as u32;
    let program = if number == NR_EPOLL_WAIT.load() {
        program::ENTER_EPOLL_WAIT
    } else if number == NR_EPOLL_PWAIT.load() {
        program::ENTER_EPOLL_PWAIT
    } else if number == NR_EPOLL_PWAIT2.load() {
        program::ENTER_EPOLL_PWAIT2
    } else if number == NR_POLL.load() {
        program::ENTER_POLL
    } else if number == NR_PPOLL.load() {
        program::ENTER_PPOLL
    } else if number == NR_SELECT.load() {
        program::ENTER_SELECT
    } else if number == NR_PSELECT6.load() {
        program::ENTER_PSELECT6
    } else {
        if is_compat_wait(number) && is_compat() {
            counters::lost(lost::UNSEEN);
        }
        return;
    };
    if is_compat() {
        if is_compat_wait(number) {
            counters::lost(lost::UNSEEN);
        }
        return;
    }
    if !serves(program) {
        return;
    }
    let arguments = [
        kernel::field::<u64>(regs, &REGS_ARG0),
        kernel::field(regs, &REGS_ARG1),
        kernel::field(regs, &REGS_ARG2),
        kernel::field(regs, &REGS_ARG3),
        kernel::field(regs, &REGS_ARG4),
    ];
    begin(ctx, program, arguments);
}

/// Entry of the call that `program` stands for.
#[inline(always)]
fn begin(ctx: &BtfTracePointContext, program: usize, [a0, a1, a2, a3, a4]: [u64; 5]) {
    match program {
        program::ENTER_EPOLL_PWAIT2 => epoll::enter(ctx, program, a0, a2, Timeout::at(a3, Timeout::NANOS)),
        program::ENTER_POLL => poll::enter(ctx, program, a1, Timeout::millis(a2 as i32)),
        program::ENTER_PPOLL => poll::enter(ctx, program, a1, Timeout::at(a2, Timeout::NANOS)),
        program::ENTER_SELECT => select::enter(ctx, program, a0, [a1, a2, a3], Timeout::at(a4, Timeout::MICROS)),
        program::ENTER_PSELECT6 => select::enter(ctx, program, a0, [a1, a2, a3], Timeout::at(a4, Timeout::NANOS)),
        _ => epoll::enter(ctx, program, a0, a2, Timeout::millis(a3 as i32)),
    }
}

/// sys_exit(struct pt_regs *regs, long ret)
#[inline(always)]
pub fn exit(ctx: &BtfTracePointContext) {
    let (regs, ret): (*const u8, i64) = (ctx.arg(0), ctx.arg(1));
    let number = kernel::field::<u64>(regs, &REGS_NUMBER) as u32;
    let program = if number == NR_EPOLL_WAIT.load() {
        program::EXIT_EPOLL_WAIT
    } else if number == NR_EPOLL_PWAIT.load() {
        program::EXIT_EPOLL_PWAIT
    } else if number == NR_EPOLL_PWAIT2.load() {
        program::EXIT_EPOLL_PWAIT2
    } else if number == NR_POLL.load() {
        program::EXIT_POLL
    } else if number == NR_PPOLL.load() {
        program::EXIT_PPOLL
    } else if number == NR_SELECT.load() {
        program::EXIT_SELECT
    } else if number == NR_PSELECT6.load() {
        program::EXIT_PSELECT6
    } else if number == NR_EPOLL_CTL.load() {
        program::EXIT_EPOLL_CTL
    } else if number == NR_RESTART.load() {
        program::EXIT_RESTART
    } else if number == NR_EPOLL_CREATE.load() {
        program::EXIT_EPOLL_CREATE
    } else if number == NR_EPOLL_CREATE1.load() {
        program::EXIT_EPOLL_CREATE1
    } else {
        return;
    };
    if is_compat() || !serves(program) {
        return;
    }
    match program {
        program::EXIT_EPOLL_CTL => ctl::exit(ctx, ret),
        program::EXIT_RESTART => wait::restarted(ctx, program, ret),
        program::EXIT_EPOLL_CREATE | program::EXIT_EPOLL_CREATE1 => instance::created(ctx, program, ret),
        _ => wait::exit(ctx, program, ret),
    }
}
