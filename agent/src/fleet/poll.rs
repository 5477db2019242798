//! Asks everything that a view needs, in a thread of its own, so that a slow server delays no key.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use globset::GlobSet;

use super::{
    client::Client,
    document::{FleetDocument, FleetRow, HostRow},
    queries::{Form, HOSTS, HOSTS_NOW, LOST, QUERIES, expression},
    rows::{Answer, Numbers, Table, time},
};
use crate::{reactor::Waker, report::document::SCHEMA};

/// What is wanted of a server.
pub struct View {
    /// The server.
    pub client: Client,
    /// Over how long rates and quantiles are, seconds.
    pub window: u64,
    /// Names of processes; None: all.
    pub comms: Option<GlobSet>,
}

/// The thread that asks. It ends with the process, or once this is dropped and its last request is over.
pub struct Poller {
    asks: Sender<()>,
    answers: Receiver<Result<Answer, String>>,
    asked: bool,
}

impl Poller {
    /// Starts the thread, which wakes the reactor with each answer.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(view: View, waker: Waker) -> Result<Poller> {
        let ((asks, asked), (answer, answers)) = (channel(), channel());
        let work = move || {
            let mut numbers = Numbers::default();
            for () in asked {
                if answer.send(view.answer(&mut numbers)).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        thread::Builder::new().name("fleet".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Poller { asks, answers, asked: false })
    }

    /// Asks for an answer, unless one is asked for already.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn ask(&mut self) -> Result<()> {
        if !self.asked {
            self.asked = true;
            self.asks.send(()).context("the thread that asks has ended")?;
        }
        Ok(())
    }

    /// The answer that was asked for, or why there is none, if it has come.
    pub fn take(&mut self) -> Option<Result<Answer, String>> {
        let answer = self.answers.try_recv().ok()?;
        self.asked = false;
        Some(answer)
    }
}

impl View {
    /// Asks for everything, as of one time.
    ///
    /// # Errors
    /// One line, which begins with the server.
    pub fn answer(&self, numbers: &mut Numbers) -> Result<Answer, String> {
        let (client, window) = (&self.client, self.window);
        let hosts = client.instant(HOSTS, None)?;
        let Some(at) = hosts.first().map(|series| series.at) else {
            return Err(format!(
                "{}: has no metrics of loopscope; let it scrape `loopscope agent` (docs/agent.md)",
                client.url()
            ));
        };
        let ask = |expression: &str| client.instant(expression, Some(at));
        let mut known: BTreeMap<String, HostRow> = BTreeMap::new();
        for (series, scraped) in hosts
            .into_iter()
            .map(|series| (series, false))
            .chain(ask(HOSTS_NOW)?.into_iter().map(|series| (series, true)))
        {
            let host = series.labels.get("instance").cloned().unwrap_or_default();
            let version = series.labels.get("version").cloned();
            known.insert(host.clone(), HostRow { host, version, scraped });
        }
        let mut lost: BTreeMap<String, f64> = BTreeMap::new();
        for series in ask(&expression(LOST, Form::Rate, window))? {
            let reason = series.labels.get("reason").cloned().unwrap_or_default();
            *lost.entry(reason).or_default() += series.value;
        }
        lost.retain(|_, rate| *rate > 0.0);
        let mut table = Table::default();
        for query in &QUERIES {
            table.put(query, ask(&query.expression(window))?);
        }
        let mut notes = Vec::new();
        if !table.has_rates() {
            notes.push(format!("no host has two scrapes within {window} s: --from-window wants four times the scrape interval"));
        }
        let silent: Vec<&str> =
            known.values().filter(|host| !host.scraped).map(|host| host.host.as_str()).collect();
        if !silent.is_empty() {
            notes.push(format!("not scraped now: {}", silent.join(", ")));
        }
        let moment = UNIX_EPOCH + Duration::try_from_secs_f64(at).unwrap_or_default();
        let document = FleetDocument {
            schema: SCHEMA,
            from: client.url().to_string(),
            at: time(moment),
            window_seconds: window,
            hosts: known.into_values().collect(),
            lost_per_second: lost,
            notes,
            ..FleetDocument::default()
        };
        let keeps = |row: &FleetRow| {
            let comm = row.comm.as_deref();
            self.comms.as_ref().is_none_or(|comms| comm.is_some_and(|comm| comms.is_match(comm)))
        };
        Ok(table.answer(document, numbers, moment, keeps))
    }
}
