//! `loopscope top`: a live view of every event loop, of this host, of a recording, or of all hosts of a Prometheus server.

use std::time::Duration;

use super::{Failure, ProbeLog, TopArgs, fleet, output, readings, record, report, select::Selection};
use crate::{
    confine,
    fleet::Url,
    reactor::{Event, Reactor},
    report::{Format, group::Grouping},
    tui::{
        app::{App, Settings},
        batch,
        frame::Frame,
        player::Player,
        run::{self, Feed},
        source::{Fed, Live},
        theme::Theme,
    },
};

/// Length of a window where nothing else is asked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between two polls of a server, likewise: agents are scraped every 15 s and seldomer.
const POLL: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// Bad filters, or a file that is no recording (2); no terminal, not allowed, or refused by the kernel (1).
pub fn run(args: &TopArgs) -> Result<(), Failure> {
    if !args.batch && args.kernel.probe_log != ProbeLog::Off {
        return Err(Failure::bad_input("--probe-log would be drawn over; use it with --batch"));
    }
    let mut reactor = Reactor::new()?;
    if let Some(url) = &args.fleet.from {
        return of_server(args, url, reactor);
    }
    let (feed, source) = feed(args, &reactor)?;
    let settings = Settings {
        interval: args.interval.unwrap_or(INTERVAL),
        sort: args.sort,
        grouping: args.group,
        replay: args.replay.is_some(),
        fleet: false,
        source,
    };
    let app = App::new(settings);
    if args.batch {
        return print(args, &reactor, feed, app);
    }
    Ok(run::run(&mut reactor, feed, app, theme(), args.frames)?)
}

/// The view of all hosts that a Prometheus server knows.
fn of_server(args: &TopArgs, url: &Url, mut reactor: Reactor) -> Result<(), Failure> {
    let Some((poller, frame)) = fleet::first(args, url, &reactor)? else { return Ok(()) };
    let mut app = App::new(Settings {
        interval: args.interval.unwrap_or(POLL),
        sort: args.sort,
        grouping: Grouping::Program,
        replay: false,
        fleet: true,
        source: "agents'".to_owned(),
    });
    app.on_frame(frame);
    let feed = Feed::Fleet(Box::new(poller));
    if args.batch {
        return print(args, &reactor, feed, app);
    }
    let frames = args.frames.map(|frames| frames.saturating_sub(1));
    if frames == Some(0) {
        return Ok(());
    }
    Ok(run::run(&mut reactor, feed, app, theme(), frames)?)
}

fn theme() -> Theme {
    let environment = |name| std::env::var(name).ok();
    Theme::from_environment(environment("NO_COLOR").as_deref(), environment("TERM").as_deref())
}

/// Where the windows come from, and whose the probes are.
fn feed(args: &TopArgs, reactor: &Reactor) -> Result<(Feed, String), Failure> {
    if let Some(path) = &args.replay {
        let replay = record::open(path)?;
        let selection = Selection::of_recording(&args.filters, &replay.head().filtered)?;
        let filter = Box::new(move |window: &mut _| selection.apply(window));
        let player = Player::new(replay, filter, args.speed);
        return Ok((Feed::Replay(Box::new(player)), "recorded".to_owned()));
    }
    if let Some(remote) = readings::of_agent(&args.readings, &args.kernel) {
        let selection = Selection::of_agent(&args.filters)?;
        reactor.watch_feed(remote.fd())?;
        let source = format!("agent {}'s", remote.head().pid);
        let filter = Box::new(move |window: &mut _| selection.apply(window));
        return Ok((Feed::Agent(Box::new(Fed::new(remote, filter))), source));
    }
    let selection = Selection::new(&args.filters)?;
    let watch = report::start(reactor, &args.kernel, &selection, None)?;
    confine::step_down(args.kernel.no_confine, false);
    let origin = report::origin(watch.probes(), selection.notes());
    let filter = Box::new(move |window: &mut _| selection.apply(window));
    Ok((Feed::Live(Box::new(Live::new(watch, origin, filter))), "own".to_owned()))
}

/// Frames on stdout, one after the other.
pub(super) struct Printer<'a> {
    args: &'a TopArgs,
    pub(super) app: App,
    printed: u64,
}

impl Printer<'_> {
    /// Takes a frame in and prints it. Gives whether that is all: there were enough, or nobody reads on.
    pub(super) fn show(&mut self, frame: Frame) -> Result<bool, Failure> {
        self.app.on_frame(frame);
        self.print()
    }

    /// Prints what there is; gives the same.
    pub(super) fn print(&mut self) -> Result<bool, Failure> {
        let (app, format) = (&self.app, self.args.format);
        let width = if format == Format::Table { report::terminal_width() } else { None };
        let mut gone = false;
        output::write(|out| {
            let result = batch::write(app, format, width, self.printed == 0, out);
            gone = result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
            result
        })?;
        self.printed += 1;
        Ok(gone || self.args.frames.is_some_and(|frames| self.printed >= frames))
    }
}

/// Prints frames until there were enough, or a signal comes; of a recording all, without waiting.
fn print(args: &TopArgs, reactor: &Reactor, feed: Feed, app: App) -> Result<(), Failure> {
    let mut printer = Printer { args, app, printed: 0 };
    match feed {
        Feed::Replay(mut player) => {
            let path = args.replay.as_deref().unwrap_or(std::path::Path::new(""));
            while let Some(frame) = player.next().map_err(|error| record::unreadable(path, &error))? {
                if printer.show(frame)? {
                    break;
                }
            }
            Ok(())
        }
        Feed::Fleet(poller) => fleet::print(printer, reactor, *poller),
        Feed::Agent(mut agent) => {
            eprintln!("watching");
            reactor.tick_every(args.interval.unwrap_or(INTERVAL))?;
            loop {
                for event in reactor.wait()? {
                    let frame = match event {
                        Event::Signal { .. } => return Ok(()),
                        Event::Tick => agent.ask().map(|()| None)?,
                        Event::Feed => agent.frame()?,
                        _ => None,
                    };
                    if let Some(frame) = frame
                        && printer.show(frame)?
                    {
                        return Ok(());
                    }
                }
            }
        }
        Feed::Live(mut live) => {
            eprintln!("watching");
            reactor.tick_every(args.interval.unwrap_or(INTERVAL))?;
            loop {
                for event in reactor.wait()? {
                    match event {
                        Event::Signal { .. } => return Ok(()),
                        Event::Tick => {
                            if printer.show(live.frame()?)? {
                                return Ok(());
                            }
                        }
                        other => report::tend(&mut live.watch, other)?,
                    }
                }
            }
        }
    }
}
