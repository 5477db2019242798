//! The command line's definition: commands, options, their help, units and defaults.
//!
//! Values are checked as far as their text goes; whether a process or a control group exists is for the
//! command that uses it.

mod exporter;
mod fleet;
mod inspected;
mod readings;
mod recordings;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{Failure, duration};
use crate::{
    report::{Format, expect::Condition, group::Grouping},
    tui::columns,
};

pub use exporter::{AgentArgs, Series};
pub use fleet::Fleet;
pub use inspected::InspectArgs;
pub use readings::{Readings, SocketPath};
pub use recordings::{CompareArgs, RecordArgs, TableOrJson};

/// The most bytes that the kernel keeps of a process's name.
const COMM_BYTES: usize = 15;

/// The highest process id that Linux gives (PID_MAX_LIMIT).
const PID_MAX: i64 = 1 << 22;

/// Sees, from the kernel, what every event loop on this host is doing
///
/// loopscope watches the waiting calls (epoll_wait and its kin) of all programs with eBPF probes and shows
/// for every event loop whether it waits, works, stalls or spins. The watched programs need no change and no
/// restart. It needs root; of root's capabilities, CAP_BPF and CAP_PERFMON.
#[derive(Debug, Parser)]
#[command(
    name = "loopscope",
    version,
    arg_required_else_help = false,
    max_term_width = 100,
    after_long_help = "Examples:
  loopscope check                            what this kernel allows
  loopscope top                              every event loop of this host, live
  loopscope report                           the same as a report, over 10 seconds
  loopscope report --pid 812 --duration 1m   one process, for a minute

Exit codes: 0 done; 1 could not do it; 2 bad input, nothing started."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what every event loop does, live
    Top(TopArgs),
    /// Watch for a while, then print what every event loop did
    Report(ReportArgs),
    /// Keep everything that the probes tell in a file, for every view to replay
    Record(RecordArgs),
    /// Show what this kernel allows: each probe, the way it is attached, and what is lost without it
    Check(CheckArgs),
    /// Show what differs between two reports or recordings
    Compare(CompareArgs),
    /// Serve what every event loop does as metrics, for Prometheus
    Agent(AgentArgs),
    /// Watch one process, then print its epoll instances: each watched descriptor, what it is, and its events
    Inspect(InspectArgs),
    /// Print the completion script of a shell
    #[command(after_long_help = "Examples:
  loopscope completions bash > /etc/bash_completion.d/loopscope
  loopscope completions zsh > ~/.zfunc/_loopscope")]
    Completions {
        /// The shell that reads the script
        shell: Shell,
    },
    /// Print the manual page (roff)
    #[command(after_long_help = "Examples:
  loopscope man > /usr/local/share/man/man8/loopscope.8")]
    Man,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  loopscope report                                  every event loop, for 10 seconds
  loopscope report --duration 1m --comm 'nginx*'    all nginx processes, for a minute
  loopscope report --cgroup /system.slice --format json | jq '.loops[] | select(.utilization > 0.8)'
  loopscope report --duration 500ms --format csv > loops.csv
  loopscope report -- ./server --once               a command and its children, until it ends
  loopscope report --fail-if 'busy_seconds.p99>50ms'     exit code 1 where a loop was slower
  loopscope report --replay night.loopscope         a recording, without root

