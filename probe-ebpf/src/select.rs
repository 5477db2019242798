//! select and pselect6: (n, inp, outp, exp, timeout, ...). The kernel copies each set that is given both ways, in whole
//! longs, over min(n, size of the descriptor table) (fs/select.c: core_sys_select).
//!
//! The highest descriptor is looked for in one of 64 waits, since programs that pass FD_SETSIZE as n say nothing by it.

use aya_ebpf::EbpfContext;
use loopscope_probe::{Task, histogram, mechanism, probe, waitable};

use crate::{
    call::{Call, Sets, Timeout},
    counters, instance, kernel, wait,
};

/// Longs of a full fd_set: FD_SETSIZE is 1024.
const LONGS: usize = 16;
/// The sets are looked at when these bits of the count of calls are 0.
const SAMPLE_MASK: u64 = 64 - 1;

/// Entry of one of them; `sets` are the addresses of the three sets, `timeout` is that of the time-out.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, probe: usize, n: u64, sets: [u64; 3], timeout: u64) {
    counters::run(probe);
    let task = kernel::current();
    let Some(record) = wait::record(ctx, task) else {
        return;
    };
    // First, as in `epoll`.
    let size = instance::table(task).size;
    let unit = if probe == probe::SELECT { Timeout::MICROS } else { Timeout::NANOS };
    let call = call(size, record, n, sets, Timeout::at(timeout, unit));
    wait::enter(task, record, &call, waitable::SELECT);
}

/// The arguments, as they are noted; `size` is that of the descriptor table.
#[inline(always)]
fn call(size: u32, record: &mut Task, n: u64, sets: [u64; 3], timeout: Timeout) -> Call {
    let n = if (n as i32) < 0 { 0 } else { n as u32 };
    let scanned = if n < size { n } else { size };
    let given = u32::from(sets[0] != 0) + u32::from(sets[1] != 0) + u32::from(sets[2] != 0);
    let bytes = (scanned + 63) / 64 * 8 * given;
    let highest =
        if record.selects & SAMPLE_MASK == 0 { highest(sets[0], sets[1], sets[2], scanned) } else { 0 };
    record.selects = record.selects.wrapping_add(1);
    Call {
        mechanism: mechanism::SELECT as u32,
        fd: -1,
        asked: n,
        timeout,
        sets: Sets { bytes_in: bytes, bytes_out: bytes, highest },
    }
}

/// A call that was in progress already: its sets are in the memory of another process.
#[inline(always)]
pub fn inherited(n: u64, timeout: Timeout) -> Call {
    Call { mechanism: mechanism::SELECT as u32, fd: -1, asked: n as u32, timeout, sets: Sets::default() }
}

/// The highest bit below `scanned` (and below FD_SETSIZE) that is set in any of the sets, plus 1; 0 for none.
///
/// By arithmetic throughout: with a branch for each long and set this took 94,000 instructions to verify.
#[inline(never)]
fn highest(read: u64, write: u64, except: u64, scanned: u32) -> u32 {
    let (mut index, mut bits) = (0, 0);
    for i in 0..LONGS as u64 {
        let inside = histogram::above(u64::from(scanned), i * 64);
        let mut union = 0;
        for set in [read, write, except] {
            // Eight bytes where there is something to read, else none.
            let bytes = (inside & histogram::nonzero(set)) * 8;
            union |= kernel::read_user_u64(set + i * 8, bytes as u32);
        }
        // All ones where a bit is set.
        let some = histogram::nonzero(union).wrapping_neg();
        index = (index & !some) | (i & some);
        bits = (bits & !some) | (union & some);
    }
    if bits == 0 {
        return 0;
    }
    let highest = (index * 64 + histogram::log2(bits)) as u32 + 1;
    // Beyond n, bits of the last long say nothing.
    if highest > scanned { scanned } else { highest }
}
