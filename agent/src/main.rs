//! The `loopscope` binary: parse, run, map errors to exit codes.

use std::process::ExitCode;

use loopscope::cli::{self, Command, Failure, generate, output};

fn main() -> ExitCode {
    cli::finish(run())
}

fn run() -> Result<ExitCode, Failure> {
    let Some(cli) = cli::parse(std::env::args_os())? else {
        return Ok(ExitCode::SUCCESS);
    };
    match cli.command {
        Command::Report(args) => return cli::report::run(&args),
        Command::Inspect(args) => return cli::inspect::run(&args),
        Command::Agent(args) => cli::agent::run(&args),
        Command::Check(args) => cli::check::run(&args),
        Command::Completions { shell } => output::write(|out| generate::completions(shell, out)),
        Command::Man => output::write(generate::man),
    }
    .map(|()| ExitCode::SUCCESS)
}
