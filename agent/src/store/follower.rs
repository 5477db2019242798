//! Frames through the decoder and the model: the same windows that whoever wrote them had.
//!
//! Does what `reactor::Watch` does with the probes' bytes, in the same order, so that the model cannot tell them apart.
//! Where frames come from, a file or a running agent, does not matter here.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use super::{
    delta::Unpacker,
    format::{Attached, FrameHead, ProbeNote, frame},
    varint::Bytes,
};
use crate::{
    decode::{self, Record, interest::Assembly},
    identity::Process,
    kernel::{Attempt, ProbeState, RunTime, table::PROBES},
    model::{
        Model, Window,
        costs::{Costs, Meter},
    },
    report::{build, group::Sample},
};

/// The ways of attaching that a recording may name.
const BACKENDS: [&str; 5] = ["tracepoint", "tp_btf", "raw", "fentry", "kprobe"];

/// What a frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All records were read: a window may end here.
    Pass,
    /// Something else.
    Other,
    /// There is nothing more.
    End,
}

/// What the frames so far say.
pub struct Follower {
    /// The model, as whoever wrote them has it.
    pub model: Model,
    backlog: bool,
    unpacker: Unpacker,
    known: HashMap<u32, Arc<Process>>,
    /// What /proc said in the current reading, in the order in which it was asked.
    said: VecDeque<(u32, Arc<Process>)>,
    /// How the probes are attached.
    pub probes: Vec<ProbeState>,
    /// The first window has begun.
    pub begun: bool,
    /// When the window began.
    pub started_at: SystemTime,
    /// When the last frame was written, CLOCK_MONOTONIC ns.
    pub now_ns: u64,
    missed: u64,
    base_missed: u64,
    /// What the kernel measured of the programs until the next reading.
    run_times: Option<Vec<RunTime>>,
    meter: Option<Meter>,
    /// CPU time that whoever wrote them had taken, ns.
    pub cpu_ns: u64,
    /// Records that could not be read.
    pub damaged: u64,
    /// Why interest sets could not be read, as a note.
    pub no_interest: Option<String>,
}

/// A reading, unpacked.
struct Reading {
    pass: Option<Vec<u8>>,
    events: Vec<Vec<u8>>,
}

impl Default for Follower {
    fn default() -> Self {
        Follower {
            model: Model::default(),
            backlog: false,
            unpacker: Unpacker::default(),
            known: HashMap::new(),
            said: VecDeque::new(),
            probes: Vec::new(),
            begun: false,
            started_at: UNIX_EPOCH,
            now_ns: 0,
            missed: 0,
            base_missed: 0,
            run_times: None,
            meter: None,
            cpu_ns: 0,
            damaged: 0,
            no_interest: None,
        }
    }
}

impl Follower {
    /// Takes a frame in.
    ///
    /// # Errors
    /// It is damaged.
    pub fn take(&mut self, head: &FrameHead, body: &[u8]) -> Result<Step> {
        self.now_ns = head.monotonic_ns;
        match head.kind {
            frame::READING => {
                let reading = self.read(head, body).context("a reading ends early")?;
                let is_pass = reading.pass.is_some();
                self.apply(reading)?;
                if is_pass {
                    return Ok(Step::Pass);
                }
            }
            frame::PROBES => {
                let attached: Attached = serde_json::from_slice(body)?;
                self.probes = probes(&attached.probes);
                if !self.begun {
                    self.backlog = attached.backlog;
                    self.model = Model::new(attached.backlog);
                }
            }
            frame::PROCESSES => {
                self.processes(&mut Bytes(body)).context("a list ends early")?;
                self.known.extend(self.said.drain(..));
            }
            frame::INTEREST => self.interest(&mut Bytes(body)).context("a list ends early")?,
            frame::RUN_TIMES => self.run_times = Some(serde_json::from_slice(body)?),
            frame::LISTENERS => self.listeners(&mut Bytes(body)).context("a list ends early")?,
            frame::BEGIN => {
                let ns = body.try_into().map(u64::from_le_bytes).context("a time has eight bytes")?;
                if !self.begun {
                    self.begin(UNIX_EPOCH.checked_add(Duration::from_nanos(ns)).unwrap_or(UNIX_EPOCH));
                }
            }
            // END, and what a later version may add.
            _ => {}
        }
        Ok(Step::Other)
    }

    /// Unpacks a reading, and notes what it says beside the records.
    fn read(&mut self, head: &FrameHead, body: &[u8]) -> Option<Reading> {
        let mut bytes = Bytes(body);
        self.missed = bytes.number()?;
        self.cpu_ns = bytes.number()?;
        self.processes(&mut bytes)?;
        let mut events = Vec::new();
        for _ in 0..bytes.size()? {
            events.push(bytes.bytes()?.to_vec());
        }
        let mut pass = None;
        if head.flags & frame::PASS != 0 {
            if head.flags & frame::KEY != 0 {
                self.unpacker.reset();
            }
            pass = Some(self.unpacker.unpack(&mut bytes)?.to_vec());
        }
        bytes.0.is_empty().then_some(Reading { pass, events })
    }

