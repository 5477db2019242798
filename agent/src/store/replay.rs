//! A recording through the model: the same windows that were seen when it was made.
//!
//! Does what `reactor::Watch` does with the probes' bytes, in the same order, so that the model cannot tell them apart.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use super::{
    delta::Unpacker,
    format::{Attached, Damage, Head, ProbeNote, frame},
    reader::{Entry, Recording},
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
    report::{
        build::{self, Origin},
        group::Sample,
        host::Host,
    },
};

/// The ways of attaching that a recording may name.
const BACKENDS: [&str; 5] = ["tracepoint", "tp_btf", "raw", "fentry", "kprobe"];

/// What a frame of a recording was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All records were read: a window may end here.
    Pass,
    /// Something else.
    Other,
    /// There is nothing more.
    End,
}

/// A recording that is being replayed.
pub struct Replay {
    recording: Recording,
    model: Model,
    backlog: bool,
    unpacker: Unpacker,
    known: HashMap<u32, Arc<Process>>,
    /// What /proc said in the current reading, in the order in which it was asked.
    said: VecDeque<(u32, Arc<Process>)>,
    probes: Vec<ProbeState>,
    /// The next frame.
    next: usize,
    /// The window of the report has begun.
    begun: bool,
    started_at: SystemTime,
    /// When the last frame was written, CLOCK_MONOTONIC ns.
    now_ns: u64,
    missed: u64,
    base_missed: u64,
    /// What the kernel measured of the programs until the next reading.
    run_times: Option<Vec<RunTime>>,
    meter: Option<Meter>,
    cpu_ns: u64,
    damaged: u64,
    no_interest: Option<String>,
}

/// A reading, unpacked.
struct Reading {
    pass: Option<Vec<u8>>,
    events: Vec<Vec<u8>>,
}

impl Replay {
    /// Opens a recording, and goes on to where its first window begins.
    ///
    /// # Errors
    /// It cannot be read, or is none, or is damaged there.
    pub fn open(path: &Path) -> Result<Replay> {
        let recording = Recording::open(path)?;
        let mut replay = Replay {
            recording,
            model: Model::default(),
            backlog: false,
            unpacker: Unpacker::default(),
            known: HashMap::new(),
            said: VecDeque::new(),
            probes: Vec::new(),
            next: 0,
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
        };
        while !replay.begun {
            if replay.step()? == Step::End {
                anyhow::bail!(Damage::Nothing);
            }
        }
        Ok(replay)
    }

    /// What the recording says of itself.
    pub fn head(&self) -> &Head {
        self.recording.head()
    }

    /// Whether it was ended, rather than cut off.
    pub fn is_whole(&self) -> bool {
        self.recording.is_whole()
    }

    /// What documents say of where the windows come from.
    pub fn origin(&self) -> Origin {
        let head = self.head();
        Origin {
            host: Host { name: head.host.clone(), kernel: head.kernel.clone(), arch: head.arch.clone() },
            version: head.agent.clone(),
            probes: self.probes.clone(),
            notes: head.filtered.notes.clone(),
        }
    }

    /// Takes the next frame in.
    ///
    /// # Errors
    /// It is damaged.
    pub fn step(&mut self) -> Result<Step> {
        let Some(entry) = self.recording.entries().get(self.next).copied() else { return Ok(Step::End) };
        let body = self.recording.body(&entry)?;
        self.take(&entry, &body).with_context(|| Damage::Frame(entry.at))
    }

