//! The `loopscope` binary: parse, run, map errors to exit codes.

use std::{ffi::OsString, process::ExitCode};

use loopscope::cli::{self, Command, Failure, generate, output};

fn main() -> ExitCode {
    cli::finish(run())
}

fn run() -> Result<ExitCode, Failure> {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let Some(cli) = cli::parse(argv.iter().cloned())? else {
        return Ok(ExitCode::SUCCESS);
    };
    match cli.command {
        Command::Report(args) => return cli::report::run(&args),
        Command::Inspect(args) => return cli::inspect::run(&args),
        Command::Top(args) => cli::top::run(&args),
        Command::Record(args) => cli::record::run(&args),
        Command::Compare(args) => cli::compare::run(&args),
        Command::Agent(_) => cli::agent::run(&argv),
        Command::Check(args) => cli::check::run(&args),
        Command::Completions { shell } => output::write(|out| generate::completions(shell, out)),
        Command::Man => output::write(generate::man),
    }
    .map(|()| ExitCode::SUCCESS)
}
