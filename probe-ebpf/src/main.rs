//! The eBPF programs: thin entry points; what they do is in one file per signal beside this one.
//!
//! Each program is O(1) or bounded, takes no lock, allocates only when a thread waits for the first time, and
//! writes only the records of the thread that it runs in. Nothing here may panic: a reachable panic is a
//! program that the verifier refuses. Calls that differ only in how they give a time-out share a program, since
//! every program that is loaded has to be verified (some 50 ns an instruction and path, at best).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod aio;
mod backlog;
mod call;
mod counters;
mod ctl;
mod epoll;
mod fentry;
mod filter;
mod flush;
mod hot;
mod instance;
mod interest;
mod kernel;
mod poll;
mod raw;
mod request;
mod sample;
mod seed;
mod select;
mod slot;
mod storage;
mod tally;
mod uring;
mod wait;

use core::ffi::c_void;

use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};

/// The record of a `syscalls:sys_enter_*` or `sys_exit_*` tracepoint (kernel/trace/trace_syscalls.c).
#[repr(C)]
struct Syscall {
    common: u64,
    number: u32,
    _padding: u32,
    /// The arguments at entry; the return value, alone, at exit.
    arguments: [u64; 6],
}

/// The probe that a tracepoint's record is of.
#[inline(always)]
fn probe(record: *const Syscall) -> usize {
    // SAFETY: the verifier checks the offset against the size of the tracepoint's record.
    kernel::probe_of(unsafe { (*record).number })
}

/// Argument `N` of an entry.
#[inline(always)]
fn argument<const N: usize>(record: *const Syscall) -> u64 {
    // SAFETY: as above.
    unsafe { (&raw const (*record).arguments).cast::<u64>().add(N).read() }
}

/// The return value of an exit.
#[inline(always)]
fn returned(record: *const Syscall) -> i64 {
    argument::<0>(record) as i64
}

/// A program of type tracepoint: its name, and what it does with its context and its record.
macro_rules! tracepoints {
    ($($(#[$doc:meta])* $name:ident: |$ctx:ident, $record:ident| $body:expr;)+) => { $(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "tracepoint")]
        fn $name(raw: *mut c_void) -> u32 {
            let ($ctx, $record) = (&TracePointContext::new(raw), raw.cast_const().cast::<Syscall>());
            $body;
            0
        }
    )+ };
}

tracepoints! {
    /// (epfd, events, maxevents, timeout, ...)
    enter_epoll: |ctx, record| {
        epoll::enter(ctx, probe(record), [argument::<0>(record), argument::<2>(record), argument::<3>(record)])
    };
    /// (fds, nfds, timeout, ...)
    enter_poll: |ctx, record| poll::enter(ctx, probe(record), [argument::<1>(record), argument::<2>(record)]);
    /// (n, inp, outp, exp, timeout, ...)
    enter_select: |ctx, record| {
        let sets = [argument::<1>(record), argument::<2>(record), argument::<3>(record)];
        select::enter(ctx, probe(record), argument::<0>(record), sets, argument::<4>(record))
    };
    exit_wait: |ctx, record| wait::exit(ctx, probe(record), returned(record));
    exit_restart: |ctx, record| wait::restarted(ctx, probe(record), returned(record));
    exit_epoll_ctl: |ctx, record| ctl::exit(ctx, returned(record));
    exit_epoll_create: |ctx, record| instance::created(ctx, probe(record), returned(record));
    /// (fd, to_submit, min_complete, flags, argp, ...)
    enter_io_uring: |ctx, record| {
        uring::enter(ctx, argument::<0>(record), argument::<2>(record), argument::<3>(record), argument::<4>(record))
    };
    exit_io_uring: |ctx, record| uring::exit(ctx, returned(record));
    /// (ctx_id, min_nr, nr, events, timeout, ...)
    enter_aio: |ctx, record| {
        let counts = [argument::<1>(record), argument::<2>(record)];
        aio::enter(ctx, probe(record), argument::<0>(record), counts, argument::<4>(record))
    };
    exit_aio: |ctx, record| aio::exit(ctx, probe(record), returned(record));
    /// Beside the programs of `fentry`, and only for a while: the ends of waits that began before these.
    exit_inherited: |ctx, record| wait::ended(ctx, returned(record));
}

/// tp_btf/signal_deliver(int sig, struct kernel_siginfo *info, struct k_sigaction *ka)
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/signal_deliver")]
fn signal_deliver(raw: *mut c_void) -> i32 {
    let ctx = &BtfTracePointContext::new(raw);
    wait::signalled(ctx, ctx.arg(2));
    0
}

/// tp_btf/io_uring_complete(struct io_ring_ctx *ctx, void *req, ...): a request completes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/io_uring_complete")]
fn io_uring_complete(raw: *mut c_void) -> i32 {
    let ctx = &BtfTracePointContext::new(raw);
    request::completed(ctx, ctx.arg(1));
    0
}

/// tp_btf/io_uring_cqe_overflow(void *ctx, ...): a ring has no room for a completion.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/io_uring_cqe_overflow")]
fn io_uring_cqe_overflow(raw: *mut c_void) -> i32 {
    let ctx = &BtfTracePointContext::new(raw);
    uring::overflowed(ctx, ctx.arg(0));
    0
}

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

/// iter/task: the interest sets.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn interest(ctx: *const kernel::TaskIter) -> i32 {
    interest::show(ctx)
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