    fn take(&mut self, entry: &Entry, body: &[u8]) -> Result<Step> {
        self.next += 1;
        self.now_ns = entry.head.monotonic_ns;
        match entry.head.kind {
            frame::READING => {
                let reading = self.read(entry, body).context("a reading ends early")?;
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
            frame::BEGIN => {
                let ns = body.try_into().map(u64::from_le_bytes).context("a time has eight bytes")?;
                if !self.begun {
                    self.begun = true;
                    self.begin();
                    self.started_at = UNIX_EPOCH.checked_add(Duration::from_nanos(ns)).unwrap_or(UNIX_EPOCH);
                }
            }
            // END, and what a later version may add.
            _ => {}
        }
        Ok(Step::Other)
    }

    /// Unpacks a reading, and notes what it says beside the records.
    fn read(&mut self, entry: &Entry, body: &[u8]) -> Option<Reading> {
        let mut bytes = Bytes(body);
        self.missed = bytes.number()?;
        self.cpu_ns = bytes.number()?;
        self.processes(&mut bytes)?;
        let mut events = Vec::new();
        for _ in 0..bytes.size()? {
            events.push(bytes.bytes()?.to_vec());
        }
        let mut pass = None;
        if entry.head.flags & frame::PASS != 0 {
            if entry.head.flags & frame::KEY != 0 {
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

    /// Why interest sets could not be read, as a note.
    pub fn no_interest(&self) -> Option<String> {
        self.no_interest.clone()
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

    /// What happened since the window began.
    pub fn window(&mut self) -> Window {
        self.model.window()
    }

    /// As [`Replay::window`], in less room.
    pub fn samples(&mut self) -> Window<Sample> {
        self.model.window_of(Sample::new)
    }

    /// What the probes' runs took in the window; None where it was not measured.
    pub fn costs(&self) -> Option<Costs> {
        self.meter.as_ref().map(|meter| meter.window().clone())
    }

    /// Forgets what has ended, and begins the next window.
    pub fn begin(&mut self) {
        self.model.begin();
        if let Some(meter) = &mut self.meter {
            meter.begin();
        }
        self.base_missed = self.missed;
        self.started_at = self.now();
    }

    /// When the window began.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// When the last frame was written.
    pub fn now(&self) -> SystemTime {
        self.recording.time(self.now_ns)
    }

    /// Runs of probes that the kernel skipped in the window.
    pub fn missed(&self) -> u64 {
        self.missed.saturating_sub(self.base_missed)
    }

    /// Records that could not be read.
    pub fn damaged(&self) -> u64 {
        self.damaged + self.model.damaged()
    }

    /// CPU time that the recorder had taken, ns.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns
    }

    /// The frames after which a window may end, with their times, CLOCK_MONOTONIC ns; those of the first window on.
    pub fn passes(&self) -> Vec<(usize, u64)> {
        let entries = self.recording.entries();
        let first = entries.iter().position(|entry| entry.head.kind == frame::BEGIN).unwrap_or(0);
        let passes = entries.iter().enumerate().skip(first);
        let is_pass =
            |entry: &Entry| entry.head.kind == frame::READING && entry.head.flags & frame::PASS != 0;
        passes.filter(|(_, entry)| is_pass(entry)).map(|(i, entry)| (i, entry.head.monotonic_ns)).collect()
    }

    /// The next frame's number.
    pub fn position(&self) -> usize {
        self.next
    }

    /// The last frame before another one with which a window may end.
    pub fn pass_before(&self, frame: usize) -> usize {
        let is_pass =
            |entry: &Entry| entry.head.kind == frame::READING && entry.head.flags & frame::PASS != 0;
        self.recording.entries().get(..frame).unwrap_or_default().iter().rposition(is_pass).unwrap_or(0)
    }

    /// Goes to where a window begins after the pass in frame `before`, from the key reading before it. Instances get new
    /// numbers.
    ///
    /// # Errors
    /// A frame on the way is damaged.
    pub fn seek(&mut self, before: usize) -> Result<()> {
        let entries = self.recording.entries();
        let is_key = |entry: &Entry| entry.head.flags & frame::KEY != 0 && entry.head.kind == frame::READING;
        let key = entries.get(..=before).unwrap_or_default().iter().rposition(is_key).unwrap_or(0);
        // What /proc said stands before the key reading.
        let is_list = |entry: &Entry| entry.head.kind == frame::PROCESSES;
        let from = entries.get(..key).unwrap_or_default().iter().rposition(is_list).unwrap_or(0);
        self.model = Model::new(self.backlog);
        self.meter = None;
        self.unpacker.reset();
        self.next = from;
        while self.next <= before {
            if self.step()? == Step::End {
                break;
            }
        }
        let is_interest = |entry: &&Entry| entry.head.kind == frame::INTEREST;
        let read = self.recording.entries().get(..=before).unwrap_or_default();
        if let Some(entry) = read.iter().rfind(is_interest).copied() {
            let body = self.recording.body(&entry)?;
            self.interest(&mut Bytes(&body)).with_context(|| Damage::Frame(entry.at))?;
        }
        self.begun = true;
        self.begin();
        Ok(())
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
