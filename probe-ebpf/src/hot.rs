//! Which watched entries deliver the events of a process's instances: counted by instance and user data word, and only
//! while HOT names a process (`inspect`). With HOT 0 the verifier leaves all of this out.
//!
//! The exit of an epoll wait reads the first [`EVENTS`] events back from the user's buffer, which the kernel has just
//! filled. What lies beyond them, what finds no room and what cannot be read is counted as the instance's rest.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::generated::bpf_loop,
    macros::map,
    maps::HashMap,
};
use loopscope_probe::{Wait, waitable};

use crate::{
    kernel::{self, EVENT_BYTES, HOT, REGS_ARG1, TaskPtr},
    storage::{ordered, reader},
};

/// Events of one wait that are looked at.
const EVENTS: i64 = 64;

/// Events by (address of the instance, its generation, user data word). The agent makes it small while HOT is 0.
#[map]
static HOT_WORDS: HashMap<[u64; 3], u64> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
/// Events by (address of the instance, its generation) that are in no word.
#[map]
static HOT_REST: HashMap<[u64; 2], u64> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);
/// Instances that the process held when the agent started: whoever waits on them is counted.
#[map]
static HOT_FILES: HashMap<u64, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// The events of a wait on their way into the maps.
struct Delivery {
    /// Address of the next event's data.
    next: u64,
    /// As in [`HOT_WORDS`].
    key: [u64; 3],
    /// Events that found no room.
    rest: u64,
}

/// A wait of `task` has delivered `events`. One that began before the probes enters no count, and not this one either.
#[inline(always)]
pub fn delivered(task: TaskPtr, wait: &Wait, events: i64) {
    let process = HOT.load();
    if process == 0 {
        return;
    }
    let (file, generation) = (wait.waitable, wait.generation);
    if events <= 0 || file <= waitable::LAST || wait.inherited != 0 {
        return;
    }
    // The window begins with the agent's first pass.
    if !reader().is_some_and(|reader| reader.window > 0) {
        return;
    }
    // SAFETY: no element is deleted.
    if kernel::ids(task).0 != process && unsafe { HOT_FILES.get(&file) }.is_none() {
        return;
    }
    let buffer: u64 = kernel::field(kernel::registers(task), &REGS_ARG1);
    // The data is the last 8 bytes of an event.
    let next = buffer.wrapping_add(u64::from(EVENT_BYTES.load())).wrapping_sub(8);
    let mut delivery = Delivery { next, key: [file, generation, 0], rest: 0 };
    let seen = if events < EVENTS { events } else { EVENTS };
    // SAFETY: the callback's signature is what the helper calls, and the context outlives the call.
    unsafe { bpf_loop(seen as u32, step as *const () as *mut c_void, (&raw mut delivery).cast(), 0) };
    let rest = delivery.rest + (events - seen) as u64;
    if rest > 0 {
        count(&HOT_REST, &[file, generation], rest);
    }
}

/// One event.
unsafe extern "C" fn step(_: u32, delivery: *mut c_void) -> i64 {
    // SAFETY: the context that `delivered` gave.
    let delivery = unsafe { &mut *delivery.cast::<Delivery>() };
    let word = kernel::read_user::<u64>(delivery.next);
    delivery.next = delivery.next.wrapping_add(u64::from(EVENT_BYTES.load()));
    let [file, generation, _] = delivery.key;
    let counted = match word {
        Some(word) => {
            delivery.key = [file, generation, word];
            count(&HOT_WORDS, &delivery.key, 1)
        }
        None => false,
    };
    delivery.rest += u64::from(!counted);
    0
}

/// Adds to an element, made where there is none; false where there is no room.
#[inline(always)]
fn count<K>(map: &HashMap<K, u64>, key: &K, events: u64) -> bool {
    if add(map, key, events) || map.insert(key, &events, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    // Another CPU made it meanwhile, or the map is full.
    add(map, key, events)
}

#[inline(always)]
fn add<K>(map: &HashMap<K, u64>, key: &K, events: u64) -> bool {
    let Some(element) = map.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: no element is deleted; several CPUs may add at once, hence atomic.
    ordered(unsafe { &mut *element }, events);
    true
}
