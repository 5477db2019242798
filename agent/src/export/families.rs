//! The metric table read out: metric families, and their text form (0.0.4).
//!
//! One family at a time is made and written, so that memory holds one beside the text.

use std::borrow::Cow;

use anyhow::{Context, Result};
use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Series, MetricFamily, MetricType},
};

use super::{
    Figures, METRICS,
    buckets::Buckets,
    groups::Group,
    metric::{Get, Kind, Metric, Row, Rows},
};

/// The type of [`text`] as HTTP has it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A group and its labels.
type Labelled<'a> = (Vec<LabelPair>, &'a Group);

/// Everything that `wanted` is true of.
///
/// # Errors
/// The encoder refuses a family, which the table's tests rule out.
pub fn text(figures: &Figures<'_>, wanted: impl Fn(&Metric) -> bool) -> Result<String> {
    let groups: Vec<Labelled<'_>> = figures
        .groups
        .iter()
        .map(|(key, group)| (figures.groups.labels().zip(key.labels()).map(pair).collect(), group))
        .collect();
    let encoder = TextEncoder::new();
    let mut rows = Rows::default();
    let mut out = String::new();
    for metric in METRICS.iter().filter(|metric| wanted(metric)) {
        let series = series(metric, figures, &groups, &mut rows);
        if !series.is_empty() {
            encoder
                .encode_utf8(&[family(metric, series)], &mut out)
                .with_context(|| format!("cannot encode {}", metric.name))?;
        }
    }
    Ok(out)
}

/// The family of a metric.
fn family(metric: &Metric, series: Vec<Series>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(series);
    family
}

/// The series of a metric.
fn series(metric: &Metric, figures: &Figures<'_>, groups: &[Labelled<'_>], rows: &mut Rows) -> Vec<Series> {
    let mut series = Vec::new();
    match metric.get {
        Get::Group(get) => {
            for (labels, group) in groups {
                get(group, rows);
                series.extend(rows.drain().map(|row| number(metric, labels, &row)));
            }
        }
        Get::Agent(get) => {
            get(figures, rows);
            series.extend(rows.drain().map(|row| number(metric, &[], &row)));
        }
        Get::Distribution(get) => {
            let groups = groups.iter().filter_map(|(labels, group)| Some((labels, get(group)?)));
            series.extend(groups.map(|(labels, buckets)| distribution(labels, &buckets)));
        }
    }
    series
}

fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// A counter or a gauge.
fn number(metric: &Metric, labels: &[LabelPair], row: &Row) -> Series {
    let own = metric.labels.iter().copied().zip(row.labels.iter().map(Cow::as_ref));
    let mut series = Series::from_label(labels.iter().cloned().chain(own.map(pair)).collect());
    if metric.kind == Kind::Counter {
        let mut counter = Counter::default();
        counter.set_value(row.value);
        series.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(row.value);
        series.set_gauge(gauge);
    }
    series
}

fn distribution(labels: &[LabelPair], buckets: &Buckets<'_>) -> Series {
    let classic = buckets.cumulative().map(|(le, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(le);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(classic.collect());
    histogram.set_sample_count(buckets.count);
    histogram.set_sample_sum(buckets.sum);
    let mut series = Series::from_label(labels.to_vec());
    series.set_histogram(histogram);
    series
}
