//! What a busy time and a wait add to their loop's slot: counts, sums, largest values, histograms. Constant work; the
//! caller has opened the record's sequence word.

use core::ptr;

use loopscope_probe::{
    LOOP_GAP_NS, LOOP_WAITS, Line, Loop, Max, Wait,
    histogram::{self, COUNT_BUCKETS, SMALL, SMALL_COUNTS, TIME_BUCKETS, above, time_bucket},
    lost, result, timeout, waitable,
};

use crate::{counters, kernel, wait::INTERRUPTED};

/// `to - from`; a negative difference becomes 0 and is counted.
#[inline(always)]
pub fn elapsed(from: u64, to: u64) -> u64 {
    if to < from {
        counters::lost(lost::CLAMPED);
        return 0;
    }
    to - from
}

/// Starts a new window of largest values when the reader has begun one.
#[inline(always)]
pub fn roll(looped: &mut Loop, window: u32) {
    if looped.window == window {
        return;
    }
    looped.previous_window = looped.window;
    looped.window = window;
    looped.previous_touched = looped.touched;
    looped.touched = 0;
    let Loop {
        wait_max_ns,
        busy_max_ns,
        events_max,
        overrun_max_ns,
        nfds_max,
        backlog_max,
        requeued_max,
        ..
    } = looped;
    for max in [wait_max_ns, busy_max_ns, events_max, overrun_max_ns, nfds_max, backlog_max, requeued_max] {
        max.previous = max.current;
        max.current = 0;
    }
}

/// Takes a value into a [`Max`]; by arithmetic, since each branch doubles the paths to verify.
#[inline(always)]
pub fn raise(max: &mut Max, value: u64) {
    // All ones where the value is greater.
    let greater = above(value, max.current).wrapping_neg();
    max.current ^= (max.current ^ value) & greater;
}

/// Sends a value through memory, from which it comes back unknown to the verifier: see [`Loop::scratch`].
#[inline(always)]
pub fn forget<T: Copy>(scratch: &mut T, value: T) -> T {
    // SAFETY: a reference is valid for a volatile write and read.
    unsafe {
        ptr::write_volatile(scratch, value);
        ptr::read_volatile(scratch)
    }
}

/// Adds one to a bucket of the histogram that begins with line LINE; `i` is below N by construction. (LINE is checked by
/// [`line_of`], which also says what a line is.)
#[inline(always)]
pub fn bucket<const N: usize, const LINE: usize>(
    buckets: &mut [u32; N],
    touched: &mut u64,
    scratch: &mut u32,
    i: usize,
) {
    let i = kernel::below::<N>(forget(scratch, i as u32) as usize);
    // SAFETY: below the length of the array.
    let count = unsafe { buckets.get_unchecked_mut(i) };
    *count = count.wrapping_add(1);
    *touched |= (1 << LINE) << (i / COUNTS_OF_LINE);
}

/// Counts in a line.
const COUNTS_OF_LINE: usize = size_of::<Line>() / size_of::<u32>();

/// Adds one to the bucket of a value in one of a loop's histograms.
macro_rules! count {
    ($looped:ident.$histogram:ident[$buckets:ident], $bucket:expr) => {
        $crate::tally::bucket::<
            $buckets,
            { ::loopscope_probe::line_of(::core::mem::offset_of!(::loopscope_probe::Loop, $histogram)) },
        >(&mut $looped.$histogram, &mut $looped.touched, &mut $looped.scratch, $bucket)
    };
}

pub(crate) use count;

/// As [`histogram::count_bucket`], whose 45 instructions are left to great counts.
#[inline(always)]
pub fn count_bucket(n: u32) -> usize {
    if n as usize >= SMALL {
        return histogram::count_bucket(n);
    }
    let i = kernel::below::<SMALL>(n as usize);
    // SAFETY: below the length of the table. Volatile, or the compiler makes a branch of it that is verified twice.
    usize::from(unsafe { (&raw const SMALL_COUNTS).cast::<u8>().add(i).read_volatile() })
}

/// A busy time ends: from the loop's last exit to now, less what the thread waited elsewhere in between.
#[inline(always)]
pub fn busy(looped: &mut Loop, now: u64, thread_wait_ns: u64, window: u32) {
    if looped.last_exit_ns == 0 {
        return;
    }
    if looped.waitable <= waitable::LAST && !is_loop(looped, now) {
        return;
    }
    let other = thread_wait_ns.wrapping_sub(looped.thread_wait_ns);
    let duration = elapsed(looped.last_exit_ns.wrapping_add(other), now);
    roll(looped, window);
    looped.other_wait_ns = looped.other_wait_ns.wrapping_add(other);
    looped.busy_ns = looped.busy_ns.wrapping_add(duration);
    raise(&mut looped.busy_max_ns, duration);
    count!(looped.busy[TIME_BUCKETS], time_bucket(duration));
}

