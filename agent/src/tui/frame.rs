//! What one window gives a live view: the report without its loops, the loops in little room, and the agent's own cost.
//!
//! A frame holds figures of the model; it computes none, and knows no terminal.

use std::{collections::HashMap, time::SystemTime};

use crate::{
    model::Window,
    report::{
        build::{self, Aside, Origin},
        document::{InstanceRow, Report},
        group::Sample,
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
        let instances = head.instances.iter().enumerate().map(|(i, row)| (row.instance, i)).collect();
        Frame { head, at: times.1, samples: window.loops, own, sums, instances }
    }

    /// The instance with a number of ours.
    pub fn instance(&self, number: Option<u64>) -> Option<&InstanceRow> {
        self.head.instances.get(*self.instances.get(&number?)?)
    }
}
