//! The metric table read out as protobuf, with native histograms beside the classic buckets. Only with the cargo feature
//! native-histograms, and only for `--native-histograms`: Prometheus drops the classic series of a metric that has both.

use std::fmt;

use anyhow::{Context, Result};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, MetricEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet,
        prometheus_protobuf::encode_to_vec,
    },
    metrics::MetricType,
    registry::Registry,
};

use super::{
    Figures, METRICS,
    buckets::{Buckets, Native},
    grouping::Key,
    metric::{Get, Kind, Metric, Rows},
};

/// The type of [`protobuf`] as HTTP has it.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// The probes' buckets have four to a power of two.
const SCHEMA: i32 = 2;

type Labels = Vec<(String, String)>;

#[derive(Debug)]
enum Value {
    Number(f64),
    Distribution { sum: f64, count: u64, classic: Vec<(f64, u64)>, native: Native },
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    series: Vec<(Labels, Value)>,
}

/// Everything as length-delimited messages.
///
/// # Errors
/// The encoder refuses something, which the table's tests rule out.
pub fn protobuf(figures: &Figures<'_>) -> Result<Vec<u8>> {
    let families =
        METRICS.iter().map(|metric| family(metric, figures)).filter(|family| !family.series.is_empty());
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families.collect())));
    encode_to_vec(&registry).context("cannot encode the metrics as protobuf")
}

fn family(metric: &Metric, figures: &Figures<'_>) -> Family {
    let mut series = Vec::new();
    let mut rows = Rows::default();
    let labels = |key: Option<&Key>| -> Labels {
        let pairs = key.into_iter().flat_map(|key| figures.groups.labels().zip(key.labels()));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let mut number = |group: &Labels, rows: &mut Rows| {
        for row in rows.drain() {
            let own = metric.labels.iter().zip(row.labels);
            let own = own.map(|(name, value)| ((*name).to_owned(), value.into_owned()));
            series.push((group.iter().cloned().chain(own).collect(), Value::Number(row.value)));
        }
    };
    match metric.get {
        Get::Group(get) => {
            for (key, group) in figures.groups.iter() {
                get(group, &mut rows);
                number(&labels(Some(key)), &mut rows);
            }
        }
        Get::Agent(get) => {
            get(figures, &mut rows);
            number(&labels(None), &mut rows);
        }
        Get::Distribution(get) => {
            let groups = figures.groups.iter();
            let known =
                groups.filter_map(|(key, group)| Some((labels(Some(key)), distribution(&get(group)?))));
            series.extend(known);
        }
    }
    Family { name: metric.name, help: metric.help, kind: metric.kind, series }
}

fn distribution(buckets: &Buckets<'_>) -> Value {
    // The encoder adds them up again.
    let mut before = 0;
    let all = buckets.cumulative().chain([(f64::INFINITY, buckets.count)]);
    let classic = all.map(|(le, count)| (le, count - std::mem::replace(&mut before, count))).collect();
    Value::Distribution { sum: buckets.sum, count: buckets.count, classic, native: buckets.native() }
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            // The encoder appends it.
            let name = family.name.strip_suffix("_total").unwrap_or(family.name);
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family_encoder = encoder.encode_descriptor(name, family.help, None, kind)?;
            for (labels, value) in &family.series {
                one(family_encoder.encode_family(labels)?, family.kind, value)?;
            }
        }
        Ok(())
    }
}

fn one(mut encoder: MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match value {
        Value::Number(number) if kind == Kind::Counter => {
            encoder.encode_counter::<NoLabelSet, f64, f64>(number, None)
        }
        Value::Number(number) => encoder.encode_gauge(number),
        Value::Distribution { sum, count, classic, native } => {
            let none = NativeHistogramBuckets { spans: &[], deltas: &[] };
            let native = NativeHistogram {
                schema: SCHEMA,
                zero_threshold: native.zero_threshold,
                zero_count: native.zero_count,
                negative: none,
                positive: NativeHistogramBuckets { spans: &native.spans, deltas: &native.deltas },
                created: None,
            };
            encoder.encode_histogram_with_native::<NoLabelSet>(*sum, *count, classic, None, native)
        }
    }
}
