//! The arguments of `loopscope agent`. Reads no file and starts nothing.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use globset::Glob;

use super::{Filters, Kernel, SocketPath, compile, parse_glob};
use crate::{
    cli::{Failure, duration},
    export::grouping::{By, Grouping},
    feed,
};

/// Arguments of `agent`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  loopscope agent                                   http://127.0.0.1:10178/metrics, every event loop
  loopscope agent --listen 0.0.0.0:10178            for a Prometheus elsewhere; anyone who reaches it can read it
  loopscope agent --comm 'nginx*' --comm redis-server
  loopscope agent --group-by unit --deny-group 'user@*' --min-age 30s
  loopscope agent --config /etc/loopscope.toml      a line each, such as max-groups = 50
  loopscope agent --once /var/lib/prometheus/node-exporter/loopscope.prom --duration 30s

Serves /metrics, /-/healthy, /-/ready and /. Prints each address on stderr, and 'watching' as soon as every
probe is attached. SIGTERM or Ctrl-C ends it; SIGHUP reads --config and --web.config.file again. Tells systemd
READY, RELOADING, STOPPING and WATCHDOG where it asks for them.")]
pub struct AgentArgs {
    /// Read options from this TOML file, by the same names; those on the command line win. SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration and what it names, then exit
    #[arg(long = "config.check")]
    pub config_check: bool,
    /// Serve nothing: watch for a while, write the metrics to this file at once, and exit. For the textfile collector
    /// of node_exporter
    #[arg(long, value_name = "FILE")]
    pub once: Option<PathBuf>,
    /// With --once: how long to watch [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true, requires = "once")]
    pub duration: Option<Duration>,
    /// Address and port to serve HTTP on; port 0 takes a free one, which is printed; :PORT is every IPv4 address;
    /// repeatable
    #[arg(long, visible_alias = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:10178",
          value_parser = parse_address)]
    pub listen: Vec<SocketAddr>,
    /// Unix socket from which top and report on this host take their readings, for root and the agent's own user alone;
    /// none for no socket
    #[arg(long, value_name = "PATH", default_value = feed::PATH)]
    pub socket: SocketPath,
    /// Certificate and users, in the format of Prometheus' exporters: tls_server_config (cert_file, key_file,
    /// client_ca_file, client_auth_type, min_version), basic_auth_users (bcrypt)
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config: Option<PathBuf>,
    /// Scrapes that are answered at a time; others get 503
    #[arg(long = "web.max-requests", value_name = "N", default_value_t = 40,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub max_requests: u16,
    /// Offer native histograms, by protobuf, to a Prometheus that takes them; from then on it drops the classic
    /// series, which rules and dashboards read. Needs a build with the cargo feature native-histograms
    #[arg(long)]
    pub native_histograms: bool,
    /// Which series there are.
    #[command(flatten)]
    pub series: Series,
    /// Which waiters to watch.
    #[command(flatten)]
    pub filters: Filters,
    /// How to reach the kernel.
    #[command(flatten)]
    pub kernel: Kernel,
}

/// Which series there are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Series")]
pub struct Series {
    /// What loops are put together by, beside their mechanism
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub group_by: By,
    /// Only groups whose label matches (several labels are joined by slashes); * ? [..] {a,b} match; repeatable
    #[arg(long = "allow-group", value_name = "GLOB", value_parser = parse_glob)]
    pub allow_groups: Vec<Glob>,
    /// Not groups whose label matches; repeatable
    #[arg(long = "deny-group", value_name = "GLOB", value_parser = parse_glob)]
    pub deny_groups: Vec<Glob>,
    /// Processes younger than this are counted under ~other
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse_or_zero)]
    pub min_age: Duration,
    /// How many groups have series of their own; what others count is under ~other
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_groups: u32,
    /// Bytes of a label's value at most; what is longer is cut and ends with ~
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(16..=1024))]
    pub max_label_length: u16,
}

impl Series {
    /// The same for the export.
    ///
    /// # Errors
    /// [`Failure::bad_input`] where patterns together are too large to compile.
    pub fn grouping(&self) -> Result<Grouping, Failure> {
        Ok(Grouping {
            by: self.group_by,
            most: self.max_groups as usize,
            allow: compile("--allow-group", &self.allow_groups)?,
            deny: compile("--deny-group", &self.deny_groups)?,
            age: self.min_age,
            length: self.max_label_length.into(),
        })
    }
}

/// An address as Rust has it, or as Go's programs take it, without a host.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    whole
        .parse()
        .map_err(|_| "an address and a port are wanted, such as 127.0.0.1:10178 or [::1]:10178".to_owned())
}
