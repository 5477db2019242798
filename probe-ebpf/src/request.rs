//! Requests of rings that act on epoll instances: IORING_OP_EPOLL_CTL is counted as an epoll_ctl call, and
//! IORING_OP_EPOLL_WAIT as a wait that took no time, since the thread waits in its ring, if at all.
//!
//! Both when the request completes, in the thread that does so, which has the descriptors of the one that asked. What
//! completes into a ring without room, or succeeds without a completion (IOSQE_CQE_SKIP_SUCCESS), is not seen.

use aya_ebpf::EbpfContext;
use loopscope_probe::{Loop, histogram::COUNT_BUCKETS, mechanism, probe, result, timeout};

use crate::{
    counters, ctl,
    kernel::{
        self, REQUEST_EPFD, REQUEST_EVENT, REQUEST_FILE, REQUEST_MAXEVENTS, REQUEST_OP, REQUEST_OPCODE,
        REQUEST_RESULT,
    },
    slot, tally, uring,
    wait::{self, INTERRUPTED},
};

/// IORING_OP_EPOLL_CTL and IORING_OP_EPOLL_WAIT (include/uapi/linux/io_uring.h).
const EPOLL_CTL: u8 = 29;
const EPOLL_WAIT: u8 = 59;

/// A field of four bytes of a request.
#[inline(always)]
fn field(request: u64, offset: &aya_ebpf::Global<u32>) -> u32 {
    kernel::read(request + u64::from(offset.load())) as u32
}

/// A request completes; 0 where the completion is of none.
#[inline(always)]
pub fn completed<C: EbpfContext>(ctx: &C, request: u64) {
    counters::run(probe::IO_URING_COMPLETE);
    let opcode = if request == 0 { 0 } else { field(request, &REQUEST_OPCODE) as u8 };
    match opcode {
        EPOLL_CTL => {
            let (epfd, op) = (field(request, &REQUEST_EPFD), field(request, &REQUEST_OP));
            let ret = i64::from(field(request, &REQUEST_RESULT) as i32);
            ctl::count(ctx, ret, epfd as i32, op, || field(request, &REQUEST_EVENT));
        }
        EPOLL_WAIT => waited(ctx, request),
        _ => {}
    }
}

/// A wait on an instance completes.
#[inline(always)]
fn waited<C: EbpfContext>(ctx: &C, request: u64) {
    let file = kernel::read(request + u64::from(REQUEST_FILE.load()));
    let task = kernel::current();
    let Some(record) = wait::record(ctx, task).filter(|_| file != 0) else {
        return;
    };
    let ret = i64::from(field(request, &REQUEST_RESULT) as i32);
    let most = if REQUEST_MAXEVENTS.load() == 0 { 0 } else { field(request, &REQUEST_MAXEVENTS) };
    let slot = uring::slot_of(ctx, task, record, file, mechanism::EPOLL as u32);
    let window = record.window as u32;
    slot::change(task, record, slot, |looped| count(looped, ret, most, window));
}

/// Adds it to its loop's counts; the caller has opened the sequence word.
#[inline(always)]
fn count(looped: &mut Loop, ret: i64, most: u32, window: u32) {
    if looped.last_exit_ns == 0 {
        // No call of the thread's own has said by which descriptor.
        looped.fd = -1;
    }
    looped.asked = most;
    tally::roll(looped, window);
    let outcome = match ret {
        0.. => result::READY,
        INTERRUPTED => result::INTERRUPTED,
        _ => result::ERROR,
    };
    if let Some(count) = looped.results.get_mut(outcome) {
        *count = count.wrapping_add(1);
    }
    looped.timeouts[timeout::INFINITE] = looped.timeouts[timeout::INFINITE].wrapping_add(1);
    if ret < 0 {
        return;
    }
    looped.events = looped.events.wrapping_add(ret as u64);
    tally::raise(&mut looped.events_max, ret as u64);
    tally::count!(looped.events_per_wait[COUNT_BUCKETS], tally::count_bucket(ret as u32));
    if ret as u32 == most {
        looped.saturated = looped.saturated.wrapping_add(1);
    }
}
