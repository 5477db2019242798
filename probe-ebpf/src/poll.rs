//! poll and ppoll: (fds, nfds, timeout, ...). The kernel copies 8 bytes in and 2 out per entry (fs/select.c).

use aya_ebpf::EbpfContext;
use loopscope_probe::{mechanism, probe, waitable};

use crate::{
    call::{Call, Sets, Timeout},
    counters, kernel, wait,
};

/// More entries than this no process can pass (the kernel's nr_open is at most 2^30, its default 2^20); it keeps the
/// bytes within 32 bits.
const NFDS_MAX: u32 = 1 << 28;

/// Entry of one of them, with its nfds and time-out.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, probe: usize, [nfds, timeout]: [u64; 2]) {
    counters::run(probe);
    let task = kernel::current();
    let Some(record) = wait::record(ctx, task) else {
        return;
    };
    let timeout = match probe {
        probe::PPOLL => Timeout::at(timeout, Timeout::NANOS),
        _ => Timeout::millis(timeout as i32),
    };
    wait::enter(task, record, &call(nfds, timeout), waitable::POLL);
}

/// The arguments, as they are noted.
#[inline(always)]
pub fn call(nfds: u64, timeout: Timeout) -> Call {
    let nfds = nfds as u32;
    let counted = if nfds > NFDS_MAX { NFDS_MAX } else { nfds };
    Call {
        mechanism: mechanism::POLL as u32,
        fd: -1,
        asked: nfds,
        timeout,
        sets: Sets { bytes_in: counted * 8, bytes_out: counted * 2, highest: 0 },
    }
}
