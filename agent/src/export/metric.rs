//! What a row of the metric table consists of. No metric is named here.

use std::borrow::Cow;

use super::{Figures, buckets::Buckets, groups::Group};

/// Prometheus' types of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never falls while the agent runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

impl Kind {
    /// Its name in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// The base unit, which is part of the metric's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Its name; None for a number of things.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Unit::None => None,
            Unit::Seconds => Some("seconds"),
            Unit::Bytes => Some("bytes"),
        }
    }
}

/// How a metric's values come from what the agent knows.
#[derive(Clone, Copy)]
pub enum Get {
    /// Numbers of each group.
    Group(fn(&Group, &mut Rows)),
    /// A distribution of each group that has it.
    Distribution(fn(&Group) -> Option<Buckets<'_>>),
    /// Numbers of the agent itself.
    Agent(fn(&Figures<'_>, &mut Rows)),
}

/// A row of the table.
pub struct Metric {
    /// The whole name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Labels beside those of the group.
    pub labels: &'static [&'static str],
    /// What is counted, from which hook.
    pub help: &'static str,
    /// Where the values come from.
    pub get: Get,
}

impl Metric {
    /// Whether it is of groups, and has their labels.
    pub fn is_grouped(&self) -> bool {
        !matches!(self.get, Get::Agent(_))
    }
}

/// A value with those of the metric's own labels, of which there are two at most.
pub struct Row {
    /// Values of [`Metric::labels`].
    pub labels: [Cow<'static, str>; 2],
    /// The value.
    pub value: f64,
}

/// The values of a metric.
#[derive(Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    /// A value without labels of its own.
    pub fn one(&mut self, value: f64) {
        self.0.push(Row { labels: Default::default(), value });
    }

    /// A count without labels of its own.
    pub fn count(&mut self, count: u64) {
        self.one(count as f64);
    }

    /// A value under the values of the metric's labels, in their order.
    pub fn labelled<const N: usize>(&mut self, values: [impl Into<Cow<'static, str>>; N], value: f64) {
        let mut labels: [Cow<'static, str>; 2] = Default::default();
        labels.iter_mut().zip(values).for_each(|(label, value)| *label = value.into());
        self.0.push(Row { labels, value });
    }

    /// A count for each name.
    pub fn named(&mut self, names: &[&'static str], counts: &[u64]) {
        for (name, count) in names.iter().zip(counts) {
            self.labelled([*name], *count as f64);
        }
    }

    /// A value that may be unknown, and then is no series.
    pub fn known(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.count(value);
        }
    }

    /// Takes the rows out.
    pub fn drain(&mut self) -> impl Iterator<Item = Row> {
        self.0.drain(..)
    }
}
