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
mod filter;
mod flush;
mod instance;
mod kernel;
mod sample;
mod seed;
mod storage;
mod wait;

use core::ffi::c_void;

use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use loopscope_probe::{mechanism, program, timeout};

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
    enter_epoll_wait: |ctx, raw| wait::enter(ctx, program::ENTER_EPOLL_WAIT, epoll(raw, timeout_ms(raw)));
    enter_epoll_pwait: |ctx, raw| wait::enter(ctx, program::ENTER_EPOLL_PWAIT, epoll(raw, timeout_ms(raw)));
    enter_epoll_pwait2: |ctx, raw| wait::enter(ctx, program::ENTER_EPOLL_PWAIT2, epoll(raw, timeout_timespec(raw)));
    exit_epoll_wait: |ctx, raw| wait::exit(ctx, program::EXIT_EPOLL_WAIT, argument(raw, 0) as i64);
    exit_epoll_pwait: |ctx, raw| wait::exit(ctx, program::EXIT_EPOLL_PWAIT, argument(raw, 0) as i64);
    exit_epoll_pwait2: |ctx, raw| wait::exit(ctx, program::EXIT_EPOLL_PWAIT2, argument(raw, 0) as i64);
    exit_epoll_ctl: |ctx, raw| ctl::exit(ctx, argument(raw, 0) as i64);
    exit_epoll_create: |ctx, raw| instance::created(ctx, program::EXIT_EPOLL_CREATE, argument(raw, 0) as i64);
    exit_epoll_create1: |ctx, raw| instance::created(ctx, program::EXIT_EPOLL_CREATE1, argument(raw, 0) as i64);
}

/// The arguments that the epoll waits share: (epfd, events, maxevents, timeout, ...).
#[inline(always)]
fn epoll(raw: *mut c_void, timeout: usize) -> wait::Call {
    wait::Call {
        mechanism: mechanism::EPOLL as u32,
        fd: argument(raw, 0) as i32,
        maxevents: argument(raw, 2) as u32,
        timeout: timeout as u32,
    }
}

/// epoll_wait(2): milliseconds, negative for ever.
#[inline(always)]
fn timeout_ms(raw: *mut c_void) -> usize {
    match argument(raw, 3) as i32 {
        ..0 => timeout::INFINITE,
        0 => timeout::ZERO,
        1.. => timeout::FINITE,
    }
}

/// epoll_pwait2(2): a `struct __kernel_timespec`, null for ever.
#[inline(always)]
fn timeout_timespec(raw: *mut c_void) -> usize {
    let address = argument(raw, 3);
    if address == 0 {
        return timeout::INFINITE;
    }
    match kernel::read_user::<[u64; 2]>(address) {
        None => timeout::UNKNOWN,
        Some([0, 0]) => timeout::ZERO,
        Some(_) => timeout::FINITE,
    }
}

/// tp_btf/sched_process_exit(struct task_struct *p, ...): the thread's last figures go out.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sched_process_exit")]
fn task_exit(raw: *mut c_void) -> i32 {
    flush::exit(BtfTracePointContext::new(raw).arg(0));
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
