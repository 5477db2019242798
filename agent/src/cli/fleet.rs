//! `loopscope top --from URL`: the first answer of the server, and frames on stdout.

use super::{Failure, TopArgs, top::Printer};
use crate::{
    fleet::{Client, Poller, Url, View},
    reactor::{Event, Reactor},
    report::text,
    tui::frame::Frame,
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

/// Prints the frame that is there, and those that follow until there were enough or a signal comes. A poll that fails gives
/// the frame before, marked as old.
///
/// # Errors
/// The output fails.
pub fn print(mut printer: Printer, reactor: &Reactor, mut poller: Poller) -> Result<(), Failure> {
    eprintln!("watching");
    let notes = printer.app.frame().into_iter().flat_map(|frame| &frame.head.notes);
    notes.for_each(|note| eprintln!("loopscope: note: {}", text::one_line(note)));
    reactor.tick_every(printer.app.settings.interval)?;
    let mut is_all = printer.print()?;
    while !is_all {
        is_all = match next(reactor, &mut poller)? {
            None => return Ok(()),
            Some(Ok(frame)) => printer.show(frame)?,
            Some(Err(why)) => {
                eprintln!("loopscope: note: {}", text::one_line(&why));
                printer.app.on_failure(why);
                printer.print()?
            }
        };
    }
    Ok(())
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
