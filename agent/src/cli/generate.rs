//! Shell completions and the man page, made from the command line's one definition.
//!
//! No text of its own beyond headings: what an option means is said in [`super::args`] alone.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// Writes the completion script of `shell`.
pub fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // clap_complete panics where its writer fails; memory does not.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "loopscope", &mut script);
    out.write_all(&script)
}

/// Writes the man page (roff): the command, then each subcommand with its options and examples.
pub fn man(out: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let page = Man::new(command.clone()).title("LOOPSCOPE").section("8").manual("loopscope");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        man_of(subcommand, out)?;
    }
    examples(&page, ".SH EXAMPLES", out)
}

/// The part of a subcommand, as subsections of COMMANDS.
fn man_of(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let man = Man::new(command.clone());
    writeln!(out, ".SS \"{}\"", command.get_bin_name().unwrap_or_else(|| command.get_name()))?;
    let mut body = Vec::new();
    man.render_synopsis_section(&mut body)?;
    man.render_description_section(&mut body)?;
    man.render_options_section(&mut body)?;
    for line in String::from_utf8_lossy(&body).lines() {
        match line.strip_prefix(".SH ") {
            // The subsection's title stands for these two.
            Some("SYNOPSIS" | "DESCRIPTION") => writeln!(out, ".PP")?,
            Some(heading) => writeln!(out, ".PP\n\\fB{}\\fR", heading.trim_matches('"'))?,
            None => writeln!(out, "{line}")?,
        }
    }
    if command.get_after_long_help().is_some() {
        examples(&man, ".PP", out)?;
    }
    Ok(())
}

/// The examples of a command: what clap prints after its long help. Indented lines are examples and stay as
/// they are, all else is prose and is filled.
fn examples(man: &Man, heading: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut body = Vec::new();
    man.render_extra_section(&mut body)?;
    let mut is_example = false;
    for line in String::from_utf8_lossy(&body).lines() {
        if line.starts_with(".SH ") {
            writeln!(out, "{heading}")?;
            continue;
        }
        if line.starts_with("  ") != is_example {
            is_example = !is_example;
            writeln!(out, "{}", if is_example { ".nf" } else { ".fi" })?;
        }
        writeln!(out, "{line}")?;
    }
    if is_example { writeln!(out, ".fi") } else { Ok(()) }
}
