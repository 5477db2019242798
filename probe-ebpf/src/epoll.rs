//! epoll_wait, epoll_pwait, epoll_pwait2: (epfd, events, maxevents, timeout, ...).

use aya_ebpf::EbpfContext;
use loopscope_probe::{mechanism, probe, waitable};

use crate::{
    call::{Call, Sets, Timeout},
    counters, instance, kernel, wait,
};

/// Entry of one of them, with its descriptor, maxevents and time-out.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, probe: usize, [epfd, maxevents, timeout]: [u64; 3]) {
    counters::run(probe);
    let task = kernel::current();
    let Some(record) = wait::record(ctx, task) else {
        return;
    };
    // Before the time-out, whose kinds are paths on which the verifier would look up the same types again.
    let waitable = match instance::file(task, epfd as i32) {
        0 => waitable::NO_INSTANCE,
        file => file,
    };
    let timeout = match probe {
        probe::EPOLL_PWAIT2 => Timeout::at(timeout, Timeout::NANOS),
        _ => Timeout::millis(timeout as i32),
    };
    let call = call(epfd, maxevents, timeout);
    wait::enter(task, record, &call, waitable);
}

/// The arguments, as they are noted.
#[inline(always)]
pub fn call(epfd: u64, maxevents: u64, timeout: Timeout) -> Call {
    Call {
        mechanism: mechanism::EPOLL as u32,
        fd: epfd as i32,
        asked: maxevents as u32,
        timeout,
        sets: Sets::default(),
    }
}
