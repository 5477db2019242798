//! `agent --config FILE`: a TOML file with the options' own names. What the command line gives wins.
//!
//! The file is turned into the options that it stands for, and those are read by the command line's one definition: so
//! there is no second list of names, values and defaults. Nothing is started here.

use std::{collections::BTreeSet, ffi::OsString, fs, path::Path};

use clap::{Arg, ArgAction, Command as Definition, CommandFactory, parser::ValueSource};
use toml::de::{DeTable, DeValue};

use super::{AgentArgs, Cli, Command, Failure, parse};

/// Options that a file cannot have: they say where it is, or what is done once.
const NOT_IN_A_FILE: [&str; 6] = ["config", "config.check", "duration", "help", "once", "version"];

/// Bytes of a file at most.
const LONGEST: u64 = 1 << 20;

/// An option in the file.
struct Setting {
    name: String,
    line: usize,
    /// As the command line has it: `--name=value`, or `--name`.
    words: Vec<String>,
}

/// The arguments of `agent` for a command line and the file that it names.
///
/// # Errors
/// [`Failure::bad_input`] with the file's name and the line, or as [`parse`].
pub fn agent(argv: &[OsString]) -> Result<AgentArgs, Failure> {
    let args = read(argv)?;
    let Some(path) = &args.config else { return Ok(args) };
    let refused =
        |why: &dyn std::fmt::Display| Failure::bad_input(format!("--config {}: {why}", path.display()));
    let length = fs::metadata(path).map_err(|error| refused(&error))?.len();
    if length > LONGEST {
        return Err(refused(&"a configuration has at most 1 MB"));
    }
    let text = fs::read_to_string(path).map_err(|error| refused(&error))?;
    merge(argv, &text, path)
}

/// Reads a command line of `agent`.
fn read(argv: &[OsString]) -> Result<AgentArgs, Failure> {
    match parse(argv.iter().cloned())?.map(|cli| cli.command) {
        Some(Command::Agent(args)) => Ok(args),
        _ => Err(Failure::cannot("a configuration is for loopscope agent alone")),
    }
}

/// The command line with the file's options, but for those that it has itself.
pub(super) fn merge(argv: &[OsString], text: &str, path: &Path) -> Result<AgentArgs, Failure> {
    let at = |line: usize, why: &str| Failure::bad_input(format!("{}:{line}: {why}", path.display()));
    let settings = settings(text).map_err(|(line, why)| at(line, &why))?;
    let mut definition = Cli::command();
    definition.build();
    let agent = definition.find_subcommand("agent").cloned().unwrap_or_default();
    let given = given(argv, &agent);
    let (program, rest) = argv.split_at_checked(2).unwrap_or((argv, &[]));
    let mut merged = program.to_vec();
    for setting in settings {
        if NOT_IN_A_FILE.contains(&setting.name.as_str()) {
            return Err(at(setting.line, &format!("{} is for the command line alone", setting.name)));
        }
        let arg = option(&agent, &setting.name);
        if let (Some(arg), [_, _, ..]) = (arg, &setting.words[..])
            && !matches!(arg.get_action(), ArgAction::Append)
        {
            return Err(at(setting.line, &format!("{} takes one value", setting.name)));
        }
        // Alone, so that what is wrong with it is said of its own line.
        let words = setting.words.iter().map(OsString::from);
        read(&program.iter().cloned().chain(words.clone()).collect::<Vec<_>>())
            .map_err(|failure| at(setting.line, &failure.message))?;
        if !arg.is_some_and(|arg| given.contains(arg.get_id().as_str())) {
            merged.extend(words);
        }
    }
    merged.extend(rest.iter().cloned());
    read(&merged)
}

/// The option of that name.
fn option<'a>(agent: &'a Definition, name: &str) -> Option<&'a Arg> {
    agent.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

/// The options that the command line gives.
fn given(argv: &[OsString], agent: &Definition) -> BTreeSet<String> {
    let Ok(matches) = Cli::command().try_get_matches_from(argv) else { return BTreeSet::new() };
    let Some(own) = matches.subcommand_matches("agent") else { return BTreeSet::new() };
    let ids = agent.get_arguments().map(|arg| arg.get_id().as_str());
    let is_given =
        |id: &&str| own.try_contains_id(id).is_ok() && own.value_source(id) == Some(ValueSource::CommandLine);
    ids.filter(is_given).map(str::to_owned).collect()
}

/// Every option in the file, or the line and what is wrong there.
fn settings(text: &str) -> Result<Vec<Setting>, (usize, String)> {
    let line = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        (line(error.span().map_or(0, |span| span.start)), error.message().replace('\n', "; "))
    })?;
    let mut settings = Vec::new();
    flatten("", table.get_ref(), &line, &mut settings)?;
    Ok(settings)
}

/// Adds what a table holds; a table within stands for names with points, such as web.config.file.
fn flatten(
    before: &str,
    table: &DeTable<'_>,
    line: &dyn Fn(usize) -> usize,
    settings: &mut Vec<Setting>,
) -> Result<(), (usize, String)> {
    for (key, value) in table {
        let name = format!("{before}{}", key.get_ref());
        let line_of_key = line(key.span().start);
        if let DeValue::Table(inner) = value.get_ref() {
            flatten(&format!("{name}."), inner, line, settings)?;
            continue;
        }
        let words = words(&name, value.get_ref()).map_err(|why| (line_of_key, why))?;
        settings.push(Setting { name, line: line_of_key, words });
    }
    Ok(())
}

