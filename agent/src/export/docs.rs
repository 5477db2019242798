//! docs/metrics.md, from the metric table. A test fails when the file is another text than this.

use clap::ValueEnum;

use super::{
    METRICS,
    grouping::{By, NONE, OTHER},
    metric::Metric,
};

/// The whole file.
pub fn markdown() -> String {
    let (grouped, own): (Vec<&Metric>, Vec<&Metric>) = METRICS.iter().partition(|metric| metric.is_grouped());
    format!(
        "# Metrics

<!-- Made from agent/src/export/table.rs; to make it anew: LOOPSCOPE_BLESS=1 cargo test -p loopscope --lib export -->

`loopscope agent` serves these on `/metrics`, in the Prometheus text format 0.0.4. Each scrape reads the probes anew;
scrapes that come within 100 ms share one reading.

## Of the observed loops

Each has the labels of its group, which `--group-by` chooses, then `mechanism` (epoll, poll, select, ...), then those that
stand beside it.

{}
A process that has no such thing (no unit, no container) is in `{NONE}`. Values are cut at `--max-label-length` bytes, and
control characters in them are `?`. Prometheus keeps `container`, `pod` and `namespace` of a scrape only with
`honor_labels: true`; without, they become `exported_pod` and so on.

At most `--max-groups` groups have series of their own; a group that has them keeps them until five minutes after its
last thread has ended. What others count, and those with processes younger than `--min-age`, is under `{OTHER}`, and stays
there. A group that comes back goes on from where it was, unless a thousand others have ended since. Counters start at 0
with the agent, keep what threads did that have ended, and never fall. `--allow-group` and `--deny-group` leave groups out.

{}
Histograms of times have the buckets 2^-20, 2^-18, ... 2^6 seconds, the others 1, 2, 4, ... 32768. They are exact sums of
the probes' finer buckets. A metric without meaning for a group (busy times where several threads wait on each
instance) has no series there.

## Of the agent

{}",
        groupings(),
        rows(&grouped),
        rows(&own),
    )
}

/// The labels of each way of grouping.
fn groupings() -> String {
    let mut text = String::from("| `--group-by` | labels | |\n|---|---|---|\n");
    for by in By::value_variants() {
        let value = by.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name());
        let help = value.as_ref().and_then(|value| value.get_help()).map(ToString::to_string);
        let labels: Vec<String> = by.labels().iter().map(|label| format!("`{label}`")).collect();
        text.push_str(&format!("| {name} | {} | {} |\n", labels.join(", "), help.unwrap_or_default()));
    }
    text
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
