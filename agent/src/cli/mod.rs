//! The command line: its definition ([`args`]), how it is read ([`parse`]) and how a command ends
//! ([`failure`]).
//!
//! Help, completions and the man page ([`generate`]) all come from the one definition. A file per command ([`top`],
//! [`report`], [`record`], [`compare`], [`agent`], [`check`]) puts the parts together; bad input is refused before anything is started.

pub mod agent;
pub mod args;
pub mod check;
mod child;
pub mod compare;
mod config;
pub mod duration;
pub mod failure;
mod fleet;
pub mod generate;
pub mod inspect;
pub mod output;
mod readings;
pub mod record;
pub mod report;
mod select;
pub mod top;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

pub use args::{
    AgentArgs, Backend, CheckArgs, Cli, Command, CompareArgs, Filters, InspectArgs, Kernel, ProbeLog,
    RecordArgs, ReportArgs, TopArgs,
};
pub use failure::{Failure, finish};

/// Reads the command line `args`, the program's name first. `None`: help or version was asked for and has
/// been printed, nothing is left to do.
///
/// # Errors
/// An unknown option or a bad value is [`Failure::bad_input`], in one line that names the option and what it
/// takes.
pub fn parse<A>(args: impl IntoIterator<Item = A>) -> Result<Option<Cli>, Failure>
where
    A: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    match Cli::try_parse_from(&args) {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if error.use_stderr() => Err(Failure::bad_input(one_line(&error, help_command(&args)))),
        Err(help) => output::ignore_closed_pipe(help.print()).map(|()| None),
    }
}

/// The command whose help explains a bad line: the subcommand where one was named.
fn help_command(args: &[OsString]) -> String {
    let named =
        args.get(1).and_then(|name| Cli::command().find_subcommand(name).map(|c| c.get_name().to_owned()));
    match named {
        Some(name) => format!("loopscope {name} --help"),
        None => "loopscope --help".to_owned(),
    }
}

/// clap's message without its usage block: what is wrong, the values that are possible, the nearest name.
fn one_line(error: &clap::Error, help: String) -> String {
    let rendered = error.to_string();
    let mut message = String::new();
    for line in rendered.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        let line = line.strip_prefix("error: ").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        match line.strip_prefix("tip: ") {
            Some(_) => message.push_str("; "),
            None if !message.is_empty() => message.push(' '),
            None => {}
        }
        message.push_str(line.strip_prefix("tip: ").unwrap_or(line));
    }
    format!("{message}; see '{help}'")
}

/// For the fuzz targets alone: what `agent --config` makes of a file with that text.
///
/// # Errors
/// As `agent` refuses it: bad input.
#[cfg(fuzzing)]
pub fn fuzz_config(text: &str) -> Result<AgentArgs, Failure> {
    let argv = ["loopscope", "agent"].map(OsString::from);
    config::merge(&argv, text, std::path::Path::new("agent.toml"))
}

#[cfg(test)]
mod tests;