/// A ready list was found at a wait's entry, of which `requeued` were the last wait's. The busy time that ended there has
/// begun the window of largest values.
#[inline(always)]
pub fn backlog(looped: &mut Loop, found: u32, requeued: u32, truncated: u32) {
    looped.backlog = looped.backlog.wrapping_add(u64::from(found));
    raise(&mut looped.backlog_max, u64::from(found));
    count!(looped.backlog_per_wait[COUNT_BUCKETS], count_bucket(found));
    looped.requeued = looped.requeued.wrapping_add(u64::from(requeued));
    raise(&mut looped.requeued_max, u64::from(requeued));
    count!(looped.requeued_per_wait[COUNT_BUCKETS], count_bucket(requeued));
    looped.truncated = looped.truncated.wrapping_add(truncated);
}

/// Whether poll or select calls are a loop as this one begins; a gap that is too long starts the count anew.
#[inline(always)]
fn is_loop(looped: &mut Loop, now: u64) -> bool {
    if now.wrapping_sub(looped.last_exit_ns) > LOOP_GAP_NS {
        looped.streak = 0;
    }
    looped.streak >= LOOP_WAITS
}

/// EBADF, as a system call returns it.
const BAD_DESCRIPTOR: i64 = -9;

/// Bytes that the kernel has copied for a wait that ended with `ret`: (in, out), in each pass anew (fs/select.c:
/// do_sys_poll, core_sys_select). poll gives every entry's revents back even when a signal ended it, select nothing but
/// a success; select has read its sets when it finds a bad descriptor in them, other errors come before.
#[inline(always)]
fn copied(wait: &Wait, ret: i64) -> (u64, u64) {
    let passes = u64::from(wait.passes) + 1;
    let (bytes_in, bytes_out) = (u64::from(wait.bytes_in), u64::from(wait.bytes_out));
    let read = ret >= 0 || ret == INTERRUPTED || ret == BAD_DESCRIPTOR;
    let all_in = if read { bytes_in * passes } else { 0 };
    let all_out = match wait.waitable {
        waitable::POLL if ret >= 0 || ret == INTERRUPTED => bytes_out * passes,
        waitable::SELECT if ret >= 0 => bytes_out,
        _ => 0,
    };
    (all_in, all_out)
}

/// A wait ends.
#[inline(always)]
pub fn complete(looped: &mut Loop, wait: &Wait, ret: i64, duration: u64, window: u32) {
    looped.fd = wait.fd;
    looped.asked = wait.asked;
    if wait.inherited != 0 {
        looped.inherited_ns = looped.inherited_ns.wrapping_add(duration);
        return;
    }
    roll(looped, window);
    looped.wait_ns = looped.wait_ns.wrapping_add(duration);
    raise(&mut looped.wait_max_ns, duration);
    count!(looped.wait[TIME_BUCKETS], time_bucket(duration));
    // By a mask: Linux 6.1's verifier forgets a comparison with what lies on the stack.
    let kind = kernel::below::<{ timeout::NAMES.len() }>(wait.timeout as usize);
    // SAFETY: below the length of the array.
    let count = unsafe { looped.timeouts.get_unchecked_mut(kind) };
    *count = count.wrapping_add(1);
    let outcome = match ret {
        1.. => result::READY,
        0 if wait.timeout == timeout::ZERO as u32 => result::EMPTY,
        0 => result::TIMEOUT,
        INTERRUPTED => result::INTERRUPTED,
        _ => result::ERROR,
    };
    if let Some(count) = looped.results.get_mut(outcome) {
        *count = count.wrapping_add(1);
    }
    if ret >= 0 {
        looped.events = looped.events.wrapping_add(ret as u64);
        raise(&mut looped.events_max, ret as u64);
        count!(looped.events_per_wait[COUNT_BUCKETS], count_bucket(ret as u32));
    }
    if wait.waitable > waitable::LAST {
        if ret > 0 && ret as u32 == wait.asked {
            looped.saturated = looped.saturated.wrapping_add(1);
        }
    } else if wait.waitable >= waitable::POLL {
        scanned(looped, wait, ret);
    }
    if ret == 0 && wait.timeout == timeout::FINITE as u32 {
        let overrun = duration.saturating_sub(wait.timeout_ns);
        looped.overrun_ns = looped.overrun_ns.wrapping_add(overrun);
        raise(&mut looped.overrun_max_ns, overrun);
        count!(looped.overrun[TIME_BUCKETS], time_bucket(overrun));
    }
}

/// What poll and select have beside other waits: sets that are copied and scanned.
#[inline(always)]
fn scanned(looped: &mut Loop, wait: &Wait, ret: i64) {
    let (bytes_in, bytes_out) = copied(wait, ret);
    looped.bytes_in = looped.bytes_in.wrapping_add(bytes_in);
    looped.bytes_out = looped.bytes_out.wrapping_add(bytes_out);
    if looped.streak < LOOP_WAITS {
        looped.streak += 1;
    }
    if wait.highest > looped.highest {
        looped.highest = wait.highest;
    }
    if ret >= 0 || ret == INTERRUPTED {
        let nfds = u64::from(wait.asked);
        looped.nfds = looped.nfds.wrapping_add(nfds);
        raise(&mut looped.nfds_max, nfds);
        count!(looped.nfds_per_wait[COUNT_BUCKETS], count_bucket(wait.asked));
    }
}
