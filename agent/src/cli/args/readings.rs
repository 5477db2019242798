//! Where a view takes its readings from: a running agent, or probes of its own. Connects to nothing.

use std::path::PathBuf;

use clap::Args;

use crate::feed;

/// Where readings come from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Readings")]
pub struct Readings {
    /// Attach probes, even where an agent runs whose readings could be had
    #[arg(long)]
    pub standalone: bool,
    /// Socket of the agent
    #[arg(long, value_name = "PATH", default_value = feed::PATH)]
    pub socket: SocketPath,
}

/// A path of a socket, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPath(pub Option<PathBuf>);

impl std::str::FromStr for SocketPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(SocketPath(None)),
            path if path.starts_with('/') => Ok(SocketPath(Some(path.into()))),
            _ => Err(format!("a path is wanted that begins with /, such as {}, or none", feed::PATH)),
        }
    }
}
