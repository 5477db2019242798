//! docs/metrics.md, from the metric table. A test fails when the file is another text than this.

use super::{
    METRICS,
    groups::{LABELS, OTHER},
    metric::Metric,
};

/// The whole file.
pub fn markdown() -> String {
    let (grouped, own): (Vec<&Metric>, Vec<&Metric>) = METRICS.iter().partition(|metric| metric.is_grouped());
    let [comm, mechanism] = LABELS;
    format!(
        "# Metrics

<!-- Made from agent/src/export/table.rs; to make it anew: LOOPSCOPE_BLESS=1 cargo test -p loopscope --lib export -->

`loopscope agent` serves these on `/metrics`, in the Prometheus text format 0.0.4. Each scrape reads the probes anew;
scrapes that come within 100 ms share one reading.

## Of the observed loops

Each has the labels `{comm}` (name of the process) and `{mechanism}` (epoll, poll, select, ...), and those that stand
beside it; never a process id. At most `--max-groups` pairs of `{comm}` and `{mechanism}` have series of their own:
what others count is under `{comm}=\"{OTHER}\"`. Counters start at 0 with the agent, keep what threads did that have
ended, and never fall.

{}
Histograms of times have the buckets 2^-20, 2^-18, ... 2^6 seconds, the others 1, 2, 4, ... 32768. They are exact sums of
the probes' finer buckets. A metric without meaning for a group (busy times where several threads wait on each
instance) has no series there.

## Of the agent

{}",
        rows(&grouped),
        rows(&own),
    )
}

fn rows(metrics: &[&Metric]) -> String {
    let mut text = String::from("| metric | kind | unit | labels | what |\n|---|---|---|---|---|\n");
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = metric.unit.name().unwrap_or_default();
        text.push_str(&format!(
            "| `{}` | {} | {unit} | {} | {} |\n",
            metric.name,
            metric.kind.name(),
            labels.join(", "),
            metric.help.replace('|', "\\|"),
        ));
    }
    text
}
