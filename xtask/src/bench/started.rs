//! Processes that the benchmark starts, and ends whatever happens.
//!
//! Only ever signals the process that it started itself and has not reaped, so that the id is still its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::process;

/// How long anything may take that is not given a time: a verifier, a server's start, an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a process may take to end before it is killed.
const FAREWELL: Duration = Duration::from_secs(20);

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Out,
    Err,
}

/// A process of ours. Dropped before it ended, it is asked to end and then killed.
pub struct Started {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    coming: Receiver<(Output, String)>,
    seen: Vec<(Output, String)>,
}

impl Started {
    /// Starts it. It ends with us too when we are killed, by setpriv(1) where there is one.
    pub fn new(program: &str, arguments: &[&str]) -> Result<Started> {
        let mut command = match process::find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "TERM", "--", program]);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {program}"))?;
        let (sender, coming) = channel();
        if let Some(out) = child.stdout.take() {
            pass_on(out, Output::Out, sender.clone());
        }
        if let Some(err) = child.stderr.take() {
            pass_on(err, Output::Err, sender);
        }
        let input = child.stdin.take();
        let name = program.rsplit('/').next().unwrap_or(program).to_owned();
        Ok(Started { name, child, input, coming, seen: Vec::new() })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line with `text` in it.
    pub fn wait_for(&mut self, output: Output, text: &str) -> Result<String> {
        let wanted = |from: Output, line: &str| from == output && line.contains(text);
        if let Some(line) = self.read_until(PATIENCE, wanted) {
            return Ok(line);
        }
        let said = self.said();
        bail!("{} ended or is too slow; `{text}` was expected: {said}", self.name)
    }

    /// Writes a line to it.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().with_context(|| format!("{} listens no more", self.name))?;
        writeln!(input, "{line}")
            .and_then(|()| input.flush())
            .with_context(|| format!("write to {}", self.name))
    }

    /// Writes a line to it and takes the line that it answers.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line)?;
        self.wait_for(Output::Out, "")
    }

    /// Closes its stdin, waits until it ends by itself, and takes what it printed to stdout.
    pub fn finish(mut self, within: Duration) -> Result<String> {
        self.input = None;
        self.output(within)
    }

    /// Sends it SIGINT as Ctrl-C would, waits until it has ended, and takes what it printed to stdout.
    ///
    /// Again each second: bpftrace 0.17 takes no notice of a signal that comes while it is not waiting.
    pub fn interrupt(mut self) -> Result<String> {
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            self.signal("INT")?;
            if self.ended_by(Instant::now() + Duration::from_secs(1)) {
                break;
            }
        }
        self.output(FAREWELL)
    }

    /// Waits for its end; an end that is no success is an error. SIGINT is the usual end of some.
    fn output(&mut self, within: Duration) -> Result<String> {
        // Both outputs close when it ends.
        if self.read_until(within, |_, _| false).is_none() && !self.ended_by(Instant::now() + FAREWELL) {
            bail!("{} does not end", self.name);
        }
        let status = self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        if status.code().is_some_and(|code| code != 0 && code != 130) {
            let said = self.said();
            bail!("{}: {status}: {said}", self.name);
        }
        Ok(self.text(Output::Out))
    }

    /// Reads lines until the one that is wanted; None at the end of its outputs, or of the time.
    fn read_until(&mut self, within: Duration, wanted: impl Fn(Output, &str) -> bool) -> Option<String> {
        let deadline = Instant::now() + within;
        loop {
            match self.coming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((output, line)) => {
                    self.seen.push((output, line.clone()));
                    if wanted(output, &line) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return None,
            }
        }
    }

    /// What it printed so far, one output.
    fn text(&self, output: Output) -> String {
        let lines = self.seen.iter().filter(|(from, _)| *from == output).map(|(_, line)| line.as_str());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The last of what it printed, for an error.
    pub fn said(&mut self) -> String {
        self.seen.extend(self.coming.try_iter());
        let lines: Vec<&str> =
            self.seen.iter().map(|(_, line)| line.trim()).filter(|line| !line.is_empty()).collect();
        lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ")
    }

    fn signal(&self, name: &str) -> Result<()> {
        // The shell's own kill: no package has to be there for it.
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid())]).status();
        status.map(drop).with_context(|| format!("signal {}", self.name))
    }

    fn ended_by(&mut self, deadline: Instant) -> bool {
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
                _ => return false,
            }
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.input = None;
        if let Ok(None) = self.child.try_wait() {
            // A server ends its workers when it is asked to end, and leaves them behind when it is killed.
            let _ = self.signal("TERM");
            if !self.ended_by(Instant::now() + FAREWELL) {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

/// Passes on the lines of an output until it ends or nobody listens.
fn pass_on(output: impl Read + Send + 'static, which: Output, to: Sender<(Output, String)>) {
    thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.take_while(|line| to.send((which, line.clone())).is_ok()).for_each(drop);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_line_by_line() {
        let mut cat = Started::new("cat", &[]).unwrap();
        assert_eq!(cat.ask("one").unwrap(), "one");
        assert_eq!(cat.ask("two").unwrap(), "two");
        assert_eq!(cat.finish(PATIENCE).unwrap(), "one\ntwo");
    }

    #[test]
    fn a_failure_says_what_was_printed() {
        let mut shell = Started::new("sh", &["-c", "echo no good >&2; exit 3"]).unwrap();
        assert!(shell.wait_for(Output::Out, "ready").unwrap_err().to_string().contains("no good"));
        let shell = Started::new("sh", &["-c", "exit 3"]).unwrap();
        assert!(shell.finish(PATIENCE).is_err());
    }

    #[test]
    fn what_is_dropped_has_ended() {
        let sleep = Started::new("sleep", &["1000"]).unwrap();
        let proc = std::path::PathBuf::from(format!("/proc/{}", sleep.pid()));
        assert!(proc.exists());
        drop(sleep);
        assert!(!proc.exists());
    }
}
