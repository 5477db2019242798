//! Two reports side by side, by program: what got slower or faster by more than the histograms can be wrong.
//!
//! Works on rows alone, wherever they came from; reads no file.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    Format,
    derived::ratio,
    document::{LoopRow, Mechanism, SCHEMA, Seconds},
    grid::{Align, Grid, Head},
    json,
    text::{one_line, sanitize},
    units,
};

/// Quantiles may be one bucket of four per power of two too high: what differs by less is the same.
const SAME: f64 = 1.19;

/// A program and its waiting call.
pub type Program = (String, Mechanism);

/// One of the two.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// What it is called.
    pub name: String,
    /// Length of the window, seconds.
    pub seconds: f64,
    /// Its programs.
    pub rows: BTreeMap<Program, LoopRow>,
    /// Rows of several loops were put together from their quantiles, so that the greatest stands for all.
    pub is_coarse: bool,
}

impl Side {
    /// From rows, of which several may be of one program.
    pub fn new(name: String, seconds: f64, all: impl IntoIterator<Item = LoopRow>) -> Side {
        let mut side = Side { name, seconds, ..Side::default() };
        for row in all {
            match side.rows.get_mut(&(row.comm.clone(), row.mechanism)) {
                Some(known) => {
                    known.add(&row);
                    side.is_coarse = true;
                }
                None => drop(side.rows.insert((row.comm.clone(), row.mechanism), row)),
            }
        }
        side
    }
}

/// A figure that is compared.
struct Figure {
    name: &'static str,
    value: fn(&LoopRow, &Side) -> Option<f64>,
    text: fn(f64) -> String,
    /// More of it is worse.
    costs: bool,
}

fn busy(row: &LoopRow, quantile: fn(&Seconds) -> Option<f64>) -> Option<f64> {
    row.busy_seconds.as_ref().and_then(quantile)
}

const FIGURES: [Figure; 9] = [
    Figure {
        name: "busy p50",
        value: |row, _| busy(row, |busy| busy.p50),
        text: units::seconds,
        costs: true,
    },
    Figure {
        name: "busy p90",
        value: |row, _| busy(row, |busy| busy.p90),
        text: units::seconds,
        costs: true,
    },
    Figure {
        name: "busy p99",
        value: |row, _| busy(row, |busy| busy.p99),
        text: units::seconds,
        costs: true,
    },
    Figure {
        name: "busy max",
        value: |row, _| busy(row, |busy| busy.max),
        text: units::seconds,
        costs: true,
    },
    Figure { name: "utilisation", value: |row, _| row.utilization, text: units::percent, costs: true },
    Figure {
        name: "overrun p99",
        value: |row, _| row.overrun_seconds?.p99,
        text: units::seconds,
        costs: true,
    },
    Figure { name: "wait p99", value: |row, _| row.wait_seconds.p99, text: units::seconds, costs: false },
    Figure {
        name: "waits/s",
        value: |row, side| ratio(side.seconds, row.waits as f64),
        text: units::number,
        costs: false,
    },
    Figure {
        name: "events/s",
        value: |row, side| ratio(side.seconds, row.events as f64),
        text: units::number,
        costs: false,
    },
];

/// A figure that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Program.
    pub comm: String,
    /// Its waiting call.
    pub mechanism: Mechanism,
    /// Which figure.
    pub figure: &'static str,
    /// In the first report.
    pub before: Option<f64>,
    /// In the second.
    pub after: Option<f64>,
    /// How many times the first the second is.
    pub ratio: Option<f64>,
    /// `slower`, `faster`, or `other` where neither is better.
    pub verdict: &'static str,
    #[serde(skip)]
    text: [String; 2],
}

/// What differs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The first report's name.
    pub before: String,
    /// The second's.
    pub after: String,
    /// What differs, the worst first.
    pub changes: Vec<Change>,
    /// Programs of the first alone.
    pub gone: Vec<String>,
    /// Programs of the second alone.
    pub new: Vec<String>,
    /// What cannot be said exactly.
    pub notes: Vec<String>,
}

/// Compares.
pub fn compare(a: &Side, b: &Side) -> Comparison {
    let mut changes: Vec<Change> = Vec::new();
    for (program, before) in &a.rows {
        if let Some(after) = b.rows.get(program) {
            changes.extend(FIGURES.iter().filter_map(|figure| change(figure, (before, a), (after, b))));
        }
    }
    let weight = |change: &Change| change.ratio.unwrap_or(f64::INFINITY);
    let rank =
        |change: &Change| ["slower", "faster", "other"].iter().position(|name| *name == change.verdict);
    changes.sort_by(|x, y| rank(x).cmp(&rank(y)).then_with(|| weight(y).total_cmp(&weight(x))));
    let only = |this: &Side, other: &Side| -> Vec<String> {
        let missing = this.rows.keys().filter(|program| !other.rows.contains_key(*program));
        missing.map(|(comm, mechanism)| format!("{comm} ({})", mechanism.name())).collect()
    };
    let coarse = [a, b].into_iter().filter(|side| side.is_coarse);
    let notes = coarse.map(|side| {
        format!(
            "{} has quantiles of single loops only: of programs with several, the greatest stands for all",
            side.name
        )
    });
    Comparison {
        schema: SCHEMA,
        before: a.name.clone(),
        after: b.name.clone(),
        changes,
        gone: only(a, b),
        new: only(b, a),
        notes: notes.collect(),
    }
}

