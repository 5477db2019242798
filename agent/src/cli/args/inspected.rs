//! The arguments of `loopscope inspect`. Looks at no process.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Kernel, PID_MAX, Readings};
use crate::{cli::duration, report::Format};

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  loopscope inspect 812                             its instances, and the 20 busiest watched descriptors
  loopscope inspect 812 --duration 30s --top 100
  loopscope inspect 812 --format json | jq '.fds[] | select(.bond == \"stale\")'

Events are counted by the user data that they carry. Where several watched descriptors have the same, or one came,
went or changed meanwhile, its events are shown as unknown. Where an agent runs, its readings are taken, and only what
each descriptor delivered is counted beside it. Prints 'watching' on stderr when it does.")]
pub struct InspectArgs {
    /// The process: its id as the host counts
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=PID_MAX))]
    pub pid: u32,
    /// Show what a recording has of it: its loops and interest sets at the end; needs no root
    #[arg(long, value_name = "FILE", conflicts_with = "duration")]
    pub replay: Option<PathBuf>,
    /// How long to watch: 500ms, 10s, 2m; a bare number is seconds; at most 30d [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Show this many watched descriptors, those with the most events first [default: 20 in a table, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where readings come from.
    #[command(flatten)]
    pub readings: Readings,
    /// How to reach the kernel.
    #[command(flatten)]
    pub kernel: Kernel,
}
