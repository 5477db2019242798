//! Claims about how the command line is read.

use super::*;
use crate::report::Format;

fn read(args: &[&str]) -> Command {
    parse(std::iter::once("loopscope").chain(args.iter().copied())).unwrap().unwrap().command
}

fn refused(args: &[&str]) -> String {
    let failure = parse(std::iter::once("loopscope").chain(args.iter().copied())).unwrap_err();
    assert_eq!(failure.code, 2, "{args:?}");
    assert!(!failure.message.contains(char::is_control), "{:?}", failure.message);
    failure.message
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_report_without_options_has_the_documented_defaults() {
    let Command::Report(report) = read(&["report"]) else { panic!("not a report") };
    assert_eq!((report.duration, report.format), (None, Format::Table));
    assert!(report.filters.is_empty() && report.filters.comm_matcher().unwrap().is_none());
    assert_eq!((report.kernel.backend, report.kernel.probe_log), (Backend::Auto, ProbeLog::Off));
    assert_eq!(report.kernel.btf, None);
}

#[test]
fn filters_repeat() {
    let args = "report --pid 1 --pid 22 --comm nginx* --comm {redis,valkey}-server --cgroup /a --cgroup /b";
    let Command::Report(report) = read(&args.split(' ').collect::<Vec<_>>()) else { panic!("not a report") };
    assert_eq!(report.filters.pids, [1, 22]);
    assert_eq!(report.filters.cgroups.len(), 2);
    let comms = report.filters.comm_matcher().unwrap().unwrap();
    assert!(comms.is_match("nginx: worker") && comms.is_match("valkey-server") && !comms.is_match("redis"));
}

#[test]
fn every_backend_and_level_of_the_contract_is_read() {
    for backend in ["auto", "fentry", "tracepoint", "raw"] {
        let Command::Check(check) = read(&["check", "--backend", backend]) else { panic!("not a check") };
        assert_eq!(check.kernel.backend.name(), backend);
    }
    for level in ["off", "error", "warn", "info", "debug", "trace"] {
        let Command::Check(check) = read(&["check", "--probe-log", level]) else { panic!("not a check") };
        assert_eq!(check.kernel.probe_log.filter().to_string().to_lowercase(), level);
    }
}

#[test]
fn bad_input_is_one_line_that_says_what_where_and_how_to_mend() {
    for (args, message) in [
        (
            &["report", "--duration", "0"][..],
            "invalid value '0' for '--duration <TIME>': a duration must be longer than nothing; see 'loopscope report --help'",
        ),
        (
            &["report", "--duration", "-5s"],
            "invalid value '-5s' for '--duration <TIME>': a duration must be longer than nothing; see 'loopscope report --help'",
        ),
        (
            &["report", "--format", "jsn"],
            "invalid value 'jsn' for '--format <FORMAT>' [possible values: table, json, csv]; a similar value exists: 'json'; see 'loopscope report --help'",
        ),
        (
            &["report", "--pid", "0"],
            "invalid value '0' for '--pid <N>': 0 is not in 1..=4194304; see 'loopscope report --help'",
        ),
        (
            &["report", "--comm", "[a"],
            "invalid value '[a' for '--comm <GLOB>': unclosed character class; missing ']'; see 'loopscope report --help'",
        ),
        (
            &["report", "--comm", "a-very-long-process-name"],
            "invalid value 'a-very-long-process-name' for '--comm <GLOB>': the kernel keeps 15 bytes of a name: use 'a-very-long-pro'; see 'loopscope report --help'",
        ),
        (&["check", "--comm", "x"], "unexpected argument '--comm' found; see 'loopscope check --help'"),
        (
            &["completions"],
            "the following required arguments were not provided: <SHELL>; see 'loopscope completions --help'",
        ),
        (
            &["reprot"],
            "unrecognized subcommand 'reprot'; a similar subcommand exists: 'report'; see 'loopscope --help'",
        ),
    ] {
        assert_eq!(refused(args), message);
    }
    assert!(refused(&[]).contains("top, report, record"), "{}", refused(&[]));
    let hostile = refused(&["report", "--cgroup", "a\u{1b}[31m\nb"]);
    assert!(hostile.contains("--cgroup <PATH>") && hostile.contains("begins with /"), "{hostile}");
}