fn change(figure: &Figure, before: (&LoopRow, &Side), after: (&LoopRow, &Side)) -> Option<Change> {
    let (old, new) = ((figure.value)(before.0, before.1), (figure.value)(after.0, after.1));
    let (x, y) = (old.unwrap_or(0.0), new.unwrap_or(0.0));
    let ratio = ratio(x, y);
    let same = x == y || ratio.is_some_and(|ratio| (1.0 / SAME..=SAME).contains(&ratio));
    if same {
        return None;
    }
    let verdict = match (figure.costs, y > x) {
        (false, _) => "other",
        (true, true) => "slower",
        (true, false) => "faster",
    };
    let text = [old, new].map(|value| value.map_or("-".to_owned(), figure.text));
    let (comm, mechanism) = (before.0.comm.clone(), before.0.mechanism);
    Some(Change { comm, mechanism, figure: figure.name, before: old, after: new, ratio, verdict, text })
}

/// Writes a comparison; `width` as for a report. CSV is not there: the JSON has every figure.
pub fn write(
    comparison: &Comparison,
    format: Format,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if format != Format::Table {
        return json::write(comparison, out);
    }
    writeln!(out, "{} against {}", one_line(&comparison.after), one_line(&comparison.before))?;
    if comparison.changes.is_empty() {
        writeln!(out, "No program of both differs by more than the histograms can be wrong (19 %).")?;
    } else {
        writeln!(out)?;
        let head = |header, align, rank| Head { header, align, rank };
        let mut grid = Grid::new([
            head("VERDICT", Align::Left, 0),
            head("COMM", Align::Left, 0),
            head("MECH", Align::Left, 2),
            head("FIGURE", Align::Left, 0),
            head("BEFORE", Align::Right, 1),
            head("AFTER", Align::Right, 0),
            head("TIMES", Align::Right, 0),
        ]);
        for change in &comparison.changes {
            let [before, after] = change.text.clone();
            let times = change.ratio.map_or("new".to_owned(), |ratio| format!("x{}", units::number(ratio)));
            let (comm, mechanism) = (change.comm.clone(), change.mechanism.name().to_owned());
            grid.push([
                change.verdict.to_owned(),
                comm,
                mechanism,
                change.figure.to_owned(),
                before,
                after,
                times,
            ]);
        }
        grid.write(width, out)?;
    }
    for (what, names) in [("Gone", &comparison.gone), ("New", &comparison.new)] {
        if !names.is_empty() {
            writeln!(out, "\n{what}: {}", sanitize(&names.join(", ")))?;
        }
    }
    comparison.notes.iter().try_for_each(|note| writeln!(out, "\nNote: {}", one_line(note)))
}

#[cfg(test)]
mod tests {
    use super::super::document::{Distribution, Time};
    use super::*;

    fn row(comm: &str, p99: f64, busy: f64) -> LoopRow {
        LoopRow {
            comm: comm.to_owned(),
            waits: 100,
            busy_seconds: Some(Distribution { count: 9, p99: Some(p99), ..Distribution::default() }),
            time: Time { wait: 1.0 - busy, busy: Some(busy), other_wait: None },
            utilization: Some(busy),
            ..LoopRow::default()
        }
    }

    fn side(name: &str, rows: Vec<LoopRow>) -> Side {
        Side::new(name.to_owned(), 1.0, rows)
    }

    #[test]
    fn what_got_slower_comes_first_and_what_a_bucket_may_hide_is_not_said() {
        let a = side("a", vec![row("nginx", 0.010, 0.5), row("redis", 0.010, 0.5), row("old", 1.0, 0.1)]);
        let b = side("b", vec![row("nginx", 0.011, 0.1), row("redis", 0.080, 0.5), row("new", 1.0, 0.1)]);
        let comparison = compare(&a, &b);
        let said: Vec<_> =
            comparison.changes.iter().map(|c| (c.comm.as_str(), c.figure, c.verdict)).collect();
        assert_eq!(said, [("redis", "busy p99", "slower"), ("nginx", "utilisation", "faster")]);
        assert_eq!((comparison.gone[0].as_str(), comparison.new[0].as_str()), ("old (epoll)", "new (epoll)"));
        let mut out = Vec::new();
        write(&comparison, Format::Table, None, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("slower   redis  epoll  busy p99       10ms   80ms   x8.0"), "{text}");
    }

    #[test]
    fn several_loops_of_a_program_are_one_and_that_is_said() {
        let several = side("a", vec![row("nginx", 0.010, 0.5), row("nginx", 0.030, 0.3)]);
        let nginx = several.rows.values().next().unwrap();
        assert_eq!((nginx.waits, nginx.busy_seconds.unwrap().p99), (200, Some(0.030)));
        assert!((nginx.utilization.unwrap() - 0.4).abs() < 1e-9);
        let comparison = compare(&several, &side("b", Vec::new()));
        assert!(comparison.notes[0].starts_with("a has quantiles"), "{:?}", comparison.notes);
    }
}
