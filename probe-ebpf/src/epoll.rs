//! epoll_wait, epoll_pwait, epoll_pwait2: (epfd, events, maxevents, timeout, ...).

use aya_ebpf::EbpfContext;
use loopscope_probe::{mechanism, waitable};

use crate::{
    counters, instance, kernel,
    wait::{self, Call, Sets, Timeout},
};

/// Entry of one of them.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, program: usize, epfd: u64, maxevents: u64, timeout: Timeout) {
    counters::run(program);
    let task = kernel::current();
    let Some(record) = wait::record(ctx, task) else {
        return;
    };
    let call = call(epfd, maxevents, timeout);
    let waitable = match instance::file(task, call.fd) {
        0 => waitable::NO_INSTANCE,
        file => file,
    };
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