A filter that is given several times takes any of its values; different filters must all match.
Prints 'watching' on stderr as soon as every probe is attached. Ctrl-C ends early with what was seen.")]
pub struct ReportArgs {
    /// How long to watch: 500ms, 10s, 2m; a bare number is seconds; at most 30d [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true,
          conflicts_with = "command")]
    pub duration: Option<Duration>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Exit with 1, and name the rows, where one meets this condition: a field of --format csv, > >= < <= == or !=, and a
    /// number with a unit; repeatable
    #[arg(long, value_name = "CONDITION", value_parser = Condition::parse)]
    pub fail_if: Vec<Condition>,
    /// Keep what is seen in this file, as record does
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<PathBuf>,
    /// Report on a recording instead of this host; needs no root
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "command"])]
    pub replay: Option<PathBuf>,
    /// Where readings come from.
    #[command(flatten)]
    pub readings: Readings,
    /// Which waiters to watch.
    #[command(flatten)]
    pub filters: Filters,
    /// How to reach the kernel.
    #[command(flatten)]
    pub kernel: Kernel,
    /// Run this command and watch it and its children, until it ends; exits with its code. With --format json or csv
    /// its standard output goes to stderr
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  loopscope top                                     every event loop; ? shows the keys
  loopscope top --comm 'nginx*' --sort WAITS/s
  loopscope top -b -n 3 --format json               three windows for a script, without a terminal
  loopscope top --replay night.loopscope --speed 10
  loopscope top --from http://prometheus:9090       all hosts that it scrapes agents of

Colours go where NO_COLOR is set. Rows that ended stay, marked, for five windows.")]
pub struct TopArgs {
    /// Length of a window: 500ms, 1s, 1m; a bare number is seconds [default: 1s; 5s with --from, between two polls]
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    pub interval: Option<Duration>,
    /// Print frames on stdout instead of taking the terminal over
    #[arg(short, long)]
    pub batch: bool,
    /// End after so many windows
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
    /// Form of the frames that --batch prints: json is one report a line, csv has one header; both have a row per thread
    #[arg(long, value_enum, default_value_t, requires = "batch")]
    pub format: Format,
    /// Sort by the column of this header
    #[arg(long, value_name = "COLUMN", default_value = "UTIL", value_parser = parse_column)]
    pub sort: usize,
    /// What a row is
    #[arg(long, value_enum, value_name = "ROWS", default_value_t)]
    pub group: Grouping,
    /// Show a recording instead of this host; needs no root
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Where readings come from.
    #[command(flatten)]
    pub readings: Readings,
    /// Seconds of the recording per second, 0.0625 to 256
    #[arg(long, value_name = "N", default_value_t = 1.0, requires = "replay")]
    pub speed: f64,
    /// A server that knows many hosts.
    #[command(flatten)]
    pub fleet: Fleet,
    /// Which waiters to watch.
    #[command(flatten)]
    pub filters: Filters,
    /// How to reach the kernel.
    #[command(flatten)]
    pub kernel: Kernel,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  loopscope check                                   can the main job be done here, and how
  loopscope check --format json | jq .main_job      the same for a script
  loopscope check --backend tracepoint              only that way

Exit codes: 0 the main job can be done; 1 it cannot.")]
pub struct CheckArgs {
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// How to reach the kernel.
    #[command(flatten)]
    pub kernel: Kernel,
}

/// Which waiters to watch. Each option may be given several times and then takes any of its values; different
/// options must all match. None: every waiter of the host.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// Only this process: its id as the host counts, all its threads, not its children; repeatable
    #[arg(long = "pid", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=PID_MAX))]
    pub pids: Vec<u32>,
    /// Only processes of this name (at most 15 bytes, as in /proc/PID/comm); * ? [..] {a,b} match; repeatable
    #[arg(long = "comm", value_name = "GLOB", value_parser = parse_comm)]
    pub comms: Vec<Glob>,
    /// Only this control group and those below it: a path as in /proc/PID/cgroup, or one below
    /// /sys/fs/cgroup; repeatable
    #[arg(long = "cgroup", value_name = "PATH", value_parser = parse_cgroup)]
    pub cgroups: Vec<PathBuf>,
}

impl Kernel {
    /// Nothing was asked for that is settled where probes are attached.
    pub fn is_default(&self) -> bool {
        self.backend == Backend::Auto
            && self.btf.is_none()
            && self.probe_log == ProbeLog::Off
            && !self.no_backlog
            && !self.probe_stats
    }
}

