//! The writing side: takes what a reading of the probes gives, and writes it as one frame.
//!
//! An error of the output ends the recording, not the watching: it is kept until somebody asks.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use super::{
    delta::Packer,
    format::{self, Attached, Filtered, Head, ProbeNote, frame},
    output::Output,
    redact::Tokens,
    scrub,
    varint::{put, put_bytes},
};
use crate::{
    identity::Process,
    kernel::{ProbeState, RunTime},
    report::host::Host,
};

/// Passes between two key readings.
const KEY_EVERY: u32 = 60;

/// What bounds a recording.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes that all its files may have together: at half of it the file is begun anew, and the one before is kept as
    /// FILE.1.
    pub bytes: Option<u64>,
    /// Names, paths and addresses become tokens.
    pub redact: bool,
}

/// Writes a recording.
pub struct Recorder {
    output: Output,
    limits: Limits,
    head: Head,
    probes: Vec<u8>,
    tokens: Option<Tokens>,
    /// Secret by which kernel addresses are moved.
    distance: u64,
    error: Option<String>,
    packer: Packer,
    /// Passes until the next key reading.
    until_key: u32,
    /// What /proc said of each process that was asked for.
    processes: BTreeMap<u32, Vec<u8>>,
    reading: Reading,
}

/// What belongs to the next frame.
#[derive(Default)]
struct Reading {
    pass: Option<Vec<u8>>,
    run_times: Option<Vec<u8>>,
    events: Vec<Vec<u8>>,
    processes: Vec<(u32, Vec<u8>)>,
}

