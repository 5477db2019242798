//! `loopscope report`: watches for a while, then prints what every event loop did.

use std::{
    io::{IsTerminal, stderr, stdout},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Backend, Failure, Kernel, ReportArgs, child, output, readings, record, select::Selection};
use crate::{
    confine,
    feed::{PATIENCE, Remote},
    kernel::{Options, ProbeState, Watched, Ways, btf::BtfError, facts},
    reactor::{Event, Reactor, Watch},
    report::{
        self, Format,
        build::{self, Aside, Origin},
        document::Report,
        host::Host,
    },
    store::{Limits, Recorder, Step},
};

/// How often everything is read: often enough that no u32 count can wrap unseen (2^32 waits a second), and that
/// processes are still there when /proc is asked about them.
const TICK: Duration = Duration::from_secs(1);

/// How long to watch where nothing else is asked for.
const DURATION: Duration = Duration::from_secs(10);

/// Runs the command; gives the exit code of the command that was watched, if one was.
///
/// # Errors
/// Bad filters (2); not allowed, refused by the kernel, or the output failed (1).
pub fn run(args: &ReportArgs) -> Result<ExitCode, Failure> {
    if let Some(path) = &args.replay {
        return replay(args, path);
    }
    let may_ask = args.command.is_empty() && args.record.is_none();
    if may_ask && let Some(remote) = readings::of_agent(&args.readings, &args.kernel) {
        return of_agent(args, remote);
    }
    let mut selection = Selection::new(&args.filters)?;
    selection.watched.descendants = !args.command.is_empty();
    let recorder = match &args.record {
        Some(path) => Some(record::create(path, Limits::default(), &selection)?),
        None => None,
    };
    let reactor = Reactor::new()?;
    let mut watch = start(&reactor, &args.kernel, &selection, recorder)?;
    let mut code = 0;
    if args.command.is_empty() {
        confine::step_down(args.kernel.no_confine, args.record.is_some());
        wait(&reactor, &mut watch, args.duration.unwrap_or(DURATION))?;
    } else {
        let child = child::Watched::start(&args.command, args.format != Format::Table)?;
        accompany(&reactor, &mut watch, &child)?;
        code = child.code()?;
    }
    let report = document(&mut watch, &selection);
    let recorded = record::finish(&mut watch);
    let width = terminal_width();
    output::write(|out| report::write(&report, args.format, width, out))?;
    recorded.map(|_| if fails(args, &report) { ExitCode::FAILURE } else { ExitCode::from(code) })
}

/// The report, from the readings of a running agent.
fn of_agent(args: &ReportArgs, mut remote: Remote) -> Result<ExitCode, Failure> {
    let selection = Selection::of_agent(&args.filters)?;
    follow(&mut remote, args.duration.unwrap_or(DURATION))?;
    let mut window = remote.follower.window();
    selection.apply(&mut window);
    let (origin, aside) = readings::aside(&remote);
    let report = build::report(&window, &origin, aside, remote.follower.started_at);
    output::write(|out| report::write(&report, args.format, terminal_width(), out))?;
    Ok(if fails(args, &report) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Takes in what an agent says until the time is over or a signal comes, and then the interest sets.
pub fn follow(remote: &mut Remote, duration: Duration) -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    reactor.watch_feed(remote.fd())?;
    reactor.deadline_after(duration)?;
    let progress = progress(duration);
    until(&reactor, remote, |event, _| matches!(event, Event::Deadline | Event::Signal { .. }))?;
    // Now, and not when it was asked last.
    ask(&reactor, remote)?;
    if let Some(bar) = progress {
        bar.finish_and_clear();
    }
    Ok(())
}

/// Has the agent read everything now.
pub fn latest(remote: &mut Remote) -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    reactor.watch_feed(remote.fd())?;
    ask(&reactor, remote)
}

fn ask(reactor: &Reactor, remote: &mut Remote) -> Result<(), Failure> {
    remote.ask(true)?;
    reactor.deadline_after(PATIENCE)?;
    until(reactor, remote, |event, has_come| has_come || event == Event::Deadline)
}

/// Takes in what the agent says until an event ends it; the second argument says that what was asked for has come.
fn until(
    reactor: &Reactor,
    remote: &mut Remote,
    mut ends: impl FnMut(Event, bool) -> bool,
) -> Result<(), Failure> {
    loop {
        for event in reactor.wait()? {
            let has_come = event == Event::Feed && remote.take()?;
            if ends(event, has_come) {
                return Ok(());
            }
        }
    }
}

/// Loads and attaches; a main job that cannot be done is an error.
pub fn start(
    reactor: &Reactor,
    kernel: &Kernel,
    selection: &Selection,
    recorder: Option<Recorder>,
) -> Result<Watch, Failure> {
    attach(reactor, kernel, &options(kernel, &selection.watched)?, recorder)
}

/// As [`start`], with these options.
pub fn attach(
    reactor: &Reactor,
    kernel: &Kernel,
    options: &Options,
    recorder: Option<Recorder>,
) -> Result<Watch, Failure> {
    let watch = Watch::start_recording(options, reactor, recorder).map_err(|error| refused(kernel, error))?;
    missing(watch.probes()).map_or(Ok(watch), Err)
}

/// Why nothing could be loaded. A file of the user's that is no BTF, or not this kernel's, is bad input.
pub fn refused(kernel: &Kernel, error: anyhow::Error) -> Failure {
    match &kernel.btf {
        Some(path) if error.downcast_ref::<BtfError>().is_some() => {
            Failure::bad_input(format!("--btf {}: {error:#}", path.display()))
        }
        _ => error.into(),
    }
}

