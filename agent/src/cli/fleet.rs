//! `loopscope top --from URL`: the first answer of the server, and frames on stdout.

use super::{Failure, TopArgs, output, report};
use crate::{
    fleet::{Client, Poller, Url, View},
    reactor::{Event, Reactor},
    report::{Format, text},
    tui::{app::App, batch, frame::Frame},
};

/// Asks the server for the first time; None: a signal came before its answer.
///
/// # Errors
/// Whatever keeps it from giving one: bad input.
pub fn first(args: &TopArgs, url: &Url, reactor: &Reactor) -> Result<Option<(Poller, Frame)>, Failure> {
    let client =
        Client::new(url.clone(), args.fleet.http_config_file.as_deref()).map_err(Failure::bad_input)?;
    let view = View { client, window: args.fleet.window(), comms: args.filters.comm_matcher()? };
    let mut poller = Poller::start(view, reactor.waker())?;
    poller.ask()?;
    loop {
        for event in reactor.wait()? {
            match (event, poller.take()) {
                (_, Some(Ok(answer))) => return Ok(Some((poller, Frame::of_fleet(answer)))),
                (_, Some(Err(why))) => return Err(Failure::bad_input(why)),
                (Event::Signal { .. }, None) => return Ok(None),
                _ => {}
            }
        }
    }
}

/// Prints frames until there were enough, or a signal comes. A poll that fails gives the frame before, marked as old.
///
/// # Errors
/// The output fails.
pub fn print(args: &TopArgs, reactor: &Reactor, begun: (Poller, Frame), mut app: App) -> Result<(), Failure> {
    let (mut poller, first) = begun;
    eprintln!("watching");
    first.head.notes.iter().for_each(|note| eprintln!("loopscope: note: {}", text::one_line(note)));
    app.on_frame(first);
    let mut printed = 0;
    let width = if args.format == Format::Table { report::terminal_width() } else { None };
    reactor.tick_every(app.settings.interval)?;
    loop {
        let mut gone = false;
        output::write(|out| {
            let result = batch::write(&app, args.format, width, printed == 0, out);
            gone = result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
            result
        })?;
        printed += 1;
        if gone || args.frames.is_some_and(|frames| printed >= frames) {
            return Ok(());
        }
        match next(reactor, &mut poller)? {
            None => return Ok(()),
            Some(Ok(frame)) => app.on_frame(frame),
            Some(Err(why)) => {
                eprintln!("loopscope: note: {}", text::one_line(&why));
                app.on_failure(why);
            }
        }
    }
}

/// The next answer; None: a signal came.
fn next(reactor: &Reactor, poller: &mut Poller) -> Result<Option<Result<Frame, String>>, Failure> {
    loop {
        for event in reactor.wait()? {
            match event {
                Event::Signal { .. } => return Ok(None),
                Event::Tick => poller.ask()?,
                Event::Woken => {
                    if let Some(answer) = poller.take() {
                        return Ok(Some(answer.map(Frame::of_fleet)));
                    }
                }
                _ => {}
            }
        }
    }
}
