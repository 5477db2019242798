//! The ready list of an epoll instance (fs/eventpoll.c: `eventpoll.rdllist`) as a wait finds it: its length is the
//! backlog. What the loop's wait before had delivered and the kernel had put back, because it is level-triggered, is
//! counted at that wait's exit: requeued.
//!
//! The walk stops at [`WALK`] entries. After a list longer than [`SHORT`], the next [`SPARSE`] waits of the loop are
//! left out, so that long lists cost a sixteenth. Reads only: what another CPU changes meanwhile may shorten a walk.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use loopscope_probe::{Loop, Wait, histogram, waitable};

use crate::{
    kernel::{self, BACKLOG, EPITEM_EVENT, EPITEM_RDLLINK, EVENTPOLL_RDLLIST, FILE_PRIVATE_DATA},
    tally,
};

/// Entries at which a walk stops.
const WALK: u32 = 64;
/// Lists up to this length are looked at in every wait.
const SHORT: u32 = 8;
/// Waits that are left out after a longer one.
const SPARSE: u32 = 15;
/// [`Loop::requeues`] where the coming wait is left out.
const LEFT_OUT: u32 = u32::MAX;
/// EPOLLONESHOT and EPOLLET: an entry with one of them is not put back.
const NOT_PUT_BACK: u32 = 3 << 30;

/// Address of the head of an instance's ready list.
#[inline(always)]
fn head(file: u64) -> u64 {
    kernel::read(file + u64::from(FILE_PRIVATE_DATA.load())) + u64::from(EVENTPOLL_RDLLIST.load())
}

/// A walk along a list; LEVEL: counts only the entries that are put back when they are delivered.
struct Walk<const LEVEL: bool> {
    head: u64,
    node: u64,
    count: u32,
}

impl<const LEVEL: bool> Walk<LEVEL> {
    /// Takes the next entry in; false where there is none.
    #[inline(always)]
    fn step(&mut self) -> bool {
        if self.node == self.head || self.node == 0 {
            return false;
        }
        let counts = if LEVEL {
            let event = u64::from(EPITEM_EVENT.load()).wrapping_sub(u64::from(EPITEM_RDLLINK.load()));
            kernel::read(self.node.wrapping_add(event)) as u32 & NOT_PUT_BACK == 0
        } else {
            true
        };
        self.count += u32::from(counts);
        self.node = kernel::read(self.node);
        true
    }
}

/// Entries of a list, of the first [`WALK`].
#[inline(never)]
fn walk<const LEVEL: bool>(head: u64) -> u32 {
    let mut walk = Walk::<LEVEL> { head, node: kernel::read(head), count: 0 };
    // By itself, since most lists are short, and a helper's loop takes 15 ns to begin.
    for _ in 0..SHORT {
        if !walk.step() {
            return walk.count;
        }
    }
    let callback = further::<LEVEL> as *const () as *mut c_void;
    // SAFETY: the callback's signature is what the helper calls, and the context outlives the call.
    unsafe { bpf_loop(WALK - SHORT, callback, (&raw mut walk).cast(), 0) };
    walk.count
}

/// What the helper's loop calls: 1 ends it.
unsafe extern "C" fn further<const LEVEL: bool>(_: u32, walk: *mut c_void) -> i64 {
    // SAFETY: the context that `walk` gave.
    let walk = unsafe { &mut *walk.cast::<Walk<LEVEL>>() };
    i64::from(!walk.step())
}

/// A wait on an instance begins: what piled up. The caller has opened the record's sequence word.
#[inline(always)]
pub fn entered(looped: &mut Loop, file: u64) {
    if BACKLOG.load() == 0 || file <= waitable::LAST || looped.requeues == LEFT_OUT {
        return;
    }
    // Else the verifier would follow what comes after for each length of its own (215,000 instructions).
    let found = tally::forget(&mut looped.scratch, walk::<false>(head(file)));
    let requeued = looped.requeues;
    if found > SHORT {
        looped.sparse = SPARSE;
    }
    let truncated = histogram::above(u64::from(found.max(requeued)), u64::from(WALK - 1)) as u32;
    tally::backlog(looped, found, requeued, truncated);
}

/// A wait on an instance has ended with return value `ret`: what its events leave in the list.
#[inline(always)]
pub fn left(looped: &mut Loop, wait: &Wait, ret: i64) {
    if BACKLOG.load() == 0 || wait.waitable <= waitable::LAST {
        return;
    }
    if looped.sparse > 0 {
        looped.sparse -= 1;
        looped.requeues = LEFT_OUT;
        return;
    }
    looped.requeues = 0;
    if ret > 0 {
        let level = tally::forget(&mut looped.scratch, walk::<true>(head(wait.waitable)));
        // Where more was ready than the wait could take, the rest is in the list too.
        looped.requeues = if i64::from(level) < ret { level } else { ret as u32 };
    }
}
