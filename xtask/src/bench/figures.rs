//! The few statistics that the benchmark uses: medians, because one round in ten is disturbed on any machine, and the
//! least and the greatest beside them, so that nobody takes a median for a constant.

use serde::Serialize;

/// The median of several values, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of these values; None where there are none, or one is no number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        (min.is_finite() && max.is_finite()).then_some(Spread {
            median: f64::midpoint(lower, upper),
            min,
            max,
        })
    }

    /// `median (min to max)`.
    pub fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.min, self.max)
    }
}

/// How two costs relate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// The median of the one over the median of the other.
    pub ratio: f64,
    /// The ratios of the single rounds.
    pub rounds: Spread,
}

impl Ratio {
    /// Of pairs that were measured together: (the one, the other).
    pub fn of(pairs: &[(f64, f64)]) -> Option<Ratio> {
        let one = Spread::of(pairs.iter().map(|pair| pair.0))?;
        let other = Spread::of(pairs.iter().map(|pair| pair.1))?;
        let rounds = Spread::of(pairs.iter().map(|(one, other)| one / other))?;
        let ratio = one.median / other.median;
        ratio.is_finite().then_some(Ratio { ratio, rounds })
    }

    /// `ratio (min to max)`.
    pub fn show(&self) -> String {
        format!("{:.2} ({:.2} to {:.2})", self.ratio, self.rounds.min, self.rounds.max)
    }
}

/// A bound that the issue sets, and what became of it.
#[derive(Debug, Serialize)]
pub struct Target {
    pub what: String,
    pub bound: String,
    pub figure: String,
    pub reached: bool,
}

/// A Markdown table. The first column is left-aligned, the others are right-aligned.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule: Vec<String> = (0..head.len()).map(|i| if i == 0 { "---" } else { "---:" }.to_owned()).collect();
    let rows: String = rows.iter().map(|row| line(row)).collect();
    line(&head) + &line(&rule) + &rows
}

/// The items, begun at another place each round: what runs first or last differs.
pub fn rotated<T: Clone>(items: &[T], round: u32) -> Vec<T> {
    let mut items = items.to_vec();
    if !items.is_empty() {
        let by = round as usize % items.len();
        items.rotate_left(by);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::NAN]), None);
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_spread_of_rounds() {
        let ratio = Ratio::of(&[(20.0, 10.0), (30.0, 10.0), (25.0, 5.0)]).unwrap();
        assert_eq!(ratio.ratio, 2.5);
        assert_eq!(ratio.rounds, Spread { median: 3.0, min: 2.0, max: 5.0 });
        assert!(Ratio::of(&[(1.0, 0.0)]).is_none());
    }

    #[test]
    fn a_round_begins_where_the_last_one_did_not() {
        assert_eq!(rotated(&[1, 2, 3], 0), [1, 2, 3]);
        assert_eq!(rotated(&[1, 2, 3], 4), [2, 3, 1]);
        assert!(rotated::<u8>(&[], 1).is_empty());
    }

    #[test]
    fn a_table_has_a_rule() {
        let table = table(&["a", "b"], &[vec!["x".into(), "1".into()]]);
        assert_eq!(table, "| a | b |\n| --- | ---: |\n| x | 1 |\n");
    }
}