    /// As `Watch::read_interest`.
    fn interest(&mut self, bytes: &mut Bytes) -> Option<()> {
        if bytes.number()? == 0 {
            let why = String::from_utf8_lossy(bytes.bytes()?).into_owned();
            self.no_interest = Some(build::no_interest(why));
            return Some(());
        }
        let mut assembly = Assembly::default();
        for _ in 0..bytes.size()? {
            self.damaged += u64::from(assembly.take(bytes.bytes()?).is_err());
        }
        self.model.take_interest(assembly.finish());
        self.no_interest = None;
        Some(())
    }

    /// Which of the shared files of the sets listen.
    fn listeners(&mut self, bytes: &mut Bytes) -> Option<()> {
        let mut names = HashMap::new();
        for _ in 0..bytes.size()? {
            let of = (u32::try_from(bytes.number()?).ok()?, u32::try_from(bytes.number()?).ok()?);
            names.insert(of, String::from_utf8_lossy(bytes.bytes()?).into_owned());
        }
        self.model.name_listeners(|tgid, fd| names.remove(&(tgid, fd)));
        Some(())
    }

    fn processes(&mut self, bytes: &mut Bytes) -> Option<()> {
        for _ in 0..bytes.size()? {
            let pid = u32::try_from(bytes.number()?).ok()?;
            let process: Process = serde_json::from_slice(bytes.bytes()?).ok()?;
            self.said.push_back((pid, Arc::new(process)));
        }
        Some(())
    }

    /// As `Watch::sample` and `Watch::drain`.
    fn apply(&mut self, reading: Reading) -> Result<()> {
        let mut records = Vec::new();
        if let Some(pass) = &reading.pass {
            records = decode::records(pass)?;
            let Some(Record::Counters(_, counters)) = records.last() else {
                anyhow::bail!("a pass over the probes' records ends early");
            };
            if let Some(run_times) = self.run_times.take() {
                self.meter.get_or_insert_default().take(&run_times, counters, &self.probes);
            }
        }
        for event in &reading.events {
            match decode::record(event) {
                Ok((record, _)) => records.push(record),
                Err(_) => self.damaged += 1,
            }
        }
        let (known, said) = (&mut self.known, &mut self.said);
        self.model.apply(records, &mut |pid| {
            // A process that executed another program between two questions was answered for twice.
            if let Some(i) = said.iter().position(|(asked, _)| *asked == pid)
                && let Some((_, process)) = said.remove(i)
            {
                known.insert(pid, process);
            }
            known.get(&pid).cloned().unwrap_or_default()
        });
        known.extend(said.drain(..));
        Ok(())
    }

    /// Forgets all that a key reading tells anew.
    pub fn restart(&mut self) {
        self.model = Model::new(self.backlog);
        self.meter = None;
        self.unpacker.reset();
    }

    /// What happened since the window began.
    pub fn window(&mut self) -> Window {
        self.model.window()
    }

    /// As [`Follower::window`], in less room.
    pub fn samples(&mut self) -> Window<Sample> {
        let mut window = self.model.window_of(Sample::new);
        self.model.share_listeners(&mut window, Sample::done);
        window
    }

    /// Forgets what has ended, and begins the next window, at that time.
    pub fn begin(&mut self, at: SystemTime) {
        self.begun = true;
        self.model.begin();
        if let Some(meter) = &mut self.meter {
            meter.begin();
        }
        self.base_missed = self.missed;
        self.started_at = at;
    }

    /// What the probes' runs took in the window; None where it was not measured.
    pub fn costs(&self) -> Option<Costs> {
        self.meter.as_ref().map(|meter| meter.window().clone())
    }

    /// Runs of probes that the kernel skipped in the window.
    pub fn missed(&self) -> u64 {
        self.missed.saturating_sub(self.base_missed)
    }
}

/// The probes of a recording among those that this version knows.
fn probes(notes: &[ProbeNote]) -> Vec<ProbeState> {
    let known = notes.iter().filter_map(|note| {
        let probe = PROBES.iter().find(|probe| probe.name() == note.name)?;
        let attempts = note.attempts.iter().filter_map(|(backend, error)| {
            let backend = BACKENDS.into_iter().find(|known| known == backend)?;
            Some(Attempt { backend, error: error.clone() })
        });
        Some(ProbeState { probe, attempts: attempts.collect() })
    });
    known.collect()
}
