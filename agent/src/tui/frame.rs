//! What one window gives a live view: the report without its loops, the loops in little room, and the agent's own cost.
//!
//! A frame holds figures of the model; it computes none, and knows no terminal.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use crate::{
    fleet::Answer,
    model::Window,
    report::{
        build::{self, Aside, Origin},
        document::{InstanceRow, Report},
        group::{self, Grouping, Row, Sample},
    },
};

/// The agent's own cost in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Own {
    /// CPU time of whoever reads the probes, seconds; None where it is not known.
    pub cpu_seconds: Option<f64>,
    /// CPU time of the view, where another process reads the probes.
    pub view_seconds: Option<f64>,
    /// Processors of the machine.
    pub cpus: usize,
}

/// A window, as a view takes it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// All but the loops.
    pub head: Report,
    /// When the window ended.
    pub at: SystemTime,
    /// Loops and other waiters.
    pub samples: Vec<Sample>,
    /// What the agent itself took.
    pub own: Own,
    /// Loops, waiters that are none, waits and events of the window.
    pub sums: Sums,
    /// What a Prometheus server knows of many hosts, where this is no window of one.
    pub fleet: Option<Answer>,
    instances: HashMap<u64, usize>,
}

/// Sums over all loops of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Loops.
    pub loops: usize,
    /// Other waiters.
    pub waiters: usize,
    /// Completed waits.
    pub waits: u64,
    /// Events that they returned.
    pub events: u64,
}

impl Frame {
    /// From a window that began at `started_at` and ended at `at`.
    pub fn new(
        window: Window<Sample>,
        origin: &Origin,
        aside: Aside,
        times: (SystemTime, SystemTime),
        own: Own,
    ) -> Frame {
        let head = build::head(&window, origin, aside, times.0);
        let mut sums = Sums::default();
        for sample in &window.loops {
            let row = &sample.row.row;
            if row.is_loop {
                sums.loops += 1;
            } else {
                sums.waiters += 1;
            }
            sums.waits += row.waits;
            sums.events += row.events;
        }
        let instances = numbered(&head);
        Frame { head, at: times.1, samples: window.loops, own, sums, fleet: None, instances }
    }

    /// From what a server knew.
    pub fn of_fleet(answer: Answer) -> Frame {
        let mut sums = Sums::default();
        for (known, row) in answer.document.loops.iter().zip(&answer.rows) {
            let [loops, all] = [known.loops, known.waiters]
                .map(|count| usize::try_from(count.unwrap_or(0)).unwrap_or(usize::MAX));
            sums.loops = sums.loops.saturating_add(loops);
            sums.waiters = sums.waiters.saturating_add(all.saturating_sub(loops));
            sums.waits = sums.waits.saturating_add(row.row.waits);
            sums.events = sums.events.saturating_add(row.row.events);
        }
        let document = &answer.document;
        let head = Report {
            host: format!("{} hosts", document.hosts.len()),
            started_at: document.at.clone(),
            duration_seconds: document.window_seconds as f64,
            notes: document.notes.clone(),
            instances: answer.instances.clone(),
            ..Report::default()
        };
        let (instances, own) = (numbered(&head), Own::default());
        Frame { head, at: answer.at, samples: Vec::new(), own, sums, fleet: Some(answer), instances }
    }

    /// Its rows; those of many hosts are what the agents group by.
    pub fn rows(&self, grouping: Grouping) -> Vec<Arc<Row>> {
        match &self.fleet {
            Some(fleet) => fleet.rows.clone(),
            None => group::rows(&self.samples, grouping),
        }
    }

    /// The instance with a number of ours.
    pub fn instance(&self, number: Option<u64>) -> Option<&InstanceRow> {
        self.head.instances.get(*self.instances.get(&number?)?)
    }
}

/// The places of instances by their numbers.
fn numbered(head: &Report) -> HashMap<u64, usize> {
    head.instances.iter().enumerate().map(|(i, row)| (row.instance, i)).collect()
}
