//! A recording, played from its begin or from elsewhere: which frame comes next.

use std::{path::Path, time::SystemTime};

use anyhow::{Context, Result};

use super::{
    follower::{Follower, Step},
    format::{Damage, Head, frame},
    reader::{Entry, Recording},
};
use crate::{
    model::{InstanceWindow, Window, costs::Costs, hot::Entries},
    report::{build::Origin, group::Sample, host::Host},
};

/// A recording that is being replayed.
pub struct Replay {
    recording: Recording,
    follower: Follower,
    /// The next frame.
    next: usize,
}

impl Replay {
    /// Opens a recording, and goes on to where its first window begins.
    ///
    /// # Errors
    /// It cannot be read, or is none, or is damaged there.
    pub fn open(path: &Path) -> Result<Replay> {
        let recording = Recording::open(path)?;
        let mut replay = Replay { recording, follower: Follower::default(), next: 0 };
        while !replay.follower.begun {
            if replay.step()? == Step::End {
                anyhow::bail!(Damage::Nothing);
            }
        }
        Ok(replay)
    }

    /// What the recording says of itself.
    pub fn head(&self) -> &Head {
        self.recording.head()
    }

    /// Whether it was ended, rather than cut off.
    pub fn is_whole(&self) -> bool {
        self.recording.is_whole()
    }

    /// What documents say of where the windows come from.
    pub fn origin(&self) -> Origin {
        origin(self.head(), &self.follower)
    }

    /// Takes the next frame in.
    ///
    /// # Errors
    /// It is damaged.
    pub fn step(&mut self) -> Result<Step> {
        let Some(entry) = self.recording.entries().get(self.next).copied() else { return Ok(Step::End) };
        self.next += 1;
        self.take(&entry)
    }

    fn take(&mut self, entry: &Entry) -> Result<Step> {
        let body = self.recording.body(entry)?;
        self.follower.take(&entry.head, &body).with_context(|| Damage::Frame(entry.at))
    }

    /// Takes in the interest sets that were read at once after the last pass, as who watched did before the window ended.
    ///
    /// # Errors
    /// They are damaged.
    pub fn step_over_sets(&mut self) -> Result<()> {
        let is_set = |entry: &Entry| [frame::INTEREST, frame::LISTENERS].contains(&entry.head.kind);
        while self.recording.entries().get(self.next).is_some_and(is_set) {
            self.step()?;
        }
        Ok(())
    }

    /// Why interest sets could not be read, as a note.
    pub fn no_interest(&self) -> Option<String> {
        self.follower.no_interest.clone()
    }

    /// What happened since the window began.
    pub fn window(&mut self) -> Window {
        self.follower.window()
    }

    /// As [`Replay::window`], in less room.
    pub fn samples(&mut self) -> Window<Sample> {
        self.follower.samples()
    }

    /// Which entries of an instance of the last [`Replay::window`] are instances. What each delivered no recording has.
    pub fn entries(&self, instance: &InstanceWindow) -> Entries {
        self.follower.model.entries(instance, None)
    }

    /// What the probes' runs took in the window; None where it was not measured.
    pub fn costs(&self) -> Option<Costs> {
        self.follower.costs()
    }

    /// Forgets what has ended, and begins the next window.
    pub fn begin(&mut self) {
        self.follower.begin(self.now());
    }

    /// When the window began.
    pub fn started_at(&self) -> SystemTime {
        self.follower.started_at
    }

    /// When the last frame was written.
    pub fn now(&self) -> SystemTime {
        self.recording.time(self.follower.now_ns)
    }

    /// Runs of probes that the kernel skipped in the window.
    pub fn missed(&self) -> u64 {
        self.follower.missed()
    }

    /// Records that could not be read.
    pub fn damaged(&self) -> u64 {
        self.follower.damaged
    }

    /// CPU time that the recorder had taken, ns.
    pub fn cpu_ns(&self) -> u64 {
        self.follower.cpu_ns
    }

    /// The frames after which a window may end, with their times, CLOCK_MONOTONIC ns; those of the first window on.
    pub fn passes(&self) -> Vec<(usize, u64)> {
        let entries = self.recording.entries();
        let first = entries.iter().position(|entry| entry.head.kind == frame::BEGIN).unwrap_or(0);
        let passes = entries.iter().enumerate().skip(first);
        passes.filter(|(_, entry)| is_pass(entry)).map(|(i, entry)| (i, entry.head.monotonic_ns)).collect()
    }

    /// The next frame's number.
    pub fn position(&self) -> usize {
        self.next
    }

    /// The last frame before another one with which a window may end.
    pub fn pass_before(&self, frame: usize) -> usize {
        self.recording.entries().get(..frame).unwrap_or_default().iter().rposition(is_pass).unwrap_or(0)
    }

    /// Goes to where a window begins after the pass in frame `before`, from the key reading before it. Instances get new
    /// numbers.
    ///
    /// # Errors
    /// A frame on the way is damaged.
    pub fn seek(&mut self, before: usize) -> Result<()> {
        let entries = self.recording.entries();
        let is_key = |entry: &Entry| entry.head.flags & frame::KEY != 0 && entry.head.kind == frame::READING;
        let key = entries.get(..=before).unwrap_or_default().iter().rposition(is_key).unwrap_or(0);
        // What /proc said stands before the key reading.
        let is_list = |entry: &Entry| entry.head.kind == frame::PROCESSES;
        let from = entries.get(..key).unwrap_or_default().iter().rposition(is_list).unwrap_or(0);
        self.follower.restart();
        self.next = from;
        while self.next <= before {
            if self.step()? == Step::End {
                break;
            }
        }
        self.step_over_sets()?;
        let read = self.recording.entries().get(..self.next).unwrap_or_default();
        let sets = read.iter().rposition(|entry| entry.head.kind == frame::INTEREST);
        let last: Vec<Entry> = sets.and_then(|at| read.get(at..)).unwrap_or_default().to_vec();
        // Their listeners stand at once behind them.
        let of_sets =
            |(i, entry): &(usize, &Entry)| *i == 0 || *i == 1 && entry.head.kind == frame::LISTENERS;
        for (_, entry) in last.iter().enumerate().filter(of_sets) {
            let now_ns = self.follower.now_ns;
            self.take(entry)?;
            self.follower.now_ns = now_ns;
        }
        self.begin();
        Ok(())
    }
}

fn is_pass(entry: &Entry) -> bool {
    entry.head.kind == frame::READING && entry.head.flags & frame::PASS != 0
}

/// What documents say of where windows of frames come from.
pub fn origin(head: &Head, follower: &Follower) -> Origin {
    Origin {
        host: Host { name: head.host.clone(), kernel: head.kernel.clone(), arch: head.arch.clone() },
        version: head.agent.clone(),
        probes: follower.probes.clone(),
        notes: head.filtered.notes.clone(),
    }
}
