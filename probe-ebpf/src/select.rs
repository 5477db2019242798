//! select and pselect6: (n, inp, outp, exp, timeout, ...). The kernel copies each set that is given both ways, in whole
//! longs, over min(n, size of the descriptor table) (fs/select.c: core_sys_select).
//!
//! The highest descriptor is looked for in one of 64 waits, since programs that pass FD_SETSIZE as n say nothing by it.

use aya_ebpf::EbpfContext;
use loopscope_probe::{Task, mechanism, waitable};

use crate::{
    counters, instance, kernel,
    kernel::TaskPtr,
    wait::{self, Call, Sets, Timeout},
};

/// Longs of a full fd_set: FD_SETSIZE is 1024.
const LONGS: usize = 16;
/// A thread writes its record's sequence word four times a wait; its sets are looked at when these bits are 0.
const SAMPLE_MASK: u64 = 64 * 4 - 1;

/// Entry of one of them; `sets` are the addresses of the three sets.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, program: usize, n: u64, sets: [u64; 3], timeout: Timeout) {
    counters::run(program);
    let task = kernel::current();
    let Some(record) = wait::record(ctx, task) else {
        return;
    };
    let call = call(task, record, n, sets, timeout);
    wait::enter(task, record, &call, waitable::SELECT);
}

/// The arguments, as they are noted.
#[inline(always)]
fn call(task: TaskPtr, record: &Task, n: u64, sets: [u64; 3], timeout: Timeout) -> Call {
    let n = if (n as i32) < 0 { 0 } else { n as u32 };
    let size = instance::table_size(task);
    let scanned = if n < size { n } else { size };
    let given = u32::from(sets[0] != 0) + u32::from(sets[1] != 0) + u32::from(sets[2] != 0);
    let bytes = (scanned + 63) / 64 * 8 * given;
    let highest = if record.sequence & SAMPLE_MASK == 0 { highest(sets, scanned) } else { 0 };
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
#[inline(always)]
fn highest(sets: [u64; 3], scanned: u32) -> u32 {
    let mut highest = 0;
    for i in 0..LONGS as u32 {
        if i * 64 >= scanned {
            break;
        }
        let mut long = 0;
        for set in sets {
            if set != 0 {
                long |= kernel::read_user::<u64>(set + u64::from(i) * 8).unwrap_or(0);
            }
        }
        if scanned - i * 64 < 64 {
            long &= (1 << (scanned - i * 64)) - 1;
        }
        if long != 0 {
            highest = i * 64 + loopscope_probe::histogram::log2(long) as u32 + 1;
        }
    }
    highest
}
