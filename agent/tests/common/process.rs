//! `loopscope report` and the workload as processes of a test.
//!
//! Must not wait for ever for either: a process that does not answer fails the test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{PATIENCE, agent, until, workload_program};

/// A process and the lines that it prints, each stream read by a thread so that no pipe fills.
struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// The lines of a stream.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exited(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Our own child, not waited for yet, so the id is still its own; an error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process left.
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// The lines on stdout.
    pub stdout: Vec<String>,
    /// The lines on stderr, but for those that were read before.
    pub stderr: Vec<String>,
}

/// A `loopscope report --format json` that is watching.
pub struct Report {
    running: Running,
    /// From the start of the process to the line `watching`.
    pub start_time: Duration,
}

impl Report {
    /// Starts one, for longer than any test, and waits until it watches. LOOPSCOPE_TEST_BACKEND names another way of
    /// attaching than the agent would take.
    pub fn start(args: &[&str]) -> Report {
        let mut command = agent(&["report", "--standalone", "--duration", "10m", "--format", "json"]);
        if let Some(backend) = std::env::var_os("LOOPSCOPE_TEST_BACKEND") {
            command.arg("--backend").arg(backend);
        }
        Self::run(command.args(args))
    }

    /// As [`Report::start`], by another command line.
    pub fn run(command: &mut Command) -> Report {
        let start = Instant::now();
        let running = Running::start(command);
        let mut before = Vec::new();
        loop {
            let line = running.stderr.recv_timeout(PATIENCE);
            let Ok(line) = line else { panic!("report does not watch: {line:?} after {before:?}") };
            if line == "watching" {
                return Report { running, start_time: start.elapsed() };
            }
            before.push(line);
        }
    }

    /// The agent's process id.
    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Stops it while something is done, and lets it go on.
    pub fn asleep(&self, work: impl FnOnce()) {
        self.running.signal(Signal::STOP);
        work();
        self.running.signal(Signal::CONT);
    }

    /// Sends a signal and collects what comes of it.
    pub fn signal(mut self, signal: Signal) -> Ended {
        self.running.signal(signal);
        let status = self.running.exited();
        Ended {
            status,
            stdout: self.running.stdout.iter().collect(),
            stderr: self.running.stderr.iter().collect(),
        }
    }

    /// Ends it as Ctrl-C does; what it has seen.
    pub fn stop(self) -> Value {
        let ended = self.signal(Signal::INT);
        assert!(ended.status.success(), "{}: {:?}", ended.status, ended.stderr);
        assert_eq!(ended.stderr, Vec::<String>::new());
        assert_eq!(ended.stdout.len(), 1, "one object on one line");
        serde_json::from_str(&ended.stdout[0]).unwrap()
    }
}

/// A workload that runs, or has done its work and stays.
pub struct Workload {
    running: Running,
    stdin: Option<ChildStdin>,
}

impl Workload {
    /// Starts one, by the words of its command line. A first word `NAME=` names the process.
    pub fn start(words: &str) -> Workload {
        match words.split_once("= ") {
            None => Self::spawn(&mut Command::new(workload_program()), words),
            Some((name, words)) => {
                // The kernel takes the name from the path that is executed.
                static LINKS: AtomicU32 = AtomicU32::new(0);
                let number = LINKS.fetch_add(1, Ordering::Relaxed);
                let link = std::env::temp_dir().join(format!("loopscope-{}-{number}", std::process::id()));
                std::fs::create_dir_all(&link).unwrap();
                let link = link.join(name);
                std::os::unix::fs::symlink(workload_program(), &link).unwrap();
                let workload = Self::spawn(&mut Command::new(&link), words);
                std::fs::remove_dir_all(link.parent().unwrap()).unwrap();
                workload
            }
        }
    }

    fn spawn(command: &mut Command, words: &str) -> Workload {
        let mut running = Running::start(command.args(words.split(' ')).stdin(Stdio::piped()));
        let stdin = running.child.stdin.take();
        Workload { running, stdin }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// The next object that it prints.
    pub fn said(&self) -> Value {
        self.said_within(PATIENCE).unwrap_or_else(|| {
            let errors: Vec<String> = self.running.stderr.try_iter().collect();
            panic!("the workload says nothing: {errors:?}")
        })
    }

    /// As [`Workload::said`], if it comes soon enough.
    pub fn said_within(&self, time: Duration) -> Option<Value> {
        let line = self.running.stdout.recv_timeout(time).ok()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Sends it a line.
    pub fn tell(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// Kills it, and waits for its end.
    pub fn kill(mut self) {
        self.running.signal(Signal::KILL);
        self.running.exited();
    }

    /// Lets it end, and waits for it.
    pub fn finish(mut self) {
        self.stdin = None;
        let status = self.running.exited();
        assert!(status.success(), "{status}: {:?}", self.running.stderr.iter().collect::<Vec<_>>());
    }
}
