//! The agent at work: samples, sums and texts, in the reactor's thread. Answers; opens nothing.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use hyper::body::Bytes;
use loopscope_probe::Counters;

use super::{Failure, say, service};
use crate::{
    cli::select::Selection,
    confine::Confined,
    export::{
        Answer, Exchange, Figures, Own, Subject, Unavailable, families, figures, grouping::Grouping,
        groups::Groups, metric::Metric, page::Page,
    },
    feed,
    model::costs::Costs,
    reactor::{Event, Reactor, Watch},
    report::build,
};

/// How often everything is read where nobody scrapes: often enough that no u32 count can wrap unseen, and that what
/// ended is not kept for long.
const TICK: Duration = Duration::from_secs(5);

/// Scrapes that come within this time of a sample share it.
const SHARED: Duration = Duration::from_millis(100);

/// What is watched, and everything that was counted.
pub struct Agent {
    watch: Watch,
    /// What is left out of each sample.
    pub selection: Selection,
    /// The sums.
    pub groups: Groups,
    counters: Counters,
    /// What the probes' runs took, where it is measured.
    costs: Option<Costs>,
    started: SystemTime,
    /// How long the last sample took.
    sample: Duration,
    /// The last text, and when its sample was taken.
    text: Option<(Instant, Bytes)>,
    /// What the page shows.
    page: Page,
    /// Whether the last sample failed.
    failing: bool,
    /// Views on this host that take their readings from here.
    feed: Option<feed::Server>,
    /// What the process has given up.
    confined: Confined,
}

impl Agent {
    /// An agent that has counted nothing yet.
    pub fn new(
        watch: Watch,
        selection: Selection,
        grouping: Grouping,
        started: SystemTime,
        confined: Confined,
    ) -> Agent {
        Agent {
            watch,
            selection,
            groups: Groups::new(grouping),
            counters: Counters::default(),
            costs: None,
            started,
            sample: Duration::ZERO,
            text: None,
            page: Page::new(),
            failing: false,
            feed: None,
            confined,
        }
    }

    /// Lets views on this host take their readings from here.
    pub fn feed(&mut self, server: feed::Server) {
        self.feed = Some(server);
    }

    /// Does what views ask for.
    fn serve_views(&mut self, reactor: &Reactor) -> Result<()> {
        // What was read before somebody came is not for him: it is no key reading.
        self.flush_views(reactor);
        let Some(server) = &mut self.feed else { return Ok(()) };
        let wanted = server.turn(reactor);
        if wanted.opening {
            match self.watch.open_feed(!self.selection.watched.is_everything()) {
                Some(opening) => server.open(&opening),
                None => server.drop_all(),
            }
        }
        // That they cannot be read is said to the views in their own frame.
        if wanted.interest {
            let _ = self.watch.read_interest();
        }
        if wanted.opening || wanted.reading {
            self.watch.sample()?;
        }
        // After the pass: whether a set's entries are live depends on who waits.
        if wanted.opening {
            let _ = self.watch.read_interest();
        }
        Ok(())
    }

    /// Hands on what was read. Without a view nothing is kept.
    fn flush_views(&mut self, reactor: &Reactor) {
        let (Some(server), Some(recorder)) = (&mut self.feed, self.watch.recorder().as_mut()) else { return };
        server.send(&recorder.fetch(), reactor);
        if server.is_empty() {
            self.watch.close_feed();
        }
    }

    /// Says what is not watched, and the line for which scripts wait.
    pub fn announce(&self) {
        let unread = self.watch.interest_error();
        let unread = unread.map(|reason| format!("what instances watch is not known: {reason}"));
        let notes = self.selection.notes().into_iter().chain(build::notes(self.watch.probes()));
        for note in notes.chain(unread).chain(self.confined.notes()) {
            say(format_args!("loopscope: note: {note}"));
        }
        say(format_args!("watching"));
    }

