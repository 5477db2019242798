//! The probes' own diagnostics on stderr: `--probe-log LEVEL`. Carries text only, never figures.

use std::io::Write;

use log::{Log, Metadata, Record};

/// Prints each line that a probe logged.
pub struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // A closed stderr is no reason to stop watching.
        let _ = writeln!(std::io::stderr(), "probe: {}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}
