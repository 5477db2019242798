//! Whether a pass reads every loop whole, rather than what has changed since the pass before: one word of a map, written
//! through memory, since a map update would make the kernel skip runs of tracepoints. Reads nothing.

use std::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, bail};
use aya::{Ebpf, maps::Map};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// What of the map is mapped: a page, the least that there is.
const BYTES: usize = 4096;

/// The word, in our memory.
pub struct Whole(NonNull<AtomicU64>);

impl Whole {
    /// Maps the word of these programs; at first it says no.
    ///
    /// # Errors
    /// The object has no such map, or the kernel does not map it (before Linux 5.5).
    pub fn of(ebpf: &Ebpf) -> Result<Whole> {
        let Some(Map::Array(map)) = ebpf.map("WHOLE") else { bail!("the probe object has no array WHOLE") };
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let at = unsafe {
            mmap(ptr::null_mut(), BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map.fd(), 0)
        };
        let at = at.context("cannot map the word that says what a pass reads")?;
        NonNull::new(at.cast()).map(Whole).context("the kernel maps at address 0")
    }

    /// From the next pass on.
    pub fn set(&self, whole: bool) {
        // SAFETY: the mapping is of a page, aligned to one, and lives as long as this. The kernel reads the word as a u64.
        unsafe { self.0.as_ref() }.store(whole.into(), Ordering::Release);
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // SAFETY: mapped in `of`, with these bytes; nothing refers to it any more.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), BYTES) };
    }
}
