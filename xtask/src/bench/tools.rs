//! What is measured: nothing, empty programs, loopscope, and the tools that people use instead.
//!
//! A tool is attached when its value is there, and detached when that is gone. Nothing here measures.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::started::{Output, Started};
use crate::{debian, process};

/// How long a tool may stay at most: it ends by itself should we not come to it.
const LONGEST: &str = "30m";

/// The calls that bpftrace's line is made for.
const TRACED: [&str; 3] = if cfg!(target_arch = "x86_64") {
    ["epoll_wait", "poll", "select"]
} else {
    ["epoll_pwait", "ppoll", "pselect6"]
};

/// tracefs in a mount namespace of bpftrace's own, where the host has not mounted it.
const TRACEFS: &str = "[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; ";

/// What can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    Bare,
    Empty,
    Tracepoint,
    Raw,
    Bpftrace,
    Strace,
}

impl Tool {
    /// Everything.
    pub const ALL: [Tool; 6] =
        [Tool::Bare, Tool::Empty, Tool::Tracepoint, Tool::Raw, Tool::Bpftrace, Tool::Strace];

    /// What readers see.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Bare => "bare",
            Tool::Empty => "empty tracepoints",
            Tool::Tracepoint => "loopscope, tracepoint",
            Tool::Raw => "loopscope, raw",
            Tool::Bpftrace => "bpftrace histogram",
            Tool::Strace => "strace -c",
        }
    }

    /// loopscope's name of the way, where it is loopscope.
    pub fn backend(self) -> Option<&'static str> {
        match self {
            Tool::Tracepoint => Some("tracepoint"),
            Tool::Raw => Some("raw"),
            _ => None,
        }
    }
}

/// Where the programs are, and which of them work here.
pub struct Tools {
    folder: PathBuf,
    /// What works here, in the order of [`Tool::ALL`].
    pub usable: Vec<Tool>,
    /// What does not, and why.
    pub left_out: Vec<String>,
}

/// Something attached; dropping it detaches.
pub struct Attached(Option<Started>);

impl Tools {
    /// Installs what is missing and tries everything once. Only what is not ours may be left out, and a backend.
    pub fn new(folder: PathBuf) -> Result<Tools> {
        println!("trying every tool once");
        need(&[("bpftrace", "bpftrace"), ("strace", "strace")])?;
        let mut tools = Tools { folder, usable: Vec::new(), left_out: Vec::new() };
        let followed = ready(tools.example("bench_calls", &[])?, Output::Out, "cpu")?;
        for tool in Tool::ALL {
            match tools.attach(tool, followed.pid()).and_then(Attached::detach) {
                Ok(_) => tools.usable.push(tool),
                Err(error) if matches!(tool, Tool::Raw | Tool::Bpftrace | Tool::Strace) => {
                    let why = format!("{}: left out: {error:#}", tool.name());
                    println!("  {why}");
                    tools.left_out.push(why);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(tools)
    }

    /// The backends of loopscope that work here.
    pub fn backends(&self) -> impl Iterator<Item = Tool> + '_ {
        self.usable.iter().copied().filter(|tool| tool.backend().is_some())
    }

    /// Attaches a tool and waits until it is; `pid` is whom strace follows, the others observe everybody.
    pub fn attach(&self, tool: Tool, pid: u32) -> Result<Attached> {
        Ok(Attached(match tool {
            Tool::Bare => None,
            Tool::Empty => Some(ready(self.example("bench_empty", &[])?, Output::Out, "attached")?),
            Tool::Tracepoint | Tool::Raw => Some(self.loopscope(tool, None)?),
            Tool::Bpftrace => {
                let arguments =
                    ["-m", "sh", "-c", &format!("{TRACEFS}exec bpftrace -e \"$0\""), &histogram()];
                Some(ready(Started::new("unshare", &arguments)?, Output::Out, "all attached")?)
            }
            Tool::Strace => {
                let strace = Started::new("strace", &["-c", "-f", "-p", &pid.to_string()])?;
                Some(ready(strace, Output::Err, "attached")?)
            }
        }))
    }

    /// `loopscope report` that watches, everybody or one process; its process is the agent itself.
    pub fn loopscope(&self, tool: Tool, only: Option<u32>) -> Result<Started> {
        let Some(backend) = tool.backend() else { bail!("{} is not loopscope", tool.name()) };
        let program = self.folder.join("loopscope");
        let only = only.map(|pid| pid.to_string());
        let mut arguments = vec!["report", "--duration", LONGEST, "--format", "json", "--backend", backend];
        arguments.extend(only.iter().flat_map(|pid| ["--pid", pid.as_str()]));
        ready(Started::new(&program.to_string_lossy(), &arguments)?, Output::Err, "watching")
    }

    /// One of the agent's examples.
    pub fn example(&self, name: &str, arguments: &[&str]) -> Result<Started> {
        Started::new(&self.folder.join("examples").join(name).to_string_lossy(), arguments)
    }
}

impl Attached {
    /// The process that holds it; None where there is none.
    pub fn pid(&self) -> Option<u32> {
        self.0.as_ref().map(Started::pid)
    }

    /// Detaches as a user would, and waits until that is done; what the tool printed.
    pub fn detach(self) -> Result<String> {
        match self.0 {
            Some(tool) => tool.interrupt(),
            None => Ok(String::new()),
        }
    }
}

/// Installs what is missing of (program, Debian package).
pub fn need(programs: &[(&str, &str)]) -> Result<()> {
    let missing = programs.iter().filter(|(program, _)| process::find(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        debian::install(&missing, "the benchmark compares with them or runs them")
    }
}

fn ready(mut started: Started, output: Output, text: &str) -> Result<Started> {
    started.wait_for(output, text)?;
    Ok(started)
}

/// The line that people write: one histogram of latencies per process. BEGIN's word is read when all is attached.
fn histogram() -> String {
    let probes: String = TRACED
        .iter()
        .map(|call| {
            format!(
                "tracepoint:syscalls:sys_enter_{call} {{ @s[tid] = nsecs }} \
                 tracepoint:syscalls:sys_exit_{call} /@s[tid]/ \
                 {{ @[comm] = hist(nsecs - @s[tid]); delete(@s[tid]) }} "
            )
        })
        .collect();
    format!("BEGIN {{ printf(\"all attached\\n\") }} {probes}")
}

#[cfg(test)]
impl Tools {
    /// These work, for tests that run none.
    pub fn already(usable: Vec<Tool>) -> Tools {
        Tools { folder: PathBuf::new(), usable, left_out: Vec::new() }
    }
}
