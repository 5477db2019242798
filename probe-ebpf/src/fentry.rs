//! The fentry backend: programs on the functions that system calls enter by (`__x64_sys_poll`, `__arm64_sys_ppoll`, ...).
//!
//! No other call of the host passes here. The functions get the saved registers, as sys_enter does, so that what the
//! programs do is [`crate::raw`]'s, and every call that it counts is counted here, those too that the kernel refuses at
//! once. A program is bound to one function when it is loaded, hence one for each. The exit's runs only where the entry's
//! did: [`crate::wait::ended`] sees the ends of waits that began before.

use core::ffi::c_void;

use aya_ebpf::programs::{FEntryContext, FExitContext};
use loopscope_probe::probe;

use crate::{
    kernel::COMPAT_ARM,
    raw::{self, is_compat},
};

/// Whether this is the call of a 32-bit task, which the other backends do not see either: on arm64 they come through the
/// same functions, on x86-64 through others.
#[inline(always)]
fn is_foreign() -> bool {
    COMPAT_ARM.load() != 0 && is_compat()
}

/// Programs on `long FUNCTION(const struct pt_regs *regs)`: their section, context, what they do, with which argument of
/// theirs; and each with the probe that it is.
macro_rules! programs {
    ($section:literal, $context:ident, $does:ident, $argument:literal: $($name:ident: $probe:ident;)+) => { $(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        fn $name(raw: *mut c_void) -> i32 {
            let ctx = &$context::new(raw);
            if !is_foreign() {
                raw::$does(ctx, probe::$probe, ctx.arg($argument));
            }
            0
        }
    )+ };
}

programs! {
    "fentry", FEntryContext, entered, 0:
    fentry_epoll_wait: EPOLL_WAIT;
    fentry_epoll_pwait: EPOLL_PWAIT;
    fentry_epoll_pwait2: EPOLL_PWAIT2;
    fentry_poll: POLL;
    fentry_ppoll: PPOLL;
    fentry_select: SELECT;
    fentry_pselect6: PSELECT6;
    fentry_io_uring_enter: IO_URING_ENTER;
    fentry_io_getevents: IO_GETEVENTS;
    fentry_io_pgetevents: IO_PGETEVENTS;
}

// The return value comes after the argument.
programs! {
    "fexit", FExitContext, left, 1:
    fexit_epoll_wait: EPOLL_WAIT;
    fexit_epoll_pwait: EPOLL_PWAIT;
    fexit_epoll_pwait2: EPOLL_PWAIT2;
    fexit_poll: POLL;
    fexit_ppoll: PPOLL;
    fexit_select: SELECT;
    fexit_pselect6: PSELECT6;
    fexit_io_uring_enter: IO_URING_ENTER;
    fexit_io_getevents: IO_GETEVENTS;
    fexit_io_pgetevents: IO_PGETEVENTS;
    fexit_epoll_create: EPOLL_CREATE;
    fexit_epoll_create1: EPOLL_CREATE1;
    fexit_epoll_ctl: EPOLL_CTL;
    fexit_restart_syscall: RESTART_SYSCALL;
    fexit_io_uring_setup: IO_URING_SETUP;
}
