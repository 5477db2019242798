//! The metric table read out as text (Prometheus' format 0.0.4).
//!
//! A scrape may have a hundred thousand lines, so a line costs no allocation: the labels of a group are written once
//! and copied from then on, and a count is printed as the integer that it is.

use std::fmt::Write;

use super::{
    Figures, METRICS,
    buckets::Buckets,
    groups::Group,
    metric::{Get, Metric, Row, Rows},
};

/// The type of [`text`] as HTTP has it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bytes of a line, about; for the room that is taken at once.
const LINE: usize = 96;

/// Everything that `wanted` is true of.
pub fn text(figures: &Figures<'_>, wanted: impl Fn(&Metric) -> bool) -> String {
    let groups: Vec<(String, &Group)> = figures
        .groups
        .iter()
        .map(|(key, group)| {
            let mut labels = String::new();
            figures
                .groups
                .labels()
                .zip(key.labels())
                .for_each(|(name, value)| pair(&mut labels, name, value));
            (labels, group)
        })
        .collect();
    let mut out = String::with_capacity(groups.len() * 100 * LINE);
    let mut rows = Rows::default();
    for metric in METRICS.iter().filter(|metric| wanted(metric)) {
        family(metric, figures, &groups, &mut rows, &mut out);
    }
    out
}

/// The series of a metric, with its heading if there are any.
fn family(
    metric: &Metric,
    figures: &Figures<'_>,
    groups: &[(String, &Group)],
    rows: &mut Rows,
    out: &mut String,
) {
    let start = out.len();
    for part in
        ["# HELP ", metric.name, " ", metric.help, "\n# TYPE ", metric.name, " ", metric.kind.name(), "\n"]
    {
        out.push_str(part);
    }
    let heading = out.len();
    match metric.get {
        Get::Group(get) => {
            for (labels, group) in groups {
                get(group, rows);
                rows.drain().for_each(|row| number(metric, labels, &row, out));
            }
        }
        Get::Agent(get) => {
            get(figures, rows);
            rows.drain().for_each(|row| number(metric, "", &row, out));
        }
        Get::Distribution(get) => {
            for (labels, group) in groups {
                if let Some(buckets) = get(group) {
                    distribution(metric.name, labels, &buckets, out);
                }
            }
        }
    }
    if out.len() == heading {
        out.truncate(start);
    }
}

/// The line of a counter or a gauge.
fn number(metric: &Metric, labels: &str, row: &Row, out: &mut String) {
    out.push_str(metric.name);
    if !labels.is_empty() || !metric.labels.is_empty() {
        out.push('{');
        out.push_str(labels);
        metric.labels.iter().zip(&row.labels).for_each(|(name, value)| pair(out, name, value));
        // Each pair ends with a comma; the last one needs none.
        out.pop();
        out.push('}');
    }
    end(out, row.value);
}

/// The lines of a histogram.
fn distribution(name: &str, labels: &str, buckets: &Buckets<'_>, out: &mut String) {
    let line = |out: &mut String, suffix: &str| {
        out.push_str(name);
        out.push_str(suffix);
        out.push('{');
        out.push_str(labels);
    };
    for (le, count) in buckets.cumulative() {
        line(out, "_bucket");
        out.push_str("le=\"");
        value(out, le);
        out.push_str("\"}");
        end(out, count as f64);
    }
    line(out, "_bucket");
    out.push_str("le=\"+Inf\"}");
    end(out, buckets.count as f64);
    for (suffix, value) in [("_sum", buckets.sum), ("_count", buckets.count as f64)] {
        line(out, suffix);
        out.pop();
        out.push('}');
        end(out, value);
    }
}

/// `name="value",` with what the format asks to escape.
fn pair(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push_str("\",");
}

fn end(out: &mut String, number: f64) {
    out.push(' ');
    value(out, number);
    out.push('\n');
}

/// A number as short as it can be read back.
fn value(out: &mut String, number: f64) {
    // Below 2^53 a whole number prints the same as an integer, which is five times as fast.
    let whole = number as u64;
    // A String takes everything that is written to it.
    let _ = if whole as f64 == number && whole < 1 << 53 && number.is_sign_positive() {
        write!(out, "{whole}")
    } else {
        write!(out, "{number}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_they_can_be_read_back() {
        for number in
            [0.0, 1.0, 0.1, 1e-9, 0.00000095367431640625, 1.5e300, -1.0, 9_007_199_254_740_993.0, 4.5e15]
        {
            let mut text = String::new();
            value(&mut text, number);
            assert_eq!(text.parse::<f64>().unwrap(), number, "{text}");
            assert_eq!(text, number.to_string());
        }
    }

    #[test]
    fn a_label_cannot_end_its_line() {
        let mut text = String::new();
        pair(&mut text, "a", "x\"} 1\nb\\");
        assert_eq!(text, r#"a="x\"} 1\nb\\","#);
    }
}
