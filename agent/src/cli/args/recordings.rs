//! The arguments of `loopscope record` and `loopscope compare`. Opens no file.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{Filters, Kernel};
use crate::{cli::duration, report::Format};

/// Arguments of `record`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  loopscope record -o night.loopscope --duration 8h --max-size 500M
  loopscope record -o shop.loopscope --redact --pid 812
  loopscope top --replay night.loopscope
  loopscope report --fail-if 'busy_seconds.p99>50ms'     exit code 1 where a loop was slower
  loopscope report --replay night.loopscope

Prints 'watching' on stderr as soon as every probe is attached; Ctrl-C ends it. What was written stays readable if it is
killed or the disk is full. The file is readable for its owner alone and holds names of processes and paths, but for
--redact, and never an address of the kernel.")]
pub struct RecordArgs {
    /// The file to write; one that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How long to watch: 10s, 5m, 8h [default: until Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// How often everything is read [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true)]
    pub interval: Option<Duration>,
    /// Bytes that it may have, such as 100M: at half of it the file is begun anew, and the one before kept as FILE.1
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// Put tokens in the place of names and paths, the same for the same name, so that the file can be given away
    #[arg(long)]
    pub redact: bool,
    /// Which waiters to watch.
    #[command(flatten)]
    pub filters: Filters,
    /// How to reach the kernel.
    #[command(flatten)]
    pub kernel: Kernel,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  loopscope compare before.loopscope after.loopscope
  loopscope compare monday.json tuesday.json --format json

Takes recordings, and what report --format json printed. Programs are matched by name; what differs by less than a bucket
of the histograms (19 %) is taken as the same. Recordings compare better: their histograms can be added up.")]
pub struct CompareArgs {
    /// The first
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// The second
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    pub format: TableOrJson,
}

/// The forms of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TableOrJson {
    /// For people
    #[default]
    Table,
    /// One JSON object
    Json,
}

impl From<TableOrJson> for Format {
    fn from(form: TableOrJson) -> Format {
        match form {
            TableOrJson::Table => Format::Table,
            TableOrJson::Json => Format::Json,
        }
    }
}

/// Bytes: a number with K, M or G (of 1024), or none.
fn parse_size(text: &str) -> Result<u64, String> {
    let wanted = || "a size is a number with K, M or G, such as 100M; at least 64K".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err(wanted()),
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    size.filter(|size| *size >= 64 << 10).ok_or_else(wanted)
}