impl Filters {
    /// No filter was given.
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.comms.is_empty() && self.cgroups.is_empty()
    }

    /// What a process's name is matched against; None where any name will do.
    ///
    /// # Errors
    /// [`Failure::bad_input`] where the patterns together are too large to compile.
    pub fn comm_matcher(&self) -> Result<Option<GlobSet>, Failure> {
        compile("--comm", &self.comms)
    }
}

/// One matcher of several patterns; None where there are none.
fn compile(option: &str, globs: &[Glob]) -> Result<Option<GlobSet>, Failure> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    let refused = |error| Failure::bad_input(format!("{option}: {error}; use shorter patterns"));
    set.build().map(Some).map_err(refused)
}

/// How to reach the kernel.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Kernel")]
pub struct Kernel {
    /// How to attach the probes; auto takes the best way that works here
    #[arg(long, value_enum, value_name = "WAY", default_value_t)]
    pub backend: Backend,
    /// Read the kernel's types (BTF) from this file instead of /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// Print the probes' own diagnostics down to this level, on stderr
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    pub probe_log: ProbeLog,
    /// Do not measure the length of ready lists at the entry of epoll waits
    #[arg(long)]
    pub no_backlog: bool,
    /// Have the kernel measure what the probes' runs take (probes[].run_seconds, loopscope_probe_run_seconds_total); takes
    /// CAP_SYS_ADMIN, and makes every BPF program of this host a little slower meanwhile
    #[arg(long)]
    pub probe_stats: bool,
    /// Keep every capability and all else that is given up once the probes are attached: for debugging alone
    #[arg(long)]
    pub no_confine: bool,
}

/// A way of attaching the probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best that works here
    #[default]
    Auto,
    /// Programs on the functions of single system calls: of the whole host, no other call pays
    Fentry,
    /// Tracepoints of single system calls
    Tracepoint,
    /// Tracepoints of all system calls
    Raw,
}

impl Backend {
    /// Its name on the command line and in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fentry => "fentry",
            Self::Tracepoint => "tracepoint",
            Self::Raw => "raw",
        }
    }
}

/// Down to which level the probes' own diagnostics are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum ProbeLog {
    /// Nothing
    #[default]
    Off,
    /// What must not happen
    Error,
    /// What is lost, as it happens
    Warn,
    /// Threads and instances that come and go
    Info,
    /// Every call
    Debug,
    /// Every step of every call
    Trace,
}

impl ProbeLog {
    /// The same in the log crate's words.
    pub fn filter(self) -> log::LevelFilter {
        match self {
            Self::Off => log::LevelFilter::Off,
            Self::Error => log::LevelFilter::Error,
            Self::Warn => log::LevelFilter::Warn,
            Self::Info => log::LevelFilter::Info,
            Self::Debug => log::LevelFilter::Debug,
            Self::Trace => log::LevelFilter::Trace,
        }
    }
}

/// The place of a column of top.
fn parse_column(text: &str) -> Result<usize, String> {
    columns::by_name(text).ok_or_else(|| {
        let names: Vec<&str> = columns::COLUMNS.iter().map(|column| column.head.header).collect();
        format!("the columns are {}", names.join(", "))
    })
}

/// A pattern of names. One that can match no name is a mistake, not a filter that shows nothing.
fn parse_comm(text: &str) -> Result<Glob, String> {
    if text.is_empty() {
        return Err("a name is wanted, such as nginx or 'nginx*'".to_owned());
    }
    let is_literal = !text.contains(['*', '?', '[', '{', '\\']);
    if is_literal && text.len() > COMM_BYTES {
        let kept =
            text.char_indices().map(|(at, _)| at).take_while(|at| *at <= COMM_BYTES).last().unwrap_or(0);
        let kept = text.get(..kept).unwrap_or_default();
        return Err(format!("the kernel keeps {COMM_BYTES} bytes of a name: use '{kept}'"));
    }
    parse_glob(text)
}

fn parse_glob(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(|error| error.kind().to_string())
}

fn parse_cgroup(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') {
        Ok(PathBuf::from(text))
    } else {
        Err("a path is wanted that begins with /, such as /system.slice/nginx.service".to_owned())
    }
}
