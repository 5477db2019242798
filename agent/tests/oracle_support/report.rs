//! `loopscope report`, as a user runs it.

use std::process::Command;

use loopscope::report::Report;

use super::process::{Output, Process, Signal};

/// The program under test.
pub const LOOPSCOPE: &str = env!("CARGO_BIN_EXE_loopscope");

/// A report in the making.
pub struct Watching(Process);

impl Watching {
    /// Starts it, and waits until it watches.
    pub fn start() -> Self {
        let mut command = Command::new(LOOPSCOPE);
        let mut process = Process::start(command.args(["report", "--duration", "60s", "--format", "json"]));
        process.wait_for_line(Output::Err, "watching");
        Watching(process)
    }

    /// Ends it, and takes what it printed.
    pub fn stop(self) -> Report {
        self.0.signal(Signal::INT);
        let printed = self.0.finish();
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in {printed:?}"))
    }
}
