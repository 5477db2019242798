//! The probes and the model together: what a view samples. Lives in the reactor's thread.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};

use crate::{
    decode::{self, Record, interest::Assembly},
    identity::{Process, Processes, files::Files},
    kernel::{Kernel, Options, ProbeState},
    model::{
        InstanceWindow, LoopWindow, Model, Packed, Window,
        costs::{Costs, Meter},
        hot::{Entries, Hot},
    },
    report::group::Sample,
    store::Recorder,
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
    missed: u64,
    base_missed: u64,
    /// What the probes' runs take, where the kernel measures it.
    meter: Option<Meter>,
    started_at: SystemTime,
    /// Keeps everything that is read.
    recorder: Option<Recorder>,
    /// When [`Watch::refresh_interest`] last read.
    interest_at: Option<Instant>,
}

/// How often views that go on read interest sets: they change slowly, and every entry of the host is walked.
const INTEREST: Duration = Duration::from_secs(10);

impl Watch {
    /// Loads and attaches the probes and begins a window.
    ///
    /// # Errors
    /// As [`Kernel::start`], or the first pass fails.
    pub fn start(options: &Options, reactor: &Reactor) -> Result<Watch> {
        Self::start_recording(options, reactor, None)
    }

    /// As [`Watch::start`], and keeps everything that is read.
    ///
    /// # Errors
    /// As [`Watch::start`]. That the recorder cannot write is none: see [`Watch::recorder`].
    pub fn start_recording(
        options: &Options,
        reactor: &Reactor,
        mut recorder: Option<Recorder>,
    ) -> Result<Watch> {
        let kernel = Kernel::start(options, reactor.fd())?;
        // What is recorded has readings to begin at, which need none before them.
        kernel.read_whole(recorder.is_some());
        if let Some(recorder) = &mut recorder {
            recorder.probes(kernel.probes(), kernel.backlog);
        }
        reactor.watch(kernel.events_fd(), kernel.log_fd())?;
        let model = Model::new(kernel.backlog);
        let mut watch = Watch {
            kernel,
            model,
            processes: Processes::default(),
            buffer: Vec::new(),
            damaged: 0,
            missed: 0,
            base_missed: 0,
            meter: options.run_times.then(Meter::default),
            started_at: SystemTime::now(),
            recorder,
            interest_at: None,
        };
        watch.sample()?;
        watch.begin();
        watch.base_missed = watch.missed;
        watch.started_at = SystemTime::now();
        if let Some(recorder) = &mut watch.recorder {
            recorder.begin(watch.started_at);
        }
        Ok(watch)
    }

    /// Each probe, and how it is attached or why not.
    pub fn probes(&self) -> &[ProbeState] {
        self.kernel.probes()
    }

    /// Why interest sets cannot be read; None where they can.
    pub fn interest_error(&self) -> Option<&str> {
        self.kernel.interest.as_ref().err().map(String::as_str)
    }

    /// Each program that was loaded, and the instructions that the verifier went through.
    pub fn verified(&self) -> Vec<(String, Option<u32>)> {
        self.kernel.verified()
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
        let read = self.take_pass();
        // What a pass did not bring the next one does not bring again, unless it brings all.
        self.kernel.read_whole(read.is_err() || self.recorder.is_some());
        read
    }

    fn take_pass(&mut self) -> Result<()> {
        self.buffer.clear();
        self.kernel.pass(&mut self.buffer)?;
        self.missed = self.kernel.missed();
        let run_times = self.kernel.run_times();
        if let Some(recorder) = &mut self.recorder {
            recorder.pass(&self.buffer);
            recorder.run_times(run_times.as_deref());
        }
        let mut records = decode::records(&self.buffer).context("the probes' records are damaged")?;
        let Some(Record::Counters(_, counters)) = records.last() else {
            anyhow::bail!("a pass over the probes' records ended early, after {} bytes", self.buffer.len());
        };
        if let (Some(meter), Some(run_times)) = (&mut self.meter, &run_times) {
            meter.take(run_times, counters, self.kernel.probes());
        }
        // After the pass: what is in it of a thread that ends meanwhile is older than its last figures.
        self.take_events(&mut records);
        self.apply(records);
        Ok(())
    }

