//! `loopscope compare`: two reports or recordings side by side. Watches nothing.

use std::{fs, path::Path};

use super::{CompareArgs, Failure, output, record, report::terminal_width};
use crate::{
    report::{
        Report,
        compare::{self, Side},
        document::SCHEMA,
        group::{self, Grouping},
    },
    store::{Recording, Step},
};

/// A report of more bytes is none.
const LONGEST: u64 = 1 << 30;

/// Runs the command.
///
/// # Errors
/// A file that is neither a report nor a recording (2); the output failed (1).
pub fn run(args: &CompareArgs) -> Result<(), Failure> {
    let (before, after) = (side(&args.before)?, side(&args.after)?);
    let comparison = compare::compare(&before, &after);
    output::write(|out| compare::write(&comparison, args.format.into(), terminal_width(), out))
}

fn side(path: &Path) -> Result<Side, Failure> {
    let name = path.display().to_string();
    let refuse = |why: String| Failure::bad_input(format!("{name}: {why}"));
    let size = fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if Recording::is_one(path) || size == 0 {
        return recorded(path);
    }
    if size > LONGEST {
        return Err(refuse("this is too long for a report".to_owned()));
    }
    let text = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let report: Report = serde_json::from_slice(&text)
        .map_err(|_| refuse("neither a recording nor what report --format json prints".to_owned()))?;
    if report.schema != SCHEMA {
        return Err(refuse(format!(
            "a report of schema {}, and this loopscope reads {SCHEMA}",
            report.schema
        )));
    }
    Ok(Side::new(name, report.duration_seconds, report.loops))
}

/// The window of a whole recording; quantiles are those of all waits of a program.
fn recorded(path: &Path) -> Result<Side, Failure> {
    let mut replay = record::open(path)?;
    while replay.step().map_err(|error| record::unreadable(path, &error))? != Step::End {}
    let window = replay.samples();
    let rows = group::rows(&window.loops, Grouping::Program);
    let seconds = window.duration_ns as f64 / 1e9;
    Ok(Side::new(path.display().to_string(), seconds, rows.iter().map(|row| row.row.clone())))
}
