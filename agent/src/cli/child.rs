//! The command of `report -- COMMAND`: started under our eyes, waited for through a descriptor. Ends nothing by itself.

use std::{
    ffi::OsString,
    os::{fd::AsFd, fd::BorrowedFd, fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, Command, Stdio},
};

use anyhow::Context;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, set_child_subreaper, wait,
};

use super::Failure;

/// A command that runs.
pub struct Watched {
    child: Child,
    pidfd: OwnedFd,
}

impl Watched {
    /// Starts the command. Its orphans become our children, so that they are still seen as its own; its standard output
    /// goes to stderr where ours has to stay clean.
    ///
    /// # Errors
    /// [`Failure::bad_input`] where it cannot be started.
    pub fn start(command: &[OsString], clean_stdout: bool) -> Result<Watched, Failure> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| Failure::bad_input("no command is given after --"))?;
        set_child_subreaper(Some(rustix::process::getpid())).context("cannot keep the command's orphans")?;
        let mut command = Command::new(program);
        command.args(arguments);
        if clean_stdout {
            let stderr = std::io::stderr().as_fd().try_clone_to_owned().context("cannot share stderr")?;
            command.stdout(Stdio::from(stderr));
        }
        let child = command.spawn().map_err(|error| {
            Failure::bad_input(format!("cannot run {}: {error}", program.to_string_lossy()))
        })?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("cannot wait for the command")?;
        Ok(Watched { child, pidfd })
    }

    /// Readable when the command has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Passes a signal on.
    pub fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            // It may have ended just now.
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
    }

    /// Waits for the command, which has ended, and for orphans that have; gives its exit code (128 + N for signal N).
    ///
    /// # Errors
    /// It was waited for by somebody else.
    pub fn code(mut self) -> Result<u8, Failure> {
        let status = self.child.wait().context("cannot wait for the command")?;
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}
