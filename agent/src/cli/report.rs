//! `loopscope report`: watches for a while, then prints what every event loop did.

use std::{
    io::{IsTerminal, stderr, stdout},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Backend, Failure, Kernel, ReportArgs, child, output, select::Selection};
use crate::{
    kernel::{Options, ProbeState, Watched, Ways, btf::BtfError, facts},
    model::Window,
    reactor::{Event, Reactor, Watch},
    report::{
        self, Format, build,
        document::{Report, SCHEMA},
        host::Host,
    },
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
    let mut selection = Selection::new(&args.filters)?;
    selection.watched.descendants = !args.command.is_empty();
    let reactor = Reactor::new()?;
    let mut watch = start(&reactor, &args.kernel, &selection)?;
    let started_at = SystemTime::now();
    let mut code = 0;
    if args.command.is_empty() {
        wait(&reactor, &mut watch, args.duration.unwrap_or(DURATION))?;
    } else {
        let child = child::Watched::start(&args.command, args.format != Format::Table)?;
        accompany(&reactor, &mut watch, &child)?;
        code = child.code()?;
    }
    let report = document(&mut watch, &selection, started_at);
    let width = terminal_width();
    output::write(|out| report::write(&report, args.format, width, out))?;
    Ok(ExitCode::from(code))
}

/// Loads and attaches; a main job that cannot be done is an error.
fn start(reactor: &Reactor, kernel: &Kernel, selection: &Selection) -> Result<Watch, Failure> {
    attach(reactor, kernel, &options(kernel, &selection.watched)?)
}

/// As [`start`], with these options.
pub fn attach(reactor: &Reactor, kernel: &Kernel, options: &Options) -> Result<Watch, Failure> {
    let watch = Watch::start(options, reactor).map_err(|error| refused(kernel, error))?;
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
/// A way of attaching that there is none of yet, or a capability that is missing.
pub fn options(kernel: &Kernel, watched: &Watched) -> Result<Options, Failure> {
    let ways = match kernel.backend {
        Backend::Auto => Ways::default(),
        Backend::Tracepoint => Ways { tracepoint: true, raw: false },
        Backend::Raw => Ways { tracepoint: false, raw: true },
        Backend::Fentry => {
            return Err(Failure::cannot("--backend fentry is not there yet; use auto, tracepoint or raw"));
        }
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
fn tend(watch: &mut Watch, event: Event) -> Result<(), Failure> {
    match event {
        Event::Tick => watch.sample()?,
        Event::Records => watch.drain(),
        Event::Log => watch.print_log(),
        Event::Woken | Event::Child | Event::Deadline | Event::Signal { .. } => {}
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

/// Puts the report together.
fn document(watch: &mut Watch, selection: &Selection, started_at: SystemTime) -> Report {
    let interest = watch.read_interest();
    let mut window = watch.window();
    selection.apply(&mut window);
    let mut notes = selection.notes();
    notes.extend(interest.err().map(|error| format!("what instances watch is not known: {error:#}")));
    describe(watch, &window, notes, started_at)
}

/// The report on a window; `said` is what its view could not see, beside what the probes could not.
pub fn describe(watch: &Watch, window: &Window, said: Vec<String>, started_at: SystemTime) -> Report {
    let host = Host::this();
    let mut notes = said;
    notes.extend(build::notes(watch.probes()));
    if watch.damaged() > 0 {
        notes.push(format!("{} records could not be read: probe and agent do not fit", watch.damaged()));
    }
    Report {
        schema: SCHEMA,
        host: host.name,
        kernel: host.kernel,
        arch: host.arch,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: humantime::format_rfc3339_millis(started_at).to_string(),
        duration_seconds: window.duration_ns as f64 / 1e9,
        probes: build::probe_rows(watch.probes(), &window.counters),
        lost: build::lost(&window.counters, watch.missed()),
        notes,
        loops: window.loops.iter().map(build::loop_row).collect(),
        instances: window.instances.iter().map(build::instance_row).collect(),
    }
}

/// Columns of the terminal on stdout; None where there is none.
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}
