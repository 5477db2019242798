//! `loopscope agent`: watches until it is told to end, and serves what it sees as metrics.
//!
//! This thread owns the probes, the model and the sums; the server's asks it. It reads the probes when it is asked, and
//! else every few seconds. Nothing that a client does may end it.

use std::{
    fmt,
    io::{Write, stderr},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use hyper::body::Bytes;
use loopscope_probe::Counters;

use super::{AgentArgs, Failure, report, select::Selection};
use crate::{
    export::{
        Answer, Exchange, Figures, Own, Subject, Unavailable, exchange, families, figures,
        groups::Groups,
        page::Page,
        server::{self, Limits, Server},
    },
    reactor::{Event, Reactor, Watch},
    report::build,
};

/// How often everything is read where nobody scrapes: often enough that no u32 count can wrap unseen, and that what
/// ended is not kept for long.
const TICK: Duration = Duration::from_secs(5);

/// How often the interest sets are read: they take 60 ns an entry, and 12 us a process.
const INTEREST: Duration = Duration::from_secs(10);

/// Scrapes that come within this time of a sample share it.
const SHARED: Duration = Duration::from_millis(100);

/// What is watched, and everything that was counted.
struct Agent {
    watch: Watch,
    selection: Selection,
    groups: Groups,
    counters: Counters,
    started: SystemTime,
    /// How long the last sample took.
    sample: Duration,
    /// The last text, and when its sample was taken.
    text: Option<(Instant, Bytes)>,
    /// What the page shows.
    page: Page,
    /// Whether the last sample failed.
    failing: bool,
    /// When the interest sets were last read, or could not be.
    interest: Option<Instant>,
}

/// Runs the command.
///
/// # Errors
/// Bad filters (2); an address that cannot be had, not allowed, or refused by the kernel (1).
pub fn run(args: &AgentArgs) -> Result<(), Failure> {
    let started = SystemTime::now();
    let selection = Selection::new(&args.filters)?;
    let options = report::options(&args.kernel, &selection.watched)?;
    let reactor = Reactor::new()?;
    let listeners = server::bind(&args.listen)?;
    for listener in &listeners {
        let address = listener.local_addr().context("a socket has no address")?;
        say(format_args!("listening on http://{address}/metrics"));
    }
    let waker = reactor.waker();
    let (client, exchange) = exchange(move || waker.wake());
    // Before the probes are attached, so that whoever asks meanwhile hears that it is not ready.
    let server = Server::start(listeners, client, Limits::default())?;
    let watch = Watch::start(&options, &reactor).map_err(|error| report::refused(&args.kernel, error))?;
    if let Some(failure) = report::missing(watch.probes()) {
        return Err(failure);
    }
    let mut agent = Agent::new(watch, selection, args.max_groups, started);
    agent.sample()?;
    exchange.set_ready(true);
    agent.announce();
    let ended = agent.serve(&reactor, &exchange);
    // Questions that are left are dropped with it, and so answered.
    drop(exchange);
    server.stop();
    ended
}

/// A line on stderr. Where nobody reads it any more, the agent goes on.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(stderr(), "{line}");
}

impl Agent {
    fn new(watch: Watch, selection: Selection, max_groups: u32, started: SystemTime) -> Agent {
        Agent {
            watch,
            selection,
            groups: Groups::new(max_groups as usize),
            counters: Counters::default(),
            started,
            sample: Duration::ZERO,
            text: None,
            page: Page::new(),
            failing: false,
            interest: None,
        }
    }

    /// Says what is not watched, and the line for which scripts wait.
    fn announce(&self) {
        for note in self.selection.notes().into_iter().chain(build::notes(self.watch.probes())) {
            say(format_args!("loopscope: note: {note}"));
        }
        say(format_args!("watching"));
    }

    /// Answers scrapes until a signal comes.
    fn serve(&mut self, reactor: &Reactor, exchange: &Exchange) -> Result<(), Failure> {
        reactor.tick_every(TICK)?;
        loop {
            for event in reactor.wait()? {
                match event {
                    Event::Signal { .. } => return Ok(()),
                    Event::Tick => self.tick(exchange)?,
                    Event::Woken => self.answer(exchange)?,
                    Event::Records => self.watch.drain(),
                    Event::Log => self.watch.print_log(),
                    Event::Deadline | Event::Child => {}
                }
            }
        }
    }

    /// Samples. A failure is said once, and until it is over there are no metrics: they would stand still.
    fn tick(&mut self, exchange: &Exchange) -> Result<(), Failure> {
        let result = self.sample();
        match &result {
            Err(error) if !self.failing => say(format_args!("loopscope: error: {error:#}; trying again")),
            Ok(()) if self.failing => {
                say(format_args!("loopscope: note: the probes' records can be read again"))
            }
            _ => {}
        }
        self.failing = result.is_err();
        exchange.set_ready(result.is_ok());
        self.answer(exchange)
    }

    /// Answers every scrape that waits.
    fn answer(&mut self, exchange: &Exchange) -> Result<(), Failure> {
        let questions = exchange.questions().ok_or_else(|| Failure::cannot("the HTTP server has ended"))?;
        if questions.is_empty() {
            return Ok(());
        }
        for question in questions {
            let answer = match question.subject {
                Subject::Metrics => self.text(),
                Subject::Page => self.page().map(Page::html),
                Subject::Loops => self.page().map(Page::json),
            };
            let answer: Answer = answer.map_err(|error| Unavailable(format!("{error:#}")));
            // An error says that the client has gone.
            let _ = question.send(answer);
        }
        Ok(())
    }

    /// The text of /metrics, not older than [`SHARED`].
    fn text(&mut self) -> Result<Bytes> {
        if let Some((at, text)) = &self.text
            && at.elapsed() < SHARED
        {
            return Ok(text.clone());
        }
        self.sample()?;
        let at = Instant::now();
        let figures = Figures {
            groups: &self.groups,
            probes: self.watch.probes(),
            counters: &self.counters,
            missed: self.watch.missed(),
            damaged: self.watch.damaged(),
            sample: self.sample,
            own: Own::read(self.started),
        };
        let text = Bytes::from(families::text(&figures)?);
        self.text = Some((at, text.clone()));
        Ok(text)
    }

    /// The page, of a reading that others share.
    fn page(&mut self) -> Result<&Page> {
        if self.page.want() {
            self.sample()?;
        }
        Ok(&self.page)
    }

    /// Reads the probes and adds what happened since the last time.
    fn sample(&mut self) -> Result<()> {
        let start = Instant::now();
        self.watch.sample()?;
        if self.interest.is_none_or(|at| at.elapsed() >= INTEREST) {
            // Where they cannot be read, there are no figures of them; `loopscope report` says why.
            let _ = self.watch.read_interest();
            self.interest = Some(Instant::now());
        }
        let mut window = self.watch.window();
        self.watch.begin();
        figures::add_counters(&mut self.counters, &window.counters);
        self.selection.apply(&mut window);
        self.page.see(&window, &self.counters, self.watch.missed());
        self.groups.add(window);
        self.sample = start.elapsed();
        Ok(())
    }
}
