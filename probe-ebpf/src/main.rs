//! The eBPF programs: thin entry points; what they do is in one file per signal beside this one.
//!
//! Each program is O(1) or bounded, takes no lock, allocates only when a thread waits for the first time, and
//! writes only the records of the thread that it runs in. Nothing here may panic: a reachable panic is a
//! program that the verifier refuses.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod counters;
mod ctl;
mod epoll;
mod filter;
mod flush;
mod instance;
mod kernel;
mod poll;
mod raw;
mod sample;
mod seed;
mod select;
mod storage;
mod wait;

use core::ffi::c_void;

use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use loopscope_probe::program;
use wait::Timeout;

/// Argument `n` of a `syscalls:sys_enter_*` tracepoint, and field 1 of a `sys_exit_*` one: both records start
/// with 8 bytes of common fields and 8 of the call's number.
#[inline(always)]
fn argument(ctx: *mut c_void, n: usize) -> u64 {
    // SAFETY: the verifier checks the offset against the size of the tracepoint's record.
    unsafe { *ctx.cast::<u64>().add(2 + n) }
}

/// A program of type tracepoint: its name, and what it does with its context.
macro_rules! tracepoints {
    ($($name:ident: |$ctx:ident, $raw:ident| $body:expr;)+) => { $(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "tracepoint")]
        fn $name($raw: *mut c_void) -> u32 {
            let $ctx = &TracePointContext::new($raw);
            $body;
            0
        }
    )+ };
}

tracepoints! {
    enter_epoll_wait: |ctx, raw| epolls(ctx, program::ENTER_EPOLL_WAIT, raw, Timeout::millis(argument(raw, 3) as i32));
    enter_epoll_pwait: |ctx, raw| epolls(ctx, program::ENTER_EPOLL_PWAIT, raw, Timeout::millis(argument(raw, 3) as i32));
    enter_epoll_pwait2: |ctx, raw| epolls(ctx, program::ENTER_EPOLL_PWAIT2, raw, Timeout::at(argument(raw, 3), Timeout::NANOS));
    exit_epoll_wait: |ctx, raw| wait::exit(ctx, program::EXIT_EPOLL_WAIT, argument(raw, 0) as i64);
    exit_epoll_pwait: |ctx, raw| wait::exit(ctx, program::EXIT_EPOLL_PWAIT, argument(raw, 0) as i64);
    exit_epoll_pwait2: |ctx, raw| wait::exit(ctx, program::EXIT_EPOLL_PWAIT2, argument(raw, 0) as i64);
    enter_poll: |ctx, raw| poll::enter(ctx, program::ENTER_POLL, argument(raw, 1), Timeout::millis(argument(raw, 2) as i32));
    enter_ppoll: |ctx, raw| poll::enter(ctx, program::ENTER_PPOLL, argument(raw, 1), Timeout::at(argument(raw, 2), Timeout::NANOS));
    exit_poll: |ctx, raw| wait::exit(ctx, program::EXIT_POLL, argument(raw, 0) as i64);
    exit_ppoll: |ctx, raw| wait::exit(ctx, program::EXIT_PPOLL, argument(raw, 0) as i64);
    exit_restart: |ctx, raw| wait::restarted(ctx, program::EXIT_RESTART, argument(raw, 0) as i64);
    enter_select: |ctx, raw| selects(ctx, program::ENTER_SELECT, raw, Timeout::MICROS);
    enter_pselect6: |ctx, raw| selects(ctx, program::ENTER_PSELECT6, raw, Timeout::NANOS);
    exit_select: |ctx, raw| wait::exit(ctx, program::EXIT_SELECT, argument(raw, 0) as i64);
    exit_pselect6: |ctx, raw| wait::exit(ctx, program::EXIT_PSELECT6, argument(raw, 0) as i64);
    exit_epoll_ctl: |ctx, raw| ctl::exit(ctx, argument(raw, 0) as i64);
    exit_epoll_create: |ctx, raw| instance::created(ctx, program::EXIT_EPOLL_CREATE, argument(raw, 0) as i64);
    exit_epoll_create1: |ctx, raw| instance::created(ctx, program::EXIT_EPOLL_CREATE1, argument(raw, 0) as i64);
}

/// (epfd, events, maxevents, timeout, ...).
#[inline(always)]
fn epolls(ctx: &TracePointContext, program: usize, raw: *mut c_void, timeout: Timeout) {
    epoll::enter(ctx, program, argument(raw, 0), argument(raw, 2), timeout);
}

/// (n, inp, outp, exp, timeout, ...).
#[inline(always)]
fn selects(ctx: &TracePointContext, program: usize, raw: *mut c_void, unit: u64) {
    let sets = [argument(raw, 1), argument(raw, 2), argument(raw, 3)];
    select::enter(ctx, program, argument(raw, 0), sets, Timeout::at(argument(raw, 4), unit));
}

/// tp_btf/signal_deliver(int sig, struct kernel_siginfo *info, struct k_sigaction *ka): a handler ends a wait that
/// came back to go on. The default actions do not: a stop goes on, an end shows as the end of the thread.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/signal_deliver")]
fn signal(raw: *mut c_void) -> i32 {
    let ctx = &BtfTracePointContext::new(raw);
    counters::run(program::SIGNAL);
    let handler: u64 = kernel::field(ctx.arg(2), &kernel::SIGACTION_HANDLER);
    if handler > SIG_IGN {
        wait::interrupt(ctx, kernel::current());
    }
    0
}

/// The greatest sa_handler that is no handler.
const SIG_IGN: u64 = 1;

/// tp_btf/sys_enter(struct pt_regs *regs, long id)
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sys_enter")]
fn sys_enter(raw: *mut c_void) -> i32 {
    raw::enter(&BtfTracePointContext::new(raw));
    0
}

/// tp_btf/sys_exit(struct pt_regs *regs, long ret)
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sys_exit")]
fn sys_exit(raw: *mut c_void) -> i32 {
    raw::exit(&BtfTracePointContext::new(raw));
    0
}

/// tp_btf/sched_process_exit(struct task_struct *p, ...): the thread's last figures go out.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sched_process_exit")]
fn task_exit(raw: *mut c_void) -> i32 {
    let ctx = &BtfTracePointContext::new(raw);
    flush::exit(ctx, ctx.arg(0));
    0
}

/// tp_btf/sched_process_exec(struct task_struct *p, ...): the old program's figures go out under its name.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sched_process_exec")]
fn task_exec(raw: *mut c_void) -> i32 {
    flush::exec(BtfTracePointContext::new(raw).arg(0));
    0
}

/// iter/task: what user space reads.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn sample(ctx: *const kernel::TaskIter) -> i32 {
    sample::show(ctx);
    0
}

/// iter/task, run once before the probes are attached: the waits that are in progress.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn seed(ctx: *const kernel::TaskIter) -> i32 {
    seed::show(ctx);
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
