//! What the command line's one definition yields: help, completions, the man page.

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use loopscope::cli::{Cli, generate, parse};

fn every_command() -> Vec<Command> {
    let mut command = Cli::command();
    command.build();
    command.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect()
}

#[test]
fn help_and_version_leave_nothing_to_do() {
    for args in [&["--version"][..], &["--help"], &["report", "--help"], &["help", "check"]] {
        let args = std::iter::once("loopscope").chain(args.iter().copied());
        assert!(parse(args).unwrap().is_none());
    }
}

#[test]
fn every_command_and_option_is_described() {
    for command in every_command() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        assert!(command.get_after_long_help().is_some(), "{} has no examples", command.get_name());
        for option in command.get_arguments() {
            assert!(option.get_help().is_some(), "{} {}", command.get_name(), option.get_id());
        }
    }
}

#[test]
fn the_examples_in_the_help_are_read_without_error() {
    let mut seen = 0;
    for command in every_command().into_iter().chain([Cli::command()]) {
        let help = command.get_after_long_help().unwrap().to_string();
        for line in help.lines().filter(|line| line.starts_with("  loopscope")) {
            // What follows a pipe, a redirection or two spaces is the shell's or the reader's.
            let end = [" | ", " > ", "  "].iter().filter_map(|stop| line.trim().find(stop)).min();
            let line = line.trim();
            let words = line[..end.unwrap_or(line.len())].split(' ').map(|word| word.trim_matches('\''));
            parse(words).unwrap_or_else(|failure| panic!("{line}: {failure}"));
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen}");
}

#[test]
fn help_states_units_and_defaults() {
    let mut report = every_command().into_iter().find(|command| command.get_name() == "report").unwrap();
    let help = report.render_long_help().to_string();
    for text in
        ["seconds", "[default: 10s]", "[default: table]", "[default: auto]", "[default: off]", "json", "raw"]
    {
        assert!(help.contains(text), "{text} in {help}");
    }
}

#[test]
fn completions_of_every_shell_know_every_command_and_option() {
    for shell in Shell::value_variants() {
        let mut script = Vec::new();
        generate::completions(*shell, &mut script).unwrap();
        let script = String::from_utf8(script).unwrap();
        for word in ["report", "check", "completions", "man", "duration", "probe-log", "tracepoint"] {
            // The elvish and PowerShell scripts offer no values of options.
            let has_values = !matches!(shell, Shell::Elvish | Shell::PowerShell);
            assert!(script.contains(word) || (word == "tracepoint" && !has_values), "{word} in {shell}");
        }
    }
}

#[test]
fn the_man_page_has_every_command_with_its_options_and_examples() {
    let mut page = Vec::new();
    generate::man(&mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains(".TH LOOPSCOPE 8"), "{page}");
    for heading in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH COMMANDS", ".SH EXAMPLES"] {
        assert_eq!(page.lines().filter(|line| *line == heading).count(), 1, "{heading} in {page}");
    }
    for command in every_command() {
        let heading = format!(".SS \"loopscope {}\"", command.get_name());
        assert_eq!(page.lines().filter(|line| **line == heading).count(), 1, "{heading} in {page}");
    }
    for text in
        ["\\-\\-duration", "\\-\\-cgroup", "\\-\\-probe\\-log", "loopscope report \\-\\-duration 500ms"]
    {
        assert!(page.contains(text), "{text} in {page}");
    }
}
