//! What `top --from` prints for scripts: the JSON of a frame and the rows of its CSV (docs/schema/fleet.schema.json).
//!
//! `None` is null: not in the metrics, or nothing was there to count. Nothing here computes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One answer of the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetDocument {
    /// [`crate::report::document::SCHEMA`].
    pub schema: u32,
    /// The server.
    pub from: String,
    /// The time of the answer by the server's clock, RFC 3339.
    pub at: String,
    /// Over how long rates and quantiles are.
    pub window_seconds: u64,
    /// Why these are old figures: the latest poll failed. Null where they are new.
    pub error: Option<String>,
    /// Hosts that ran the agent within the hour.
    pub hosts: Vec<HostRow>,
    /// What the agents did not record, a second, by reason; reasons without any are left out.
    pub lost_per_second: BTreeMap<String, f64>,
    /// What this view could not see, in words.
    pub notes: Vec<String>,
    /// One row per host and group of the agent.
    pub loops: Vec<FleetRow>,
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    /// The `instance` label.
    pub host: String,
    /// Version of its agent.
    pub version: Option<String>,
    /// Whether the server gets its metrics now.
    pub scraped: bool,
}

/// A group of one host. Names are those of the agent's `--group-by`; the others are null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetRow {
    /// The `instance` label.
    pub host: String,
    /// The `job` label.
    pub job: Option<String>,
    /// Process, with `--group-by pid` or `tid`.
    pub pid: Option<u32>,
    /// Thread, with `--group-by tid`.
    pub tid: Option<u32>,
    /// Name of the process.
    pub comm: Option<String>,
    /// Name of the thread.
    pub thread: Option<String>,
    /// Path of the executable.
    pub exe: Option<String>,
    /// Control group.
    pub cgroup: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
    /// Container.
    pub container: Option<String>,
    /// Kubernetes namespace and pod.
    pub pod: Option<String>,
    /// The waiting call.
    pub mechanism: String,
    /// Loops in the group.
    pub loops: Option<u64>,
    /// Loops and other waiters in it.
    pub waiters: Option<u64>,
    /// Completed waits a second.
    pub waits_per_second: Option<f64>,
    /// Events a second.
    pub events_per_second: Option<f64>,
    /// Events per wait that did not fail.
    pub events_per_wait: Option<f64>,
    /// Busy time by busy and wait time, over all loops with one waiter.
    pub utilization: Option<f64>,
    /// Wait times, of the histogram's buckets.
    pub wait_seconds: Quantiles,
    /// Busy times, likewise.
    pub busy_seconds: Quantiles,
    /// Lengths of the ready list, likewise.
    pub backlog: Quantiles,
    /// For how long the loop that has been busy for longest had been so at the last scrape.
    pub current_busy_seconds: Option<f64>,
    /// Share of waits that returned as many events as were asked for.
    pub saturated_share: Option<f64>,
    /// Share of waits with a zero time-out that found nothing.
    pub empty_share: Option<f64>,
    /// Watched descriptors.
    pub watched: Option<u64>,
    /// Of them level-triggered.
    pub level: Option<u64>,
    /// Of them edge-triggered.
    pub edge: Option<u64>,
    /// Of them stale.
    pub stale: Option<u64>,
}

/// Two quantiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
}
