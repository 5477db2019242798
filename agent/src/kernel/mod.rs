//! Everything that touches the kernel: the only place that knows aya.
//!
//! [`Kernel::start`] loads and attaches; then [`Kernel::pass`] reads every record by the iterator, and
//! [`Kernel::events`] what came through the ring buffer. After the start nothing here updates or deletes a map
//! element: tracepoint programs skip runs on a CPU that does so. Dropping a [`Kernel`] detaches everything.

mod attach;
pub mod btf;
mod direct;
pub mod facts;
pub mod fentry;
mod hot;
mod load;
pub mod missed;
pub mod mounts;
mod offsets;
mod preempt;
mod probelog;
mod programs;
mod run_time;
pub mod table;
mod tracefs;
mod whole;

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
    programs::Iter,
};
use aya_log::EbpfLogger;
use probelog::Stderr;

pub use attach::{Attempt, ProbeState, Ways};
pub use load::{Options, Watched};
pub use programs::way;
pub use run_time::RunTime;

/// The probes, loaded and attached.
pub struct Kernel {
    ebpf: Ebpf,
    whole: whole::Whole,
    /// Ends of waits that began before the probes.
    inherited: fentry::Inherited,
    events: RingBuf<MapData>,
    /// What the walks of interest sets send.
    entries: RingBuf<MapData>,
    log: Option<EbpfLogger<Stderr>>,
    /// While it is open the kernel measures what runs take.
    stats: Option<OwnedFd>,
    probes: Vec<ProbeState>,
    /// Whether the lengths of ready lists are measured.
    pub backlog: bool,
    /// Whether interest sets can be read, or why not.
    pub interest: Result<(), String>,
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
        self.inherited.leave_in_time();
        read_iterator(&mut self.ebpf, "sample", buffer).context("cannot read the probes' records")
    }

    /// Whether passes read every loop whole, from the next one on, rather than what has changed since the one before.
    pub fn read_whole(&self, whole: bool) {
        self.whole.set(whole);
    }

    /// Reads the interest sets of all epoll instances of this host, one chunk a call of `take`, as
    /// [`crate::decode::interest`] takes them. In runs of at most some 100 us.
    ///
    /// # Errors
    /// They cannot be read on this kernel, or the iterator could not be made or read.
    pub fn interest(&mut self, mut take: impl FnMut(&[u8])) -> Result<()> {
        if let Err(reason) = &self.interest {
            bail!("interest sets cannot be read: {reason}");
        }
        walk(&mut self.ebpf, &mut self.entries, &mut take)
    }

    /// Counts of the events that the entries of instances delivered, where [`Options::hot`] asked for them: address and
    /// generation of the instance, the user's data word (None: not known which), and how many. Not while a window is
    /// open: looking an element up makes the kernel skip runs of tracepoints on this CPU.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn hot(&self, take: impl FnMut([u64; 2], Option<u64>, u64)) -> Result<()> {
        hot::read(&self.ebpf, take).context("cannot read which entries delivered the events")
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

    /// What the runs of each program took since it was loaded; None unless [`Options::run_times`] asked for it.
    pub fn run_times(&self) -> Option<Vec<RunTime>> {
        self.stats.as_ref().map(|_| run_time::read(&self.ebpf))
    }

    /// Each program that the kernel took, by name, and how many instructions its verifier went through (since Linux 5.16):
    /// what a start costs, and how far it is from the million at which a kernel gives up.
    pub fn verified(&self) -> Vec<(String, Option<u32>)> {
        let mut programs: Vec<_> = self
            .ebpf
            .programs()
            .filter_map(|(name, program)| {
                Some((name.to_owned(), program.info().ok()?.verified_instruction_count()))
            })
            .collect();
        programs.sort_unstable();
        programs
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

/// Walks the interest sets of all instances, one chunk a call of `take`.
fn walk(ebpf: &mut Ebpf, entries: &mut RingBuf<MapData>, take: &mut dyn FnMut(&[u8])) -> Result<()> {
    let mut file = open_iterator(ebpf, programs::INTEREST)?;
    loop {
        let read = file.read(&mut [0; 64]);
        while let Some(chunk) = entries.next() {
            take(&chunk);
        }
        match read {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // The program asks to be called again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("cannot read the interest sets"),
        }
    }
}

/// Runs the iterator program `name` over all tasks and appends what it writes to `buffer`.
fn read_iterator(ebpf: &mut Ebpf, name: &str, buffer: &mut Vec<u8>) -> Result<()> {
    open_iterator(ebpf, name)?.read_to_end(buffer)?;
    Ok(())
}

/// A pass of the iterator program `name`.
fn open_iterator(ebpf: &mut Ebpf, name: &str) -> Result<File> {
    let program: &mut Iter = ebpf
        .program_mut(name)
        .with_context(|| format!("the probe object has no program {name}"))?
        .try_into()?;
    let link = program.attach()?;
    Ok(program.take_link(link)?.into_file()?)
}