    /// Reads the interest sets of all epoll instances. Gives the longest time that the kernel spent on it at a stretch.
    ///
    /// # Errors
    /// They cannot be read on this kernel, or not now.
    pub fn read_interest(&mut self) -> Result<Duration> {
        let mut assembly = Assembly::default();
        let (damaged, recorder) = (&mut self.damaged, &mut self.recorder);
        let mut kept = Vec::new();
        let read = self.kernel.interest(|chunk| {
            *damaged += u64::from(assembly.take(chunk).is_err());
            if recorder.is_some() {
                kept.push(chunk.to_vec());
            }
        });
        if let Some(recorder) = recorder {
            recorder.interest(read.as_ref().map(|()| kept));
        }
        read?;
        let longest = Duration::from_nanos(assembly.longest_ns().into());
        self.model.take_interest(assembly.finish());
        let mut files = Files::default();
        self.model.name_listeners(|tgid, fd| files.listener(tgid, fd));
        if let Some(recorder) = &mut self.recorder {
            recorder.listeners(self.model.listeners());
        }
        Ok(longest)
    }

    /// As [`Watch::read_interest`], for views that go on: where the last time was long enough ago. That they cannot be
    /// read says [`Watch::interest_error`].
    pub fn refresh_interest(&mut self) {
        self.refresh_interest_after(INTEREST);
    }

    /// As [`Watch::refresh_interest`], where the last time is that long ago.
    pub fn refresh_interest_after(&mut self, time: Duration) {
        if self.interest_at.is_none_or(|at| at.elapsed() >= time) {
            let _ = self.read_interest();
            self.interest_at = Some(Instant::now());
        }
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
        self.model.window()
    }

    /// As [`Watch::window`], with every count in the room that it needs.
    pub fn packed_window(&mut self) -> Window<LoopWindow<Packed>> {
        self.model.packed_window()
    }

    /// As [`Watch::window`], in less room.
    pub fn samples(&mut self) -> Window<Sample> {
        let mut window = self.model.window_of(Sample::new);
        self.model.share_listeners(&mut window, Sample::done);
        window
    }

    /// The frames of everything that is read from now on; an opening for who has not seen those before. `narrowed`: the
    /// probes see some processes alone.
    pub fn open_feed(&mut self, narrowed: bool) -> Option<Arc<[u8]>> {
        if self.recorder.is_none() {
            let mut recorder = Recorder::feed();
            recorder.probes(self.kernel.probes(), self.kernel.backlog);
            recorder.know(self.model.processes());
            recorder.fetch();
            self.recorder = Some(recorder);
            self.kernel.read_whole(true);
        }
        self.recorder.as_mut()?.opening(narrowed)
    }

    /// Nobody wants the frames any more.
    pub fn close_feed(&mut self) {
        self.recorder = None;
        self.kernel.read_whole(false);
    }

    /// What the probes' runs took since the window began; None unless [`Options::run_times`] asked for it.
    pub fn costs(&self) -> Option<Costs> {
        self.meter.as_ref().map(|meter| meter.window().clone())
    }

    /// Forgets what has ended, and begins the next window.
    pub fn begin(&mut self) {
        self.model.begin();
        if let Some(meter) = &mut self.meter {
            meter.begin();
        }
    }

    /// Runs of probes that the kernel skipped from the start to the last sample.
    pub fn missed(&self) -> u64 {
        self.missed.saturating_sub(self.base_missed)
    }

    /// When the first window began.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// What keeps everything that is read, if anything does.
    pub fn recorder(&mut self) -> &mut Option<Recorder> {
        &mut self.recorder
    }

    /// Records that could not be read.
    pub fn damaged(&self) -> u64 {
        self.damaged + self.model.damaged()
    }

    /// Empties the ring buffer into `records`.
    fn take_events(&mut self, records: &mut Vec<Record>) {
        let (damaged, recorder) = (&mut self.damaged, &mut self.recorder);
        self.kernel.events(|bytes| {
            if let Some(recorder) = recorder {
                recorder.event(bytes);
            }
            match decode::record(bytes) {
                Ok((record, _)) => records.push(record),
                Err(_) => *damaged += 1,
            }
        });
    }

    fn apply(&mut self, records: Vec<Record>) {
        let (processes, recorder) = (&mut self.processes, &mut self.recorder);
        // Threads of one process mostly come together: one look at /proc does for them.
        let mut seen: HashMap<u32, Arc<Process>> = HashMap::new();
        let mut identify = |pid| -> Arc<Process> {
            let process = Arc::clone(seen.entry(pid).or_insert_with(|| processes.get(pid)));
            if let Some(recorder) = recorder {
                recorder.process(pid, &process);
            }
            process
        };
        self.model.apply(records, &mut identify);
        if let Some(recorder) = recorder {
            recorder.commit(self.missed);
        }
    }
}