    /// Answers scrapes until a signal comes that asks for an end; `reload` is called for the one that does not.
    ///
    /// # Errors
    /// The reactor or the server fails.
    pub fn serve(
        &mut self,
        reactor: &Reactor,
        exchange: &Exchange,
        mut reload: impl FnMut(&mut Agent),
    ) -> Result<(), Failure> {
        reactor.tick_every(TICK)?;
        let watchdog = service::watchdog();
        if let Some(every) = watchdog {
            reactor.deadline_after(every)?;
        }
        loop {
            for event in reactor.wait()? {
                match event {
                    Event::Hangup => reload(self),
                    Event::Signal { .. } => return Ok(()),
                    Event::Tick => self.tick(exchange)?,
                    Event::Woken => self.answer(exchange)?,
                    Event::Records => self.watch.drain(),
                    Event::Log => self.watch.print_log(),
                    Event::Deadline => {
                        service::alive();
                        watchdog.map_or(Ok(()), |every| reactor.deadline_after(every))?;
                    }
                    Event::Feed => {
                        if let Err(error) = self.serve_views(reactor) {
                            say(format_args!("loopscope: error: views cannot be served: {error:#}"));
                            self.feed.iter_mut().for_each(feed::Server::drop_all);
                        }
                    }
                    Event::Child | Event::Input => {}
                }
            }
            self.flush_views(reactor);
        }
    }

    /// Watches for a while, or until a signal comes.
    ///
    /// # Errors
    /// The reactor fails, or a sample does.
    pub fn watch_for(&mut self, reactor: &Reactor, duration: Duration) -> Result<(), Failure> {
        reactor.tick_every(TICK)?;
        reactor.deadline_after(duration)?;
        loop {
            for event in reactor.wait()? {
                match event {
                    Event::Signal { .. } | Event::Hangup | Event::Deadline => return Ok(self.sample()?),
                    Event::Tick => self.sample()?,
                    Event::Records => self.watch.drain(),
                    Event::Log => self.watch.print_log(),
                    Event::Woken | Event::Child | Event::Input | Event::Feed => {}
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
                Subject::Metrics => self.shared_text(),
                Subject::Native => self.native(),
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
    fn shared_text(&mut self) -> Result<Bytes> {
        if let Some((at, text)) = &self.text
            && at.elapsed() < SHARED
        {
            return Ok(text.clone());
        }
        self.sample()?;
        let at = Instant::now();
        let text = Bytes::from(self.text(|_| true)?);
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

    /// The metrics as protobuf, with native histograms. Of who asks for it there are one or two, so it is not shared.
    #[cfg(feature = "native-histograms")]
    fn native(&mut self) -> Result<Bytes> {
        self.sample()?;
        crate::export::native::protobuf(&self.figures()).map(Bytes::from)
    }

    #[cfg(not(feature = "native-histograms"))]
    fn native(&mut self) -> Result<Bytes> {
        anyhow::bail!("this build has no native histograms")
    }

    /// The text of the metrics that are wanted, as of the last sample.
    pub fn text(&self, wanted: impl Fn(&Metric) -> bool) -> Result<String> {
        families::text(&self.figures(), wanted)
    }

    fn figures(&self) -> Figures<'_> {
        Figures {
            groups: &self.groups,
            probes: self.watch.probes(),
            counters: &self.counters,
            costs: self.costs.as_ref(),
            missed: self.watch.missed(),
            damaged: self.watch.damaged(),
            sample: self.sample,
            own: Own::read(self.started),
            confined: &self.confined,
        }
    }

    /// Reads the probes and adds what happened since the last time.
    ///
    /// # Errors
    /// As [`Watch::sample`].
    pub fn sample(&mut self) -> Result<()> {
        let start = Instant::now();
        self.watch.sample()?;
        // Where they cannot be read, the series that need them are missing, and `announce` has said so.
        self.watch.refresh_interest();
        // Nine tenths of a loop's counts are zero, and there may be thousands of loops.
        let mut window = self.watch.packed_window();
        if let Some(costs) = self.watch.costs() {
            self.costs.get_or_insert_default().add(&costs);
        }
        self.watch.begin();
        figures::add_counters(&mut self.counters, &window.counters);
        self.selection.apply(&mut window);
        self.page.see(&window, &self.counters, self.watch.missed());
        self.groups.add(window);
        self.sample = start.elapsed();
        Ok(())
    }
}