/// How to load, from the command line.
///
/// # Errors
/// A capability that is missing.
pub fn options(kernel: &Kernel, watched: &Watched) -> Result<Options, Failure> {
    let ways = match kernel.backend {
        Backend::Auto => Ways::default(),
        Backend::Fentry => Ways { fentry: true, ..Ways::NONE },
        Backend::Tracepoint => Ways { tracepoint: true, ..Ways::NONE },
        Backend::Raw => Ways { raw: true, ..Ways::NONE },
    };
    match facts::lacks() {
        Some(lacks) => Err(Failure::cannot(lacks)),
        None => Ok(Options {
            btf: kernel.btf.clone(),
            log_level: kernel.probe_log as u8,
            watched: watched.clone(),
            ways,
            backlog: !kernel.no_backlog,
            hot: None,
            run_times: kernel.probe_stats,
            only: None,
        }),
    }
}

/// The failure that the main job cannot be done: a probe that it needs is not attached.
pub fn missing(probes: &[ProbeState]) -> Option<Failure> {
    let state = probes.iter().find(|state| state.probe.essential && state.error().is_some())?;
    let why = state.error().unwrap_or_default();
    Some(Failure::cannot(format!("cannot watch {}: {why}; `loopscope check` says more", state.probe.name())))
}

/// Watches until the time is over or a signal comes.
pub fn wait(reactor: &Reactor, watch: &mut Watch, duration: Duration) -> Result<(), Failure> {
    reactor.tick_every(TICK)?;
    reactor.deadline_after(duration)?;
    let started = Instant::now();
    let progress = progress(duration);
    'watching: loop {
        for event in reactor.wait()? {
            match event {
                Event::Deadline | Event::Signal { .. } => break 'watching,
                other => tend(watch, other)?,
            }
        }
        if let Some(bar) = &progress {
            bar.set_position(started.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
        }
    }
    watch.sample()?;
    watch.print_log();
    if let Some(bar) = progress {
        bar.finish_and_clear();
    }
    Ok(())
}

/// Watches until the command ends. Signals go to it; those of the terminal it has got already.
fn accompany(reactor: &Reactor, watch: &mut Watch, child: &child::Watched) -> Result<(), Failure> {
    reactor.watch_child(child.fd())?;
    reactor.tick_every(TICK)?;
    'watching: loop {
        for event in reactor.wait()? {
            match event {
                Event::Child => break 'watching,
                Event::Signal { number, directed: true } => child.signal(number),
                other => tend(watch, other)?,
            }
        }
    }
    watch.sample()?;
    watch.print_log();
    Ok(())
}

/// What every event means but those that end the watch.
pub fn tend(watch: &mut Watch, event: Event) -> Result<(), Failure> {
    match event {
        Event::Tick => watch.sample()?,
        Event::Records => watch.drain(),
        Event::Log => watch.print_log(),
        Event::Woken
        | Event::Child
        | Event::Deadline
        | Event::Input
        | Event::Feed
        | Event::Signal { .. }
        | Event::Hangup => {}
    }
    Ok(())
}

/// A bar where a person watches stderr; else the line for which scripts wait.
fn progress(duration: Duration) -> Option<ProgressBar> {
    if !stderr().is_terminal() {
        eprintln!("watching");
        return None;
    }
    let length = duration.as_millis().try_into().unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("watching {wide_bar} {elapsed} of {msg}, Ctrl-C ends early");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(format!("{duration:?}"));
    Some(bar)
}

/// What documents say of where the windows of these probes come from.
pub fn origin(probes: &[ProbeState], notes: Vec<String>) -> Origin {
    Origin {
        host: Host::this(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        probes: probes.to_vec(),
        notes,
    }
}

/// Puts the report together.
fn document(watch: &mut Watch, selection: &Selection) -> Report {
    let interest = watch.read_interest().err().map(build::no_interest);
    let mut window = watch.window();
    selection.apply(&mut window);
    let aside = Aside { missed: watch.missed(), damaged: watch.damaged(), interest, costs: watch.costs() };
    build::report(&window, &origin(watch.probes(), selection.notes()), aside, watch.started_at())
}

/// The report that was, or would have been, printed when the recording was made.
fn replay(args: &ReportArgs, path: &Path) -> Result<ExitCode, Failure> {
    let mut replay = record::open(path)?;
    let selection = Selection::of_recording(&args.filters, &replay.head().filtered)?;
    let damaged = |error| record::unreadable(path, &error);
    while replay.step().map_err(damaged)? != Step::End {}
    let mut window = replay.window();
    selection.apply(&mut window);
    let aside = Aside {
        missed: replay.missed(),
        damaged: replay.damaged(),
        interest: replay.no_interest(),
        costs: replay.costs(),
    };
    let report = build::report(&window, &replay.origin(), aside, replay.started_at());
    output::write(|out| report::write(&report, args.format, terminal_width(), out))?;
    Ok(if fails(args, &report) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether a row meets a condition of --fail-if; names those that do.
fn fails(args: &ReportArgs, report: &Report) -> bool {
    let failures: Vec<String> =
        args.fail_if.iter().flat_map(|condition| condition.failures(&report.loops)).collect();
    for failure in &failures {
        eprintln!("loopscope: failed: {}", report::text::one_line(failure));
    }
    !failures.is_empty()
}

/// Columns of the terminal on stdout; None where there is none.
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}
