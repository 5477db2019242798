//! Which Prometheus server `top --from` asks. Asks nothing.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{cli::duration, fleet::Url};

/// A Prometheus server to show many hosts of.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Many hosts")]
pub struct Fleet {
    /// Show all hosts whose agents this Prometheus server scrapes; needs no root. What metrics do not have (threads, states,
    /// largest values) is -
    #[arg(long, value_name = "URL", conflicts_with_all = ["replay", "group", "pids", "cgroups", "standalone", "socket",
          "backend", "btf", "probe_log", "no_backlog", "probe_stats", "no_confine"])]
    pub from: Option<Url>,
    /// Over how long rates and quantiles are: at least four scrape intervals
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "1m", requires = "from")]
    pub from_window: Duration,
    /// User and password or token, and authorities that are trusted instead of this host's, in the format of promtool's
    /// option: basic_auth, authorization, tls_config
    #[arg(long = "http.config.file", value_name = "FILE", requires = "from")]
    pub http_config_file: Option<PathBuf>,
}

impl Fleet {
    /// The window in whole seconds, which is what the query language knows.
    pub fn window(&self) -> u64 {
        self.from_window.as_secs_f64().ceil().max(1.0) as u64
    }
}
