//! Running one program of the plan, with its output on the console and a limit to its time. Must not wait for what the
//! program leaves behind.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result};
use rustix::{
    process::{Pid, Signal, WaitOptions, kill_process_group, wait},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};
use serde::Deserialize;

use super::say;

/// How often it is seen whether a step has ended.
const LOOK: Duration = Duration::from_millis(10);

/// One program to run.
#[derive(Deserialize)]
pub struct Step {
    name: String,
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Time after which it is ended, seconds.
    seconds: u64,
    /// Capabilities that it does not have, by their numbers.
    #[serde(default)]
    without: Vec<u32>,
    /// Its user, where that is not root.
    #[serde(default)]
    user: Option<u32>,
}

impl Step {
    /// Runs it to its end, or until its time is up.
    pub fn run(&self) -> Result<()> {
        say(&format!("@begin {}", self.name));
        let started = Instant::now();
        let mut command = self.command()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("start {}", self.arguments.join(" ")))?;
        // They end when the last process that holds the pipe does, which may be never.
        let output = child.stdout.take().map(|stream| thread::spawn(move || show("@out", stream)));
        let errors = child.stderr.take().map(|stream| thread::spawn(move || show("@err", stream)));
        let status = self.wait_for(child.id(), started)?;
        let end = Instant::now();
        while [&output, &errors].into_iter().flatten().any(|thread| !thread.is_finished())
            && end.elapsed() < Duration::from_secs(1)
        {
            thread::sleep(LOOK);
        }
        let status = match status {
            None => "timeout".to_owned(),
            Some(status) => {
                status.code().map_or_else(|| format!("signal-{:?}", status.signal()), |code| code.to_string())
            }
        };
        say(&format!("@end {} {status} {:.1}", self.name, started.elapsed().as_secs_f64()));
        Ok(())
    }

    /// The program itself, or this one where it is to have less than root has.
    fn command(&self) -> Result<Command> {
        let (program, arguments) = self.arguments.split_first().context("a step without a program")?;
        let mut command = if self.without.is_empty() && self.user.is_none() {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        } else {
            let without: Vec<String> = self.without.iter().map(u32::to_string).collect();
            let mut command = Command::new("/init");
            command
                .args(["as", &self.user.unwrap_or(0).to_string(), &without.join(",")])
                .args(&self.arguments);
            command
        };
        command.env_clear().envs([("PATH", "/bin"), ("HOME", "/root"), ("RUST_BACKTRACE", "0")]);
        command.envs(&self.environment);
        Ok(command)
    }

    /// Collects whatever ends, as the first process has to, until the step itself does. None: its time was up.
    fn wait_for(&self, child: u32, started: Instant) -> Result<Option<ExitStatus>> {
        let child = Pid::from_raw(child.cast_signed()).context("a process without a number")?;
        let mut in_time = true;
        loop {
            match wait(WaitOptions::NOHANG).context("wait for a process")? {
                Some((pid, status)) if pid == child => {
                    return Ok(in_time.then(|| ExitStatus::from_raw(status.as_raw())));
                }
                Some(_) => {}
                None => thread::sleep(LOOK),
            }
            if in_time && started.elapsed() > Duration::from_secs(self.seconds) {
                in_time = false;
                kill_process_group(child, Signal::KILL).context("end a step whose time is up")?;
            }
        }
    }
}

/// Copies a stream to the console by lines.
fn show(word: &str, stream: impl Read) {
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        say(&format!("{word} {}", String::from_utf8_lossy(&line)));
    }
}

/// `USER CAPABILITY,... PROGRAM ARGUMENTS...`: executes the program as that user without those capabilities.
pub fn become_another(arguments: &[String]) -> Error {
    let [user, without, program, arguments @ ..] = arguments else {
        return anyhow::anyhow!("as USER CAPABILITIES PROGRAM: too few words");
    };
    let less = || -> Result<Command> {
        for number in without.split(',').filter(|number| !number.is_empty()) {
            let capability = CapabilitySet::from_bits_retain(1 << number.parse::<u32>()?);
            remove_capability_from_bounding_set(capability)
                .with_context(|| format!("take capability {number} away"))?;
        }
        let mut command = Command::new(program);
        command.args(arguments);
        let user = user.parse::<u32>().context("read the user's number")?;
        if user != 0 {
            command.uid(user).gid(user);
        }
        Ok(command)
    };
    match less() {
        Ok(mut command) => Error::new(command.exec()).context(format!("execute {program}")),
        Err(error) => error,
    }
}
