//! What is asked: one row per figure, over the metrics of [`crate::export::METRICS`].
//!
//! Quantiles are Prometheus' own (histogram_quantile), so that they are the same as on its dashboards, and one number comes
//! over the network instead of 15 buckets.

use super::rows::Figures;

/// How a metric is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// Its value now.
    Now,
    /// What it grows by a second, over the window.
    Rate,
    /// That quantile of what came within the window.
    Quantile(f64),
}

/// A figure.
pub struct Query {
    /// The metric.
    pub metric: &'static str,
    /// How it is asked for.
    pub form: Form,
    /// The metric's own label (result, state, ...); empty where there is none.
    pub label: &'static str,
    /// Puts a value of that label into the figures of its row.
    pub put: fn(&mut Figures, &str, f64),
}

const fn query(
    metric: &'static str,
    form: Form,
    label: &'static str,
    put: fn(&mut Figures, &str, f64),
) -> Query {
    Query { metric, form, label, put }
}

/// Every figure of a row.
pub const QUERIES: [Query; 15] = [
    query("loopscope_waiters", Form::Now, "", |row, _, value| row.waiters = Some(value)),
    query("loopscope_loops", Form::Now, "", |row, _, value| row.loops = Some(value)),
    query("loopscope_waits_total", Form::Rate, "result", |row, result, value| {
        row.results.insert(result.to_owned(), value);
    }),
    query("loopscope_events_total", Form::Rate, "", |row, _, value| row.events = Some(value)),
    query("loopscope_saturated_waits_total", Form::Rate, "", |row, _, value| row.saturated = Some(value)),
    query("loopscope_loop_time_seconds_total", Form::Rate, "state", |row, state, value| {
        row.times.insert(state.to_owned(), value);
    }),
    query("loopscope_wait_seconds", Form::Quantile(0.5), "", |row, _, value| row.wait.p50 = Some(value)),
    query("loopscope_wait_seconds", Form::Quantile(0.99), "", |row, _, value| row.wait.p99 = Some(value)),
    query("loopscope_busy_seconds", Form::Quantile(0.5), "", |row, _, value| row.busy.p50 = Some(value)),
    query("loopscope_busy_seconds", Form::Quantile(0.99), "", |row, _, value| row.busy.p99 = Some(value)),
    query("loopscope_backlog_entries", Form::Quantile(0.5), "", |row, _, value| {
        row.backlog.p50 = Some(value)
    }),
    query("loopscope_backlog_entries", Form::Quantile(0.99), "", |row, _, value| {
        row.backlog.p99 = Some(value)
    }),
    query("loopscope_watched_fds", Form::Now, "trigger", |row, trigger, value| {
        row.watched.insert(trigger.to_owned(), value);
    }),
    query("loopscope_stale_watches", Form::Now, "", |row, _, value| row.stale = Some(value)),
    query("loopscope_current_busy_seconds", Form::Now, "", |row, _, value| row.current_busy = Some(value)),
];

/// The hosts that have run the agent within the hour: their `instance` label.
pub const HOSTS: &str = "last_over_time(loopscope_build_info[1h])";
/// Those that run it now.
pub const HOSTS_NOW: &str = "loopscope_build_info";
/// What the agents did not record.
pub const LOST: &str = "loopscope_lost_total";

impl Query {
    /// The expression, over so many seconds.
    pub fn expression(&self, window: u64) -> String {
        expression(self.metric, self.form, window)
    }
}

/// A metric as an expression, over so many seconds.
pub fn expression(metric: &str, form: Form, window: u64) -> String {
    match form {
        Form::Now => metric.to_owned(),
        Form::Rate => format!("rate({metric}[{window}s])"),
        // Of a metric with native histograms Prometheus keeps no buckets.
        Form::Quantile(q) => format!(
            "histogram_quantile({q}, rate({metric}_bucket[{window}s])) or histogram_quantile({q}, rate({metric}[{window}s]))"
        ),
    }
}