impl Recorder {
    /// Makes the file.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub fn create(path: &Path, limits: Limits, filtered: Filtered) -> io::Result<Recorder> {
        let mut recorder = Recorder::new(Output::create(path)?, limits, filtered);
        recorder.begin_file()?;
        Ok(recorder)
    }

    /// A recording that is fetched frame by frame, beginning with [`Recorder::opening`].
    pub fn feed() -> Recorder {
        Recorder::new(Output::Feed(Vec::new()), Limits::default(), Filtered::default())
    }

    fn new(output: Output, limits: Limits, filtered: Filtered) -> Recorder {
        let tokens = limits.redact.then(Tokens::default);
        let host = Host::this();
        let name = |text: String| tokens.as_ref().map_or(text.clone(), |tokens| tokens.token(&text));
        let head = Head {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            host: name(host.name),
            kernel: host.kernel,
            arch: host.arch,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            layout: format::layout(),
            redacted: limits.redact,
            filtered,
            pid: std::process::id(),
            ..Head::default()
        };
        let secret = Tokens::default().token("distance");
        let secret = u64::from_str_radix(secret.trim_start_matches('x'), 16).unwrap_or(1);
        Recorder {
            output,
            limits,
            head,
            probes: Vec::new(),
            tokens,
            // By pages, over some 16 TB.
            distance: secret << 12,
            error: None,
            packer: Packer::default(),
            until_key: 0,
            processes: BTreeMap::new(),
            reading: Reading::default(),
        }
    }

    /// What stands before the frames of a feed: head and probes. `narrowed`: they see some processes alone. The next pass
    /// is a key reading.
    pub fn opening(&mut self, narrowed: bool) -> Option<Arc<[u8]>> {
        (self.head.wall_ns, self.head.monotonic_ns) = (nanoseconds(SystemTime::now()), monotonic_ns());
        self.head.narrowed = narrowed;
        self.until_key = 0;
        let probes = format::frame(frame::PROBES, 0, monotonic_ns(), &self.probes)?;
        Some([format::head(&self.head)?, probes].concat().into())
    }

    /// What is known of the processes whose threads are not new to the next pass.
    pub fn know(&mut self, processes: BTreeMap<u32, Arc<Process>>) {
        let texts = processes.into_iter().map(|(pid, process)| (pid, self.said(&process)));
        self.processes = texts.collect();
    }

    /// The frames of a feed since this was called last.
    pub fn fetch(&mut self) -> Vec<Arc<[u8]>> {
        if let Output::Feed(frames) = &mut self.output { std::mem::take(frames) } else { Vec::new() }
    }

    /// How the probes are attached, and whether they measure ready lists.
    pub fn probes(&mut self, probes: &[ProbeState], backlog: bool) {
        let probes = probes
            .iter()
            .map(|state| ProbeNote {
                name: state.probe.name().to_owned(),
                attempts: (state.attempts.iter())
                    .map(|attempt| (attempt.backend.to_owned(), attempt.error.clone()))
                    .collect(),
            })
            .collect();
        self.probes = serde_json::to_vec(&Attached { probes, backlog }).unwrap_or_default();
        let body = self.probes.clone();
        self.write(frame::PROBES, 0, &body);
    }

    /// All records of a pass.
    pub fn pass(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut rest = &mut bytes[..];
        while let Some(size) = loopscope_probe::Head::read(rest).map(|head| head.size as usize)
            && size > 0
            && let Some((record, behind)) = std::mem::take(&mut rest).split_at_mut_checked(size)
        {
            self.clean(record);
            rest = behind;
        }
        self.reading.pass = Some(bytes);
    }

    /// What the kernel measured of the programs, at a pass; None where it measures nothing.
    pub fn run_times(&mut self, read: Option<&[RunTime]>) {
        self.reading.run_times = read.and_then(|read| serde_json::to_vec(read).ok());
    }

    /// A record of the ring buffer.
    pub fn event(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        self.clean(&mut bytes);
        self.reading.events.push(bytes);
    }

    /// What /proc said of a process, when it was asked.
    pub fn process(&mut self, pid: u32, process: &Arc<Process>) {
        let said = self.said(process);
        self.reading.processes.push((pid, said));
    }

    fn said(&self, process: &Process) -> Vec<u8> {
        let mut value = serde_json::to_value(process).unwrap_or(Value::Null);
        if let Some(tokens) = &self.tokens {
            tokens.json(&mut value);
        }
        value.to_string().into_bytes()
    }

    /// Ends a reading, and writes it. `missed`: runs of probes that the kernel has skipped so far.
    pub fn commit(&mut self, missed: u64) {
        let cpu_ns = nanoseconds_of(ClockId::ProcessCPUTime);
        let reading = std::mem::take(&mut self.reading);
        if reading.pass.is_none() && reading.events.is_empty() && reading.processes.is_empty() {
            return;
        }
        let (mut flags, mut anew) = (0, false);
        if reading.pass.is_some() {
            flags |= frame::PASS;
            anew = self.is_full() && self.rotate();
            if anew || self.until_key == 0 {
                flags |= frame::KEY;
                self.until_key = KEY_EVERY;
                self.packer.reset();
                self.write_processes();
            }
            self.until_key -= 1;
        }
        if let Some(run_times) = &reading.run_times {
            self.write(frame::RUN_TIMES, 0, run_times);
        }
        let mut body = Vec::new();
        put(&mut body, missed);
        put(&mut body, cpu_ns);
        put(&mut body, reading.processes.len() as u64);
        for (pid, process) in reading.processes {
            put(&mut body, u64::from(pid));
            put_bytes(&mut body, &process);
            self.processes.insert(pid, process);
        }
        put(&mut body, reading.events.len() as u64);
        reading.events.iter().for_each(|event| put_bytes(&mut body, event));
        if let Some(pass) = &reading.pass {
            self.packer.pack(pass, &mut body);
            self.forget(pass);
        }
        self.write(frame::READING, flags, &body);
        if anew {
            self.begin(SystemTime::now());
        }
    }

    /// Interest sets as they were read, or why they were not.
    pub fn interest(&mut self, read: Result<Vec<Vec<u8>>, &anyhow::Error>) {
        let mut body = Vec::new();
        match read {
            Ok(chunks) => {
                put(&mut body, 1);
                put(&mut body, chunks.len() as u64);
                for mut chunk in chunks {
                    scrub::chunk(&mut chunk, self.distance, self.tokens.is_none());
                    put_bytes(&mut body, &chunk);
                }
            }
            Err(error) => {
                put(&mut body, 0);
                put_bytes(&mut body, format!("{error:#}").as_bytes());
            }
        }
        self.write(frame::INTEREST, 0, &body);
    }

    /// The addresses of listening sockets that several of these sets have: each by a process and its descriptor.
    pub fn listeners<'a>(&mut self, listeners: impl ExactSizeIterator<Item = (u32, u32, &'a str)>) {
        let mut body = Vec::new();
        put(&mut body, listeners.len() as u64);
        for (tgid, fd, address) in listeners {
            put(&mut body, tgid.into());
            put(&mut body, fd.into());
            let token = self.tokens.as_ref().map(|tokens| tokens.token(address));
            put_bytes(&mut body, token.as_deref().unwrap_or(address).as_bytes());
        }
        self.write(frame::LISTENERS, 0, &body);
    }

    /// A report's window begins.
    pub fn begin(&mut self, at: SystemTime) {
        let ns = nanoseconds(at);
        self.write(frame::BEGIN, 0, &ns.to_le_bytes());
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// Why it could not be written to the end.
    pub fn finish(mut self) -> Result<u64, String> {
        self.write(frame::END, 0, &[]);
        if self.error.is_none()
            && let Err(error) = self.output.sync()
        {
            self.fail(&error);
        }
        let written = self.output.written();
        self.error.map_or(Ok(written), Err)
    }

    /// Why nothing is written any more.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    fn clean(&self, record: &mut [u8]) {
        scrub::record(record, self.distance);
        if let Some(tokens) = &self.tokens {
            tokens.record(record);
        }
    }

    /// Processes that no record of a pass names have gone.
    fn forget(&mut self, pass: &[u8]) {
        if self.until_key + 1 != KEY_EVERY {
            return;
        }
        let mut here = std::collections::HashSet::new();
        let mut rest = pass;
        while let Some(head) = loopscope_probe::Head::read(rest) {
            here.insert(head.tgid);
            rest = match rest.get(head.size as usize..) {
                Some(behind) if head.size > 0 => behind,
                _ => break,
            };
        }
        self.processes.retain(|pid, _| here.contains(pid));
    }

    fn write_processes(&mut self) {
        let mut body = Vec::new();
        put(&mut body, self.processes.len() as u64);
        for (pid, process) in &self.processes {
            put(&mut body, u64::from(*pid));
            put_bytes(&mut body, process);
        }
        self.write(frame::PROCESSES, 0, &body);
    }

    /// Whether the file has its half of what all may have.
    fn is_full(&self) -> bool {
        self.error.is_none() && self.limits.bytes.is_some_and(|bytes| self.output.written() >= bytes / 2)
    }

    /// Keeps the file under another name and begins it anew; whether that could be done.
    fn rotate(&mut self) -> bool {
        self.write(frame::END, 0, &[]);
        let begun = self.output.rotate().and_then(|()| {
            self.head.part += 1;
            self.begin_file()
        });
        if let Err(error) = begun {
            self.fail(&error);
            return false;
        }
        let body = self.probes.clone();
        self.write(frame::PROBES, 0, &body);
        true
    }

    /// Writes the head of a file.
    fn begin_file(&mut self) -> io::Result<()> {
        (self.head.wall_ns, self.head.monotonic_ns) = (nanoseconds(SystemTime::now()), monotonic_ns());
        let bytes = format::head(&self.head).ok_or_else(|| io::Error::other("the head is too long"))?;
        self.output.write(bytes)
    }

    fn write(&mut self, kind: u8, flags: u8, body: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let Some(bytes) = format::frame(kind, flags, monotonic_ns(), body) else {
            self.error = Some(format!("a reading of {} bytes is too long for a recording", body.len()));
            return;
        };
        if let Err(error) = self.output.write(bytes) {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.error = Some(format!(
            "cannot write {}: {error}; what was written before can be replayed",
            self.output.name()
        ));
    }
}

/// CLOCK_MONOTONIC now.
fn monotonic_ns() -> u64 {
    nanoseconds_of(ClockId::Monotonic)
}

fn nanoseconds_of(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.cast_unsigned().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.cast_unsigned())
}

fn nanoseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).ok().and_then(|time| time.as_nanos().try_into().ok()).unwrap_or(0)
}
