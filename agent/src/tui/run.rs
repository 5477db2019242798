//! Joins the state with the reactor's events: keys, resizes, ticks, the probes' records.

use std::{ops::ControlFlow, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{
    app::{Action, App},
    draw,
    frame::Frame,
    input::{Decoder, Key},
    player::Player,
    source::{Fed, Live},
    terminal::Terminal,
    theme::Theme,
};
use crate::{
    fleet::Poller,
    reactor::{Event, Reactor},
};

/// How long an ESC waits for the rest of a sequence before it is the key: sequences come in one piece but over the
/// slowest of networks.
const ESCAPE: Duration = Duration::from_millis(30);

/// Where windows come from.
pub enum Feed {
    /// The probes.
    Live(Box<Live>),
    /// A running agent.
    Agent(Box<Fed>),
    /// A Prometheus server.
    Fleet(Box<Poller>),
    /// A recording.
    Replay(Box<Player>),
}

/// Shows windows until somebody wants an end, or `frames` were shown.
///
/// # Errors
/// No terminal, it has gone, or the probes or the recording cannot be read.
pub fn run(reactor: &mut Reactor, feed: Feed, app: App, theme: Theme, frames: Option<u64>) -> Result<()> {
    let signals = [Signal::SIGWINCH, Signal::SIGTSTP, Signal::SIGHUP, Signal::SIGQUIT];
    reactor.take_signals(&signals)?;
    let terminal = Terminal::take()?;
    reactor.watch_input(terminal.input())?;
    reactor.tick_every(app.settings.interval)?;
    let mut top = Top { terminal, reactor, feed, app, theme, keys: Decoder::default(), left: frames };
    top.begin()?;
    loop {
        let mut shows = false;
        for event in top.reactor.wait()? {
            if top.on_event(event)?.is_break() {
                return Ok(());
            }
            shows |= !is_silent(event);
        }
        // Once for all events that came together.
        if shows {
            top.draw()?;
        }
    }
}

/// Whether an event changes nothing that is shown. A host on which threads come and go has records all the time: each as a
/// frame of its own were five of six frames beside a compiler.
fn is_silent(event: Event) -> bool {
    matches!(event, Event::Records | Event::Log | Event::Child)
}

struct Top<'a> {
    /// Dropped first: detaching the probes takes a while.
    terminal: Terminal,
    reactor: &'a Reactor,
    feed: Feed,
    app: App,
    theme: Theme,
    keys: Decoder,
    /// Frames that are still to be shown.
    left: Option<u64>,
}

impl Top<'_> {
    fn begin(&mut self) -> Result<()> {
        self.resize()?;
        if let Feed::Replay(player) = &mut self.feed {
            self.reactor.tick_every(player.period())?;
            if let Some(frame) = player.next()? {
                self.show(frame);
            }
        }
        self.draw()
    }

    fn draw(&mut self) -> Result<()> {
        let (app, theme) = (&self.app, self.theme);
        self.terminal.draw(|frame| draw::draw(app, theme, frame)).context("cannot draw on the terminal")
    }

    fn resize(&mut self) -> Result<()> {
        let (_, rows) = self.terminal.size().context("cannot read the terminal's size")?;
        self.app.set_page(draw::page(rows));
        Ok(())
    }

    fn on_event(&mut self, event: Event) -> Result<ControlFlow<()>> {
        match event {
            Event::Tick => return self.tick(),
            Event::Records => {
                if let Feed::Live(live) = &mut self.feed {
                    live.watch.drain();
                }
            }
            Event::Feed => {
                if let Feed::Agent(agent) = &mut self.feed {
                    let frame = agent.frame()?;
                    return Ok(self.show_some(frame));
                }
            }
            Event::Input => return self.input(),
            Event::Deadline => {
                if let Some(key) = self.keys.flush() {
                    return self.key(key);
                }
            }
            Event::Signal { number, .. } if number == Signal::SIGWINCH as i32 => self.resize()?,
            Event::Signal { number, .. } if number == Signal::SIGTSTP as i32 => self.suspend()?,
            Event::Signal { .. } | Event::Hangup => return Ok(ControlFlow::Break(())),
            Event::Woken => {
                if let Feed::Fleet(poller) = &mut self.feed {
                    match poller.take() {
                        Some(Ok(answer)) => return Ok(self.show_some(Some(Frame::of_fleet(answer)))),
                        Some(Err(why)) => self.app.on_failure(why),
                        None => {}
                    }
                }
            }
            Event::Log | Event::Child => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn tick(&mut self) -> Result<ControlFlow<()>> {
        let frame = match &mut self.feed {
            Feed::Live(live) => Some(live.frame()?),
            Feed::Agent(agent) => {
                agent.ask()?;
                None
            }
            Feed::Fleet(poller) => {
                poller.ask()?;
                None
            }
            Feed::Replay(player) => player.tick()?,
        };
        Ok(self.show_some(frame))
    }

    /// Shows a window, if there is one; the end where there were enough.
    fn show_some(&mut self, frame: Option<Frame>) -> ControlFlow<()> {
        if let Some(frame) = frame {
            self.show(frame);
        }
        if self.left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn show(&mut self, frame: Frame) {
        self.app.on_frame(frame);
        if let Feed::Replay(player) = &self.feed {
            self.app.progress = Some(player.progress());
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    fn input(&mut self) -> Result<ControlFlow<()>> {
        let Some(bytes) = self.terminal.read().context("cannot read keys")? else {
            return Ok(ControlFlow::Break(()));
        };
        for key in self.keys.feed(&bytes) {
            if self.key(key)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.keys.is_waiting() {
            self.reactor.deadline_after(ESCAPE)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn key(&mut self, key: Key) -> Result<ControlFlow<()>> {
        if let Key::Click(x, y) = key {
            let size = self.terminal.size().context("cannot read the terminal's size")?;
            if let Some(hit) = draw::hit(&self.app, size, (x, y)) {
                self.app.on_hit(hit);
            }
            return Ok(ControlFlow::Continue(()));
        }
        match self.app.on_key(key) {
            Action::None => {}
            Action::Quit => return Ok(ControlFlow::Break(())),
            Action::Suspend => self.suspend()?,
            Action::Redraw => self.terminal.clear().context("cannot draw on the terminal")?,
            Action::Interval(interval) => self.reactor.tick_every(interval)?,
            Action::Replay(command) => self.control(|player| player.control(command))?,
            Action::Seek(text) => self.control(|player| player.seek(&text))?,
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Does something to the replay, and shows where it is then.
    fn control(&mut self, act: impl FnOnce(&mut Player) -> Result<Option<Frame>>) -> Result<()> {
        let Feed::Replay(player) = &mut self.feed else { return Ok(()) };
        match act(player) {
            Ok(frame) => {
                if player.jumped() {
                    self.app.on_jump();
                }
                self.reactor.tick_every(player.period())?;
                self.app.progress = Some(player.progress());
                if let Some(frame) = frame {
                    self.show(frame);
                }
            }
            Err(error) => self.app.notice = Some(format!("{error:#}")),
        }
        Ok(())
    }

    fn suspend(&mut self) -> Result<()> {
        self.terminal.stop()?;
        self.resize()
    }
}