/// The words of the command line that a value stands for.
fn words(name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let word = |value: &str| vec![format!("--{name}={value}")];
    Ok(match value {
        DeValue::String(text) => word(text),
        DeValue::Integer(number) => {
            let value = i128::from_str_radix(number.as_str(), number.radix());
            word(&value.map_err(|error| format!("{name}: {error}"))?.to_string())
        }
        DeValue::Float(number) => word(number.as_str()),
        DeValue::Boolean(true) => vec![format!("--{name}")],
        DeValue::Boolean(false) => Vec::new(),
        DeValue::Array(values) => {
            let mut all = Vec::new();
            for value in values.iter().map(|value| value.get_ref()) {
                if matches!(value, DeValue::Array(_) | DeValue::Boolean(_)) {
                    return Err(format!("{name} holds neither arrays nor truth values"));
                }
                all.extend(words(name, value)?);
            }
            all
        }
        DeValue::Datetime(_) | DeValue::Table(_) => {
            return Err(format!("{name} is no text, number, truth value or array of them"));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::export::grouping::By;

    fn argv(words: &str) -> Vec<OsString> {
        format!("loopscope agent {words}").split_whitespace().map(OsString::from).collect()
    }

    fn merged(words: &str, text: &str) -> Result<AgentArgs, String> {
        merge(&argv(words), text, Path::new("agent.toml")).map_err(|failure| {
            assert_eq!(failure.code, 2);
            failure.message
        })
    }

    const FILE: &str = "# an agent\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\ncomm = [\"nginx*\"]\npid = [1, 2]\n\
                        group-by = \"unit\"\nmin-age = \"30s\"\nmax-groups = 5\n[web]\nconfig.file = \"web.yml\"\nmax-requests = 0x10\n";

    #[test]
    fn a_file_says_what_the_command_line_can_say() {
        let args = merged("", FILE).unwrap();
        assert_eq!(args.listen.len(), 2);
        assert_eq!((args.filters.comms.len(), &args.filters.pids[..]), (1, &[1, 2][..]));
        assert_eq!((args.series.group_by, args.series.min_age), (By::Unit, Duration::from_secs(30)));
        assert_eq!((args.series.max_groups, args.series.max_label_length), (5, 256));
        assert_eq!(args.web_config.as_deref(), Some(Path::new("web.yml")));
    }

    #[test]
    fn the_command_line_wins_and_takes_the_place_of_lists() {
        let args = merged("--max-groups 7 --web.listen-address 127.0.0.1:3 --comm redis", FILE).unwrap();
        assert_eq!(args.series.max_groups, 7);
        assert_eq!(args.listen, ["127.0.0.1:3".parse().unwrap()]);
        assert_eq!(args.filters.comms.len(), 1);
        assert_eq!(args.filters.comms[0].glob(), "redis");
        assert_eq!(args.series.group_by, By::Unit, "what it does not say comes from the file");
    }

    #[test]
    fn an_alias_is_the_same_option_in_a_file() {
        let text = "\"web.listen-address\" = \"127.0.0.1:4\"\n";
        assert_eq!(merged("", text).unwrap().listen, ["127.0.0.1:4".parse().unwrap()]);
        assert_eq!(merged("--listen 127.0.0.1:5", text).unwrap().listen, ["127.0.0.1:5".parse().unwrap()]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, says) in [
            ("\nmax-group = 1\n", 2, "--max-groups"),
            ("max-groups = 0\n", 1, "1..=100000"),
            ("# a\n\ngroup-by = \"name\"\n", 3, "comm"),
            ("max-groups = [1, 2]\n", 1, "one value"),
            ("comm = [\"a\", [\"b\"]]\n", 1, "neither arrays"),
            ("max-groups = true\n", 1, "--max-groups"),
            ("comm = 1979-05-27\n", 1, "no text"),
            ("a = 1\na = 2\n", 2, "duplicate"),
            ("listen = \n", 1, ""),
            ("[web]\nconfig.fil = \"x\"\n", 2, "web.config.fil"),
            ("max-groups = 1\nconfig = \"other.toml\"\n", 2, "command line alone"),
            ("once = \"a.prom\"\n", 1, "command line alone"),
            ("listen = [\"localhost:1\"]\n", 1, "127.0.0.1:10178"),
        ] {
            let why = merged("", text).err().unwrap_or_else(|| panic!("{text:?} is taken"));
            assert!(
                why.starts_with(&format!("agent.toml:{line}: ")) && why.contains(says),
                "{text:?}: {why}"
            );
            assert!(!why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn nothing_in_a_file_is_fatal() {
        for text in
            ["", "\u{feff}", "\u{0}", "=", "[[", "a.b.c.d", &"[".repeat(100_000), "\"\" = 1", "'-' = 1"]
        {
            let _ = merged("", text);
        }
        assert!(merged("", "").is_ok());
    }

    #[test]
    fn a_value_cannot_become_another_option() {
        let why = merged("", "comm = \"--once\"\n").map(|args| args.filters.comms[0].glob().to_owned());
        assert_eq!(why.as_deref(), Ok("--once"));
        assert!(merged("", "\"max-groups=7 --once\" = \"x\"\n").is_err());
        assert!(merged("", "\"max-groups=7\" = \"x\"\n").is_err());
    }
}
