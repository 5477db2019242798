//! The metric table read out: metric families, and their text form (0.0.4).
//!
//! One family at a time is made and written, so that memory holds one beside the text. Its series are made once for each
//! group and serve in one family after the other, so that labels are not copied for each line.

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

/// What the text of a group takes, some 9 KB of epoll: memory that is asked for at once is not copied as the text grows.
const BYTES_OF_A_GROUP: usize = 10_240;

/// Everything that `wanted` is true of.
///
/// # Errors
/// The encoder refuses a family, which the table's tests rule out.
pub fn text(figures: &Figures<'_>, wanted: impl Fn(&Metric) -> bool) -> Result<String> {
    let encoder = TextEncoder::new();
    let mut writer = Writer::new(figures);
    let mut out = String::with_capacity(figures.groups.shown() * BYTES_OF_A_GROUP);
    for metric in METRICS.iter().filter(|metric| wanted(metric)) {
        let series = writer.series(metric);
        if !series.is_empty() {
            let family = family(metric, series);
            encoder
                .encode_utf8(std::slice::from_ref(&family), &mut out)
                .with_context(|| format!("cannot encode {}", metric.name))?;
            writer.take_back(family);
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

/// A group, and the series with its labels that no family has at present.
struct Labelled<'a> {
    group: &'a Group,
    labels: Vec<LabelPair>,
    spare: Vec<Series>,
}

impl Labelled<'_> {
    /// A series with the labels of the group.
    fn series(&mut self) -> Series {
        self.spare.pop().unwrap_or_else(|| Series::from_label(self.labels.clone()))
    }
}

/// Makes the series of one family after the other.
struct Writer<'a> {
    figures: &'a Figures<'a>,
    groups: Vec<Labelled<'a>>,
    /// Of each series of the last family, its group.
    lent: Vec<usize>,
    rows: Rows,
}

impl<'a> Writer<'a> {
    fn new(figures: &'a Figures<'a>) -> Writer<'a> {
        let groups = figures.groups.iter().map(|(key, group)| {
            let labels = figures.groups.labels().zip(key.labels()).map(pair).collect();
            Labelled { group, labels, spare: Vec::new() }
        });
        Writer { figures, groups: groups.collect(), lent: Vec::new(), rows: Rows::default() }
    }

    /// The series of a metric.
    fn series(&mut self, metric: &Metric) -> Vec<Series> {
        let mut series = Vec::with_capacity(self.groups.len());
        self.lent.clear();
        match metric.get {
            Get::Group(get) => {
                for (i, labelled) in self.groups.iter_mut().enumerate() {
                    get(labelled.group, &mut self.rows);
                    for row in self.rows.drain() {
                        series.push(number(metric, labelled.series(), &row));
                        self.lent.push(i);
                    }
                }
            }
            Get::Distribution(get) => {
                for (i, labelled) in self.groups.iter_mut().enumerate() {
                    if let Some(buckets) = get(labelled.group) {
                        series.push(distribution(labelled.series(), &buckets));
                        self.lent.push(i);
                    }
                }
            }
            Get::Agent(get) => {
                get(self.figures, &mut self.rows);
                series.extend(self.rows.drain().map(|row| number(metric, Series::default(), &row)));
            }
        }
        series
    }

    /// Takes the series of the last family back, without the labels that were the metric's own.
    fn take_back(&mut self, mut family: MetricFamily) {
        for (mut series, group) in family.take_metric().into_iter().zip(self.lent.drain(..)) {
            if let Some(labelled) = self.groups.get_mut(group) {
                let mut labels = series.take_label();
                labels.truncate(labelled.labels.len());
                series.set_label(labels);
                labelled.spare.push(series);
            }
        }
    }
}

fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// A counter or a gauge, by a series that has the labels of its group.
fn number(metric: &Metric, mut series: Series, row: &Row) -> Series {
    if !metric.labels.is_empty() {
        let mut labels = series.take_label();
        labels.extend(metric.labels.iter().copied().zip(row.labels.iter().map(Cow::as_ref)).map(pair));
        series.set_label(labels);
    }
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

fn distribution(mut series: Series, buckets: &Buckets<'_>) -> Series {
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
    series.set_histogram(histogram);
    series
}
