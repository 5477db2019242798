//! What Prometheus answers to an instant query (its HTTP API, version 1). Pure: text in, series out.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Bytes that are kept of a label's value; the agent cuts its own at 200 by default.
const LONGEST_LABEL: usize = 512;
/// Characters that are kept of what a server says of an error.
const LONGEST_ERROR: usize = 200;

/// Names and values.
pub type Labels = BTreeMap<String, String>;

/// A series of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels, without its name.
    pub labels: Labels,
    /// When it was evaluated, by the server's clock, seconds since 1970.
    pub at: f64,
    /// Its value: finite.
    pub value: f64,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    #[serde(default)]
    result: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    metric: Labels,
    /// Left out where the sample is a histogram.
    #[serde(default)]
    value: Option<(f64, String)>,
}

/// Why an answer is no vector.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not what Prometheus answers.
    NotPrometheus,
    /// Prometheus says what is wrong.
    Said(String),
}

/// The series that have a number; NaN and infinities say nothing and are left out.
///
/// # Errors
/// See [`Refused`].
pub fn vector(body: &str) -> Result<Vec<Series>, Refused> {
    let answer: Answer = serde_json::from_str(body).map_err(|_| Refused::NotPrometheus)?;
    if answer.status != "success" {
        return Err(answer.error.map_or(Refused::NotPrometheus, |error| Refused::Said(short(&error))));
    }
    let data = answer.data.filter(|data| data.kind == "vector").ok_or(Refused::NotPrometheus)?;
    let series = data.result.into_iter().filter_map(|sample| {
        let (at, text) = sample.value?;
        let value = text.parse().ok().filter(|value: &f64| value.is_finite())?;
        let mut labels = sample.metric;
        labels.remove("__name__");
        labels.values_mut().for_each(|value| value.truncate(value.floor_char_boundary(LONGEST_LABEL)));
        Some(Series { labels, at, value })
    });
    Ok(series.collect())
}

/// The beginning of what a server says.
pub fn short(text: &str) -> String {
    crate::report::text::cut(&crate::report::text::one_line(text), LONGEST_ERROR)
}
