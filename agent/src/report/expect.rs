//! `--fail-if 'busy_seconds.p99 > 50ms'`: a condition on the figures of a row, and the rows that meet it.
//!
//! Fields are those of the CSV; nothing is computed here. A figure that a row does not have meets no condition.

use serde_json::Value;

use super::{csv, document::LoopRow};

/// A condition.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    field: String,
    compares: Operator,
    limit: f64,
}

/// A way of comparing.
#[derive(Clone, Copy, Debug)]
struct Operator {
    sign: &'static str,
    holds: fn(f64, f64) -> bool,
}

/// Longer signs first, since the shorter ones begin them.
const OPERATORS: [Operator; 6] = [
    Operator { sign: ">=", holds: |a, b| a >= b },
    Operator { sign: "<=", holds: |a, b| a <= b },
    Operator { sign: "==", holds: |a, b| a == b },
    Operator { sign: "!=", holds: |a, b| a != b },
    Operator { sign: ">", holds: |a, b| a > b },
    Operator { sign: "<", holds: |a, b| a < b },
];

/// Units of a limit, and what they are in the documents' seconds, shares and counts.
const UNITS: [(&str, f64); 10] = [
    ("", 1.0),
    ("ns", 1e-9),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("%", 0.01),
    ("k", 1e3),
    ("M", 1e6),
];

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// One line that says what is wanted.
    pub fn parse(text: &str) -> Result<Condition, String> {
        const WANTED: &str =
            "a condition is FIELD OPERATOR NUMBER, such as 'busy_seconds.p99 > 50ms' or 'utilization >= 90%'";
        let found = OPERATORS.iter().filter_map(|operator| Some((text.find(operator.sign)?, operator)));
        // The first sign in the text; of two that begin there, the longer.
        let (at, compares) =
            found.min_by_key(|(at, operator)| (*at, 2 - operator.sign.len())).ok_or(WANTED)?;
        let (field, rest) = text.split_at_checked(at).ok_or(WANTED)?;
        let field = field.trim();
        let fields = csv::header();
        if !fields.iter().any(|known| known == field) {
            let near: Vec<&str> = fields
                .iter()
                .map(String::as_str)
                .filter(|known| !field.is_empty() && known.contains(field))
                .collect();
            return Err(match near.is_empty() {
                true => format!("there is no field '{field}'; the first line of --format csv has all"),
                false => format!("there is no field '{field}'; there are {}", near.join(", ")),
            });
        }
        let limit = rest.get(compares.sign.len()..).unwrap_or_default().trim();
        let limit = number(limit).ok_or_else(|| format!("'{limit}' is no number; {WANTED}"))?;
        Ok(Condition { text: text.trim().to_owned(), field: field.to_owned(), compares: *compares, limit })
    }

    /// The rows that meet the condition, each in a line.
    pub fn failures(&self, rows: &[LoopRow]) -> Vec<String> {
        rows.iter().filter_map(|row| self.failure(row)).collect()
    }

    fn failure(&self, row: &LoopRow) -> Option<String> {
        let document = serde_json::to_value(row).ok()?;
        let value = self.field.split('.').try_fold(&document, |value, name| value.get(name))?;
        let figure = match value {
            Value::Bool(value) => f64::from(u8::from(*value)),
            other => other.as_f64()?,
        };
        (self.compares.holds)(figure, self.limit).then(|| {
            format!(
                "{}: {} is {value} in {} (pid {}, tid {}, {})",
                self.text,
                self.field,
                row.comm,
                row.pid,
                row.tid,
                row.mechanism.name()
            )
        })
    }
}

fn number(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::super::document::Distribution;
    use super::*;

    fn row(p99: f64) -> LoopRow {
        let busy = Distribution { count: 1, sum: p99, p99: Some(p99), ..Distribution::default() };
        LoopRow {
            comm: "nginx".to_owned(),
            pid: 7,
            waits: 10,
            busy_seconds: Some(busy),
            ..LoopRow::default()
        }
    }

    fn fails(condition: &str) -> usize {
        Condition::parse(condition).unwrap().failures(&[row(0.01), row(0.06), LoopRow::default()]).len()
    }

    #[test]
    fn rows_beyond_the_limit_are_named_and_those_without_the_figure_are_not() {
        assert_eq!(fails("busy_seconds.p99 > 50ms"), 1);
        assert_eq!(fails("busy_seconds.p99>0.01"), 1);
        assert_eq!(fails("busy_seconds.p99 >= 10ms"), 2);
        assert_eq!(fails("busy_seconds.p99 < 50ms"), 1);
        assert_eq!(fails("waits == 10"), 2);
        assert_eq!(fails("waits!=10"), 1);
        assert_eq!(fails("utilization > 0%"), 0);
        assert_eq!(fails("ended == 0"), 3);
        let line = &Condition::parse("waits >= 10").unwrap().failures(&[row(1.0)])[0];
        assert_eq!(line, "waits >= 10: waits is 10 in nginx (pid 7, tid 0, epoll)");
    }

    #[test]
    fn what_is_no_condition_is_refused_and_said_why() {
        for (text, reason) in [
            ("", "such as"),
            ("busy_seconds.p99", "such as"),
            ("busy_seconds.p99 > much", "is no number"),
            ("busy_seconds.p99 > 5 parsecs", "is no number"),
            ("p99 > 5ms", "wait_seconds.p99"),
            ("nothing > 5ms", "csv"),
            ("> 5", "csv"),
        ] {
            let error = Condition::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
