//! The raw backend: sys_enter and sys_exit of all calls, for hosts where the tracepoints of single calls cannot be had.
//!
//! Every call of the host passes here, so the first thing is to turn most of them away. Calls of 32-bit tasks have
//! other numbers (ia32 waitpid is x86-64 poll) and other structures: they are skipped, and waits among them counted.

use aya_ebpf::{EbpfContext, programs::BtfTracePointContext};
use loopscope_probe::{lost, probe};

use crate::{
    aio, counters, ctl, epoll, instance,
    kernel::{
        self, COMPAT_ARM, REGS_ARG0, REGS_ARG1, REGS_ARG2, REGS_ARG3, REGS_ARG4, REGS_NUMBER, TASK_COMPAT,
        TASK_COMPAT_BIT,
    },
    poll, select,
    storage::RAW_PROBES,
    uring, wait,
};

/// Whether the running task is in a 32-bit system call.
#[inline(always)]
pub fn is_compat() -> bool {
    let flags: u32 = kernel::field(kernel::current(), &TASK_COMPAT);
    flags >> TASK_COMPAT_BIT.load() & 1 == 1
}

/// Whether a 32-bit task's call is a wait (arch/x86/entry/syscalls/syscall_32.tbl, arch/arm/tools/syscall.tbl).
#[inline(always)]
fn is_compat_wait(number: u32) -> bool {
    let shared = matches!(number, 142 | 168 | 413 | 414 | 416 | 426 | 441);
    let own = if COMPAT_ARM.load() == 0 {
        matches!(number, 82 | 247 | 256 | 308 | 309 | 319 | 385)
    } else {
        matches!(number, 245 | 252 | 335 | 336 | 346 | 399)
    };
    shared || own
}

/// Whether the raw programs serve one of [`probe`], or a tracepoint of its own does.
#[inline(always)]
fn serves(probe: usize) -> bool {
    RAW_PROBES.get(0).is_some_and(|probes| probes >> probe & 1 == 1)
}

/// sys_enter(struct pt_regs *regs, long id)
#[inline(always)]
pub fn enter(ctx: &BtfTracePointContext) {
    let (regs, number): (*const u8, u64) = (ctx.arg(0), ctx.arg(1));
    let probe = kernel::probe_of(number as u32);
    if is_compat_wait(number as u32) && is_compat() {
        counters::lost(lost::UNSEEN);
        return;
    }
    if probe == probe::NONE || is_compat() || !serves(probe) {
        return;
    }
    entered(ctx, probe, regs);
}

/// Entry of a call that is observed as `probe`, with its arguments in the saved registers.
#[inline(always)]
pub fn entered<C: EbpfContext>(ctx: &C, probe: usize, regs: *const u8) {
    let a0: u64 = kernel::field(regs, &REGS_ARG0);
    let a1: u64 = kernel::field(regs, &REGS_ARG1);
    let a2: u64 = kernel::field(regs, &REGS_ARG2);
    let a3: u64 = kernel::field(regs, &REGS_ARG3);
    match probe {
        probe::EPOLL_WAIT | probe::EPOLL_PWAIT | probe::EPOLL_PWAIT2 => {
            epoll::enter(ctx, probe, [a0, a2, a3])
        }
        probe::POLL | probe::PPOLL => poll::enter(ctx, probe, [a1, a2]),
        probe::SELECT | probe::PSELECT6 => {
            select::enter(ctx, probe, a0, [a1, a2, a3], kernel::field(regs, &REGS_ARG4));
        }
        probe::IO_URING_ENTER => uring::enter(ctx, a0, a2, a3, kernel::field(regs, &REGS_ARG4)),
        probe::IO_GETEVENTS | probe::IO_PGETEVENTS => {
            aio::enter(ctx, probe, a0, [a1, a2], kernel::field(regs, &REGS_ARG4));
        }
        _ => {}
    }
}

/// sys_exit(struct pt_regs *regs, long ret)
#[inline(always)]
pub fn exit(ctx: &BtfTracePointContext) {
    let (regs, ret): (*const u8, i64) = (ctx.arg(0), ctx.arg(1));
    let probe = kernel::probe_of(kernel::field(regs, &REGS_NUMBER));
    if probe == probe::NONE || is_compat() || !serves(probe) {
        return;
    }
    left(ctx, probe, ret);
}

/// Exit of a call that is observed as `probe`, with return value `ret`.
#[inline(always)]
pub fn left<C: EbpfContext>(ctx: &C, probe: usize, ret: i64) {
    match probe {
        probe::EPOLL_CTL => ctl::exit(ctx, ret),
        probe::RESTART_SYSCALL => wait::restarted(ctx, probe, ret),
        probe::EPOLL_CREATE | probe::EPOLL_CREATE1 | probe::IO_URING_SETUP => {
            instance::created(ctx, probe, ret);
        }
        probe::IO_URING_ENTER => uring::exit(ctx, ret),
        probe::IO_GETEVENTS | probe::IO_PGETEVENTS => aio::exit(ctx, probe, ret),
        _ => wait::exit(ctx, probe, ret),
    }
}
