//! Everything that touches the kernel: the only place that knows aya.
//!
//! [`Kernel::start`] loads and attaches; then [`Kernel::pass`] reads every record by the iterator, and
//! [`Kernel::events`] what came through the ring buffer. After the start nothing here updates or deletes a map
//! element: tracepoint programs skip runs on a CPU that does so. Dropping a [`Kernel`] detaches everything.

pub mod btf;
mod direct;
pub mod facts;
mod load;
mod missed;
mod offsets;
mod probelog;
mod programs;
pub mod table;
mod tracefs;

use std::{
    io::Read,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
    programs::Iter,
};
use aya_log::EbpfLogger;
use probelog::Stderr;

pub use load::{Attempt, Options, ProbeState, Watched, Ways};

/// The probes, loaded and attached.
pub struct Kernel {
    ebpf: Ebpf,
    events: RingBuf<MapData>,
    log: Option<EbpfLogger<Stderr>>,
    probes: Vec<ProbeState>,
    /// Whether the lengths of ready lists are measured.
    pub backlog: bool,
    /// How long loading and attaching took.
    pub start_time: Duration,
}

impl Kernel {
    /// Each probe, and how it is attached or why not.
    pub fn probes(&self) -> &[ProbeState] {
        &self.probes
    }

    /// Reads every record of this host once and appends the bytes to `buffer`, as [`crate::decode`] takes them.
    ///
    /// # Errors
    /// The iterator could not be made or read.
    pub fn pass(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        read_iterator(&mut self.ebpf, "sample", buffer).context("cannot read the probes' records")
    }

    /// Takes everything out of the ring buffer, one record a call of `take`.
    pub fn events(&mut self, mut take: impl FnMut(&[u8])) {
        while let Some(event) = self.events.next() {
            take(&event);
        }
    }

    /// Runs that the kernel skipped, of all programs together.
    pub fn missed(&self) -> u64 {
        let fds = self.ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        fds.map(|fd| missed::of(fd.as_fd())).sum()
    }

    /// Readable when [`Kernel::events`] has something to give.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Readable when [`Kernel::print_log`] has something to print; None while the probes' log is off.
    pub fn log_fd(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().map(AsFd::as_fd)
    }

    /// Prints what the probes have logged.
    pub fn print_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }
}

/// Runs the iterator program `name` over all tasks and appends what it writes to `buffer`.
fn read_iterator(ebpf: &mut Ebpf, name: &str, buffer: &mut Vec<u8>) -> Result<()> {
    let program: &mut Iter = ebpf
        .program_mut(name)
        .with_context(|| format!("the probe object has no program {name}"))?
        .try_into()?;
    let link = program.attach()?;
    let mut file = program.take_link(link)?.into_file()?;
    file.read_to_end(buffer)?;
    Ok(())
}
