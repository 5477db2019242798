//! The metric table read out: metric families, and their text form (0.0.4).

use std::borrow::Cow;

use anyhow::{Context, Result};
use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Row, MetricFamily, MetricType},
};

use super::{
    Figures, METRICS,
    buckets::Buckets,
    groups::{Key, LABELS},
    metric::{Get, Kind, Metric, Rows},
};

/// The type of [`text`] as HTTP has it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything as text.
///
/// # Errors
/// The encoder refuses a family, which the table's tests rule out.
pub fn text(figures: &Figures<'_>) -> Result<String> {
    let families: Vec<MetricFamily> = METRICS.iter().filter_map(|metric| family(metric, figures)).collect();
    TextEncoder::new().encode_to_string(&families).context("cannot encode the metrics")
}

/// The family of a metric; None while it has no series.
fn family(metric: &Metric, figures: &Figures<'_>) -> Option<MetricFamily> {
    let mut rows = Rows::default();
    let mut series = Vec::new();
    match metric.get {
        Get::Group(get) => {
            for (key, group) in figures.groups.iter() {
                get(group, &mut rows);
                series.extend(
                    rows.take().into_iter().map(|(labels, value)| number(metric, Some(key), &labels, value)),
                );
            }
        }
        Get::Agent(get) => {
            get(figures, &mut rows);
            series
                .extend(rows.take().into_iter().map(|(labels, value)| number(metric, None, &labels, value)));
        }
        Get::Distribution(get) => {
            let groups = figures.groups.iter().filter_map(|(key, group)| Some((key, get(group)?)));
            series.extend(groups.map(|(key, buckets)| distribution(metric, key, &buckets)));
        }
    }
    if series.is_empty() {
        return None;
    }
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(series);
    Some(family)
}

/// The labels of a series: those of its group, then its own.
fn labels(metric: &Metric, key: Option<&Key>, own: &[Cow<'static, str>]) -> Vec<LabelPair> {
    let group = key.into_iter().flat_map(|key| LABELS.into_iter().zip(key.labels()));
    let own = metric.labels.iter().copied().zip(own.iter().map(AsRef::as_ref));
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    group.chain(own).map(pair).collect()
}

/// A counter or a gauge.
fn number(metric: &Metric, key: Option<&Key>, own: &[Cow<'static, str>], value: f64) -> Row {
    let mut row = Row::from_label(labels(metric, key, own));
    if metric.kind == Kind::Counter {
        let mut counter = Counter::default();
        counter.set_value(value);
        row.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        row.set_gauge(gauge);
    }
    row
}

fn distribution(metric: &Metric, key: &Key, buckets: &Buckets) -> Row {
    let classic = buckets.cumulative.iter().map(|(le, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*le);
        bucket.set_cumulative_count(*count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(classic.collect());
    histogram.set_sample_count(buckets.count);
    histogram.set_sample_sum(buckets.sum);
    let mut row = Row::from_label(labels(metric, Some(key), &[]));
    row.set_histogram(histogram);
    row
}
