//! How a command ends when it cannot do its work: an exit code and one line.
//!
//! The line says what failed, where, and how to mend it; whoever makes a [`Failure`] writes it so. Nothing
//! here ends the process: `main` does, with [`finish`].

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use crate::report::text;

/// Why a command did not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code: 1 could not do it, 2 bad input.
    pub code: u8,
    /// What, where, how to mend: one line without a prefix.
    pub message: String,
}

impl Failure {
    /// The work was understood and could not be done: not root, no BTF, the output failed. Exit code 1.
    pub fn cannot(message: impl fmt::Display) -> Self {
        Self { code: 1, message: text::one_line(&message.to_string()) }
    }

    /// What was asked for is wrong, and nothing was started: a bad value, no such process. Exit code 2.
    pub fn bad_input(message: impl fmt::Display) -> Self {
        Self { code: 2, message: text::one_line(&message.to_string()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    /// The whole chain on one line. A failure that was wrapped keeps its exit code; all else is
    /// [`Failure::cannot`].
    fn from(error: anyhow::Error) -> Self {
        let code = error.downcast_ref::<Self>().map_or(1, |failure| failure.code);
        Self { code, ..Self::cannot(format!("{error:#}")) }
    }
}

/// The exit code of a command: its own where it did its work, else that of the failure, which is first printed on
/// stderr as one line.
pub fn finish(result: Result<ExitCode, Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(failure) => {
            // Where stderr is closed too there is nobody left to tell; the exit code still says it.
            let _ = writeln!(std::io::stderr(), "loopscope: error: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_message_is_one_line_and_safe_for_a_terminal() {
        let failure = Failure::cannot("load:\n  R1 \u{1b}[31minvalid\n");
        assert_eq!((failure.code, failure.message.as_str()), (1, "load: R1 ?[31minvalid"));
    }

    #[test]
    fn an_error_shows_its_whole_chain_and_means_could_not() {
        let error = anyhow::anyhow!("permission denied").context("attach epoll_wait");
        assert_eq!(Failure::from(error), Failure::cannot("attach epoll_wait: permission denied"));
    }

    #[test]
    fn bad_input_stays_bad_input_when_wrapped() {
        let wrapped = Err::<(), _>(Failure::bad_input("no process 7")).context("--pid").unwrap_err();
        assert_eq!(Failure::from(wrapped), Failure::bad_input("--pid: no process 7"));
    }
}
