//! io_getevents and io_pgetevents: (ctx_id, min_nr, nr, events, timeout, ...), Linux's older asynchronous I/O.
//!
//! What is waited on is an AIO context, whose number is an address in its process: it means nothing in another one.

use aya_ebpf::EbpfContext;
use loopscope_probe::{mechanism, timeout, waitable};

use crate::{
    call::{Call, Sets, Timeout},
    counters, kernel, uring, wait,
};

/// EINVAL, as a system call returns it: no such context, or counts that cannot be.
const INVALID: i64 = -22;

/// Entry of one of them; `counts` are min_nr and nr.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, probe: usize, id: u64, counts: [u64; 2], timeout: u64) {
    counters::run(probe);
    let task = kernel::current();
    let Some(record) = wait::record(ctx, task) else {
        return;
    };
    let call = call(counts, Timeout::at(timeout, Timeout::NANOS));
    wait::enter(task, record, &call, context(id));
}

/// The waitable of a context.
#[inline(always)]
pub fn context(id: u64) -> u64 {
    if id > waitable::LAST { id } else { waitable::NO_INSTANCE }
}

/// The arguments, as they are noted. A call that asks for no completion at least does not wait, whatever its time-out.
#[inline(always)]
pub fn call([least, most]: [u64; 2], timeout: Timeout) -> Call {
    Call {
        mechanism: mechanism::AIO as u32,
        fd: -1,
        asked: most as u32,
        timeout: if least == 0 { Timeout::unmeasured(timeout::ZERO) } else { timeout },
        sets: Sets { highest: least as u32, ..Sets::default() },
    }
}

/// Exit of one of them with return value `ret`.
#[inline(always)]
pub fn exit<C: EbpfContext>(ctx: &C, probe: usize, ret: i64) {
    counters::run(probe);
    let task = kernel::current();
    let Some(record) = wait::begun(ctx, task, ret) else {
        return;
    };
    if wait::RESTARTS.contains(&ret) {
        wait::pause(record);
        return;
    }
    if ret == INVALID {
        wait::on_nothing(&mut record.wait);
    }
    wait::finish::<C, false>(ctx, task, record, ret, wait::now());
    uring::note(task, record, [0, 0], record.wait.highest);
}
