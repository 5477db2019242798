//! The probes and the model together: what a view samples. Lives in the reactor's thread.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};

use crate::{
    decode::{self, Record, interest::Assembly},
    identity::{Process, Processes, files::Files},
    kernel::{Kernel, Options, ProbeState},
    model::{
        InstanceWindow, Model, Window,
        hot::{Entries, Hot},
        shared::SharedFile,
    },
};

use super::Reactor;

/// Attached probes and everything that they have told.
pub struct Watch {
    kernel: Kernel,
    model: Model,
    processes: Processes,
    buffer: Vec<u8>,
    /// Records that could not be read; always 0 unless probe and agent disagree.
    damaged: u64,
    base_missed: u64,
    /// Listening sockets that several instances watch, with their addresses, when the sets were last read.
    listening: Vec<(String, SharedFile)>,
}

impl Watch {
    /// Loads and attaches the probes and begins a window.
    ///
    /// # Errors
    /// As [`Kernel::start`], or the first pass fails.
    pub fn start(options: &Options, reactor: &Reactor) -> Result<Watch> {
        let kernel = Kernel::start(options, reactor.fd())?;
        reactor.watch(kernel.events_fd(), kernel.log_fd())?;
        let model = Model::new(kernel.backlog);
        let mut watch = Watch {
            kernel,
            model,
            processes: Processes::default(),
            buffer: Vec::new(),
            damaged: 0,
            base_missed: 0,
            listening: Vec::new(),
        };
        watch.sample()?;
        watch.model.begin();
        watch.base_missed = watch.kernel.missed();
        Ok(watch)
    }

    /// Each probe, and how it is attached or why not.
    pub fn probes(&self) -> &[ProbeState] {
        self.kernel.probes()
    }

    /// How long loading and attaching took.
    pub fn start_time(&self) -> Duration {
        self.kernel.start_time
    }

    /// Reads everything that the kernel has.
    ///
    /// # Errors
    /// The iterator fails, or a pass does not come to its end.
    pub fn sample(&mut self) -> Result<()> {
        self.buffer.clear();
        self.kernel.pass(&mut self.buffer)?;
        let mut records = decode::records(&self.buffer).context("the probes' records are damaged")?;
        if !matches!(records.last(), Some(Record::Counters(..))) {
            anyhow::bail!("a pass over the probes' records ended early, after {} bytes", self.buffer.len());
        }
        // After the pass: what is in it of a thread that ends meanwhile is older than its last figures.
        self.take_events(&mut records);
        self.apply(records);
        Ok(())
    }

    /// Reads the interest sets of all epoll instances.
    ///
    /// # Errors
    /// They cannot be read on this kernel, or not now.
    pub fn read_interest(&mut self) -> Result<()> {
        let mut assembly = Assembly::default();
        let damaged = &mut self.damaged;
        self.kernel.interest(|chunk| *damaged += u64::from(assembly.take(chunk).is_err()))?;
        self.model.take_interest(assembly.finish());
        let mut files = Files::default();
        let shared = self.model.shared_files().into_iter();
        self.listening =
            shared.filter_map(|file| Some((files.listener(file.tgid, file.fd)?, file))).collect();
        Ok(())
    }

    /// As [`Watch::read_interest`], of the begin of the window: what is there now is compared with what will be.
    ///
    /// # Errors
    /// As there.
    pub fn keep_interest(&mut self) -> Result<()> {
        self.read_interest()?;
        self.model.keep_interest();
        Ok(())
    }

    /// Reads which entries delivered the events since the start, where [`Options::hot`] asked for it; after the last
    /// sample.
    ///
    /// # Errors
    /// The kernel's maps cannot be read.
    pub fn read_hot(&self) -> Result<Hot> {
        let mut hot = Hot::default();
        self.kernel.hot(|instance, word, events| hot.add(instance, word, events))?;
        Ok(hot)
    }

    /// What the entries of an instance of the last [`Watch::window`] delivered, and which of them are instances.
    pub fn entries(&self, instance: &InstanceWindow, hot: Option<&Hot>) -> Entries {
        self.model.entries(instance, hot)
    }

    /// Takes in what came through the ring buffer.
    pub fn drain(&mut self) {
        let mut records = Vec::new();
        self.take_events(&mut records);
        self.apply(records);
    }

    /// Prints what the probes have logged.
    pub fn print_log(&mut self) {
        self.kernel.print_log();
    }

    /// What happened since the start, or the last [`Watch::begin`].
    pub fn window(&mut self) -> Window {
        let mut window = self.model.window();
        self.model.show_listeners(&mut window, &self.listening);
        window
    }

    /// Forgets what has ended, and begins the next window.
    pub fn begin(&mut self) {
        self.model.begin();
    }

    /// Runs of probes that the kernel skipped since the start.
    pub fn missed(&self) -> u64 {
        self.kernel.missed().saturating_sub(self.base_missed)
    }

    /// Records that could not be read.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Empties the ring buffer into `records`.
    fn take_events(&mut self, records: &mut Vec<Record>) {
        let damaged = &mut self.damaged;
        self.kernel.events(|bytes| match decode::record(bytes) {
            Ok((record, _)) => records.push(record),
            Err(_) => *damaged += 1,
        });
    }

    fn apply(&mut self, records: Vec<Record>) {
        let processes = &mut self.processes;
        let mut identify = |pid| -> Arc<Process> { processes.get(pid) };
        self.model.apply(records, &mut identify);
    }
}
