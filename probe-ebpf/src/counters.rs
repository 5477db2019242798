//! Counts of the programs' own runs and losses, per CPU.

use loopscope_probe::{Counters, PROBE_COUNTERS};

use crate::{kernel, storage::COUNTERS};

/// This CPU's counters. Tracepoint programs do not nest or migrate, so plain adds are enough.
#[inline(always)]
fn counters() -> Option<&'static mut Counters> {
    // SAFETY: a per-CPU array element lives as long as the map and is this CPU's alone.
    COUNTERS.get_ptr_mut(0).and_then(|counters| unsafe { counters.as_mut() })
}

/// Counts a run for one of [`loopscope_probe::probe`].
#[inline(always)]
pub fn run(probe: usize) {
    if let Some(counters) = counters() {
        // SAFETY: below the length of the array.
        let runs = unsafe { counters.runs.get_unchecked_mut(kernel::below::<PROBE_COUNTERS>(probe)) };
        *runs = runs.wrapping_add(1);
    }
}

/// Counts one of [`loopscope_probe::lost`].
#[inline(always)]
pub fn lost(reason: usize) {
    if let Some(lost) = counters().and_then(|counters| counters.lost.get_mut(reason)) {
        *lost = lost.wrapping_add(1);
    }
}
