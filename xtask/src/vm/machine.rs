//! One boot in QEMU: starts it, reads its console, and ends it when it is done, panics, stalls or takes too long.
//!
//! Always by software emulation, so that it is the same on machines with and without virtualisation. Must not judge
//! what the steps printed.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::Arch;

/// From the start of QEMU to the first step: 5 s on a quiet machine, ten times that on a busy one.
const BOOT: Duration = Duration::from_secs(120);
/// What the kernel prints when it is lost.
const ENDS: [&str; 5] = ["Kernel panic", "soft lockup", "self-detected stall", "rcu: INFO: rcu", "Oops:"];
/// How long a lost kernel may be silent before it has said all.
const TRACE: Duration = Duration::from_secs(2);

/// What is booted.
pub struct Machine<'a> {
    pub arch: Arch,
    pub kernel: &'a Path,
    pub memory: &'a Path,
    /// Parameters of the kernel beside those that every boot has.
    pub parameters: &'a str,
    /// Where the console is written to.
    pub log: &'a Path,
    /// Whether it is printed too.
    pub shown: bool,
}

/// What a step left.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    pub name: String,
    /// Exit code, `signal-N` or `timeout`.
    pub status: String,
    pub seconds: f64,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

/// A boot that came to its end.
pub struct Boot {
    pub steps: Vec<Ended>,
    pub took: Duration,
}

impl Machine<'_> {
    /// Boots it and runs the plan that is in its memory, whose steps take `limit` together at most.
    pub fn run(&self, limit: Duration) -> Result<Boot> {
        let started = Instant::now();
        let mut child = Ends(self.qemu().spawn().context("start QEMU")?);
        let console = child.0.stdout.take().context("read QEMU's console")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(console).split(b'\n').map_while(Result::ok);
            lines
                .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
                .try_for_each(|line| sender.send(line))
        });
        let mut log = File::create(self.log).with_context(|| format!("write {}", self.log.display()))?;
        let mut steps: Vec<Ended> = Vec::new();
        let until = started + BOOT + limit;
        loop {
            let line = match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("it did not end within {:?}: {}", BOOT + limit, self.see())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("it ended before its steps did: {}", self.see()),
            };
            writeln!(log, "{:8.2} {line}", started.elapsed().as_secs_f64())?;
            if self.shown {
                println!("    {line}");
            }
            if let Some(end) = ENDS.iter().find(|end| line.contains(**end)) {
                // What it was doing follows.
                while let Ok(line) = lines.recv_timeout(TRACE) {
                    writeln!(log, "{:8.2} {line}", started.elapsed().as_secs_f64())?;
                }
                bail!("the kernel says \"{end}\": {}", self.see());
            }
            // The kernel may have begun a line of its own.
            let Some((_, said)) = line.split_once('@') else { continue };
            let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
            match (word, steps.last_mut()) {
                ("begin", _) => steps.push(Ended { name: rest.to_owned(), ..Ended::default() }),
                ("out", Some(step)) => step.stdout.push(rest.to_owned()),
                ("err", Some(step)) => step.stderr.push(rest.to_owned()),
                ("end", Some(step)) => step.end(rest)?,
                ("done", _) => return Ok(Boot { steps, took: started.elapsed() }),
                ("failed", _) => bail!("its first process failed: {rest}"),
                _ => {}
            }
        }
    }

    fn see(&self) -> String {
        format!("see {}", self.log.display())
    }

    fn qemu(&self) -> Command {
        let mut command = Command::new(self.arch.qemu());
        command.args(self.arch.qemu_arguments());
        // One thread for both processors: with one each, QEMU 7.2 at times runs a breakpoint that the kernel has already taken
        // out of its code again ("Oops: int3" in syscall_trace_enter, once in some hundred attachments and detachments).
        command.args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "2048"]);
        command.args(["-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot"]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.memory);
        let console = self.arch.console();
        command.arg("-append").arg(format!("console={console} panic=-1 quiet {}", self.parameters));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

impl Ended {
    /// `NAME STATUS SECONDS`.
    fn end(&mut self, rest: &str) -> Result<()> {
        let mut words = rest.rsplit(' ');
        let seconds = words.next().and_then(|word| word.parse().ok());
        self.seconds = seconds.with_context(|| format!("read the end of a step in {rest:?}"))?;
        self.status = words.next().unwrap_or_default().to_owned();
        Ok(())
    }

    /// Whether it ended with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.status == "0"
    }
}

/// A QEMU that ends with the value.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // Our own child, not waited for yet, so the number is still its own; an error says that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
