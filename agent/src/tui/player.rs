//! A recording as top plays it: a window at each reading, at the speed that was asked for, with pause, step and seek.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};

use super::{
    frame::{Frame, Own},
    keys::Command,
    source::Filter,
};
use crate::{
    cli::duration,
    report::{
        build::{Aside, Origin},
        units,
    },
    store::{Replay, Step},
};

/// Windows that Left and Right go over.
const LEAP: usize = 10;
/// The slowest and the fastest speed.
const SPEEDS: [f64; 2] = [1.0 / 16.0, 256.0];
/// The shortest time between two frames on the screen.
const SHORTEST: Duration = Duration::from_millis(20);

/// How far a replay is, as the header shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Since the first window began, seconds.
    pub position: f64,
    /// Of the whole recording, seconds.
    pub length: f64,
    /// It stands.
    pub paused: bool,
    /// Seconds of the recording per second.
    pub speed: f64,
    /// There is nothing more.
    pub ended: bool,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "REPLAY {} of {}", clock(self.position), clock(self.length))?;
        match (self.ended, self.paused) {
            (true, _) => f.write_str(" end"),
            (_, true) => f.write_str(" paused"),
            _ if self.speed == 1.0 => Ok(()),
            _ => write!(f, " x{}", units::number(self.speed)),
        }
    }
}

/// Minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// A recording that is shown.
pub struct Player {
    replay: Replay,
    origin: Origin,
    filter: Filter,
    /// The frames after which windows end, and their times.
    passes: Vec<(usize, u64)>,
    /// Of them, the next one.
    at: usize,
    speed: f64,
    paused: bool,
    jumped: bool,
    cpu_ns: u64,
}

impl Player {
    /// From a replay that stands before its first window.
    pub fn new(replay: Replay, filter: Filter, speed: f64) -> Player {
        let (mut passes, cpu_ns) = (replay.passes(), replay.cpu_ns());
        join_short(&mut passes);
        let origin = replay.origin();
        let speed = speed.clamp(SPEEDS[0], SPEEDS[1]);
        Player { replay, origin, filter, passes, at: 0, speed, paused: false, jumped: false, cpu_ns }
    }

    /// How long to wait for the next window.
    pub fn period(&self) -> Duration {
        let time = |at: usize| self.passes.get(at).map(|(_, ns)| *ns);
        let gap = match (self.at.checked_sub(1).and_then(time), time(self.at)) {
            (Some(last), Some(next)) => Duration::from_nanos(next.saturating_sub(last)),
            _ => Duration::from_secs(1),
        };
        gap.div_f64(self.speed).clamp(SHORTEST, Duration::from_secs(60))
    }

    /// The next window, unless it stands or is over.
    ///
    /// # Errors
    /// The recording is damaged there.
    pub fn tick(&mut self) -> Result<Option<Frame>> {
        if self.paused { Ok(None) } else { self.next() }
    }

    /// The next window; None after the last.
    ///
    /// # Errors
    /// The recording is damaged there.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and knows pauses")]
    pub fn next(&mut self) -> Result<Option<Frame>> {
        let Some((end, _)) = self.passes.get(self.at) else { return Ok(None) };
        while self.replay.position() <= *end {
            if self.replay.step()? == Step::End {
                return Ok(None);
            }
        }
        self.at += 1;
        self.replay.step_over_sets()?;
        let mut window = self.replay.samples();
        (self.filter)(&mut window);
        let times = (self.replay.started_at(), self.replay.now());
        let aside = Aside {
            missed: self.replay.missed(),
            damaged: self.replay.damaged(),
            interest: None,
            costs: self.replay.costs(),
        };
        let cpu_ns = self.replay.cpu_ns();
        let spent = cpu_ns.saturating_sub(std::mem::replace(&mut self.cpu_ns, cpu_ns));
        let own = Own {
            cpu_seconds: Some(Duration::from_nanos(spent).as_secs_f64()),
            view_seconds: None,
            cpus: self.replay.head().cpus.max(1),
        };
        self.replay.begin();
        Ok(Some(Frame::new(window, &self.origin, aside, times, own)))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let start = self.passes.first().map_or(0, |(_, ns)| *ns);
        let since = |at: Option<&(usize, u64)>| {
            Duration::from_nanos(at.map_or(0, |(_, ns)| ns.saturating_sub(start))).as_secs_f64()
        };
        Progress {
            position: since(self.at.checked_sub(1).and_then(|at| self.passes.get(at))),
            length: since(self.passes.last()),
            paused: self.paused,
            speed: self.speed,
            ended: self.at >= self.passes.len(),
        }
    }

    /// Whether it went elsewhere since this was asked last.
    pub fn jumped(&mut self) -> bool {
        std::mem::take(&mut self.jumped)
    }

    /// Does what a key asks for; gives the window to show, if there is another.
    ///
    /// # Errors
    /// The recording is damaged there.
    pub fn control(&mut self, command: Command) -> Result<Option<Frame>> {
        match command {
            Command::Pause => self.paused = !self.paused,
            Command::HalfSpeed => self.speed = (self.speed / 2.0).max(SPEEDS[0]),
            Command::DoubleSpeed => self.speed = (self.speed * 2.0).min(SPEEDS[1]),
            Command::StepOn => {
                self.paused = true;
                return self.next();
            }
            Command::StepBack => {
                self.paused = true;
                return self.go(self.at.saturating_sub(2));
            }
            Command::Rewind => return self.go(self.at.saturating_sub(LEAP + 1)),
            Command::Forward => return self.go(self.at.saturating_sub(1) + LEAP),
            _ => {}
        }
        Ok(None)
    }

    /// Goes to a time: since the first window, or of the day (UTC).
    ///
    /// # Errors
    /// It is no time, or the recording is damaged there.
    pub fn seek(&mut self, text: &str) -> Result<Option<Frame>> {
        let start = self.passes.first().map_or(0, |(_, ns)| *ns);
        let since = match of_day(text) {
            Some(of_day) => {
                let here = of_day_of(self.time(start));
                (of_day + 86_400 - here) % 86_400
            }
            None => match duration::parse(text.trim().trim_start_matches('+')) {
                Ok(duration) => duration.as_secs(),
                Err(_) => bail!("a time is wanted, such as 90s or 12:03:00, not '{text}'"),
            },
        };
        let wanted = start.saturating_add(since.saturating_mul(1_000_000_000));
        // Readings come some milliseconds early or late.
        let nearest = self.passes.iter().enumerate().min_by_key(|(_, (_, ns))| ns.abs_diff(wanted));
        self.go(nearest.map_or(0, |(to, _)| to))
    }

    fn time(&self, ns: u64) -> SystemTime {
        let head = self.replay.head();
        let since = ns.saturating_sub(head.monotonic_ns);
        UNIX_EPOCH.checked_add(Duration::from_nanos(head.wall_ns.saturating_add(since))).unwrap_or(UNIX_EPOCH)
    }

    /// Shows the window that ends with the `to`th pass.
    fn go(&mut self, to: usize) -> Result<Option<Frame>> {
        let to = to.min(self.passes.len().saturating_sub(1));
        let Some((frame, _)) = self.passes.get(to) else { return Ok(None) };
        let before = to.checked_sub(1).and_then(|before| self.passes.get(before));
        self.replay.seek(before.map_or_else(|| self.replay.pass_before(*frame), |(before, _)| *before))?;
        (self.at, self.jumped) = (to, true);
        self.cpu_ns = self.replay.cpu_ns();
        self.next()
    }
}

/// A recording ends with a reading of its own, moments after the last one: a window of so little time says nothing, so it
/// is a part of the one before.
fn join_short(passes: &mut Vec<(usize, u64)>) {
    if let [.., (_, first), (_, last), (_, end)] = passes.as_slice()
        && end.saturating_sub(*last) < last.saturating_sub(*first) / 5
    {
        passes.remove(passes.len() - 2);
    }
}

/// Seconds of the day in `12:03:00` or `12:03`.
fn of_day(text: &str) -> Option<u64> {
    let mut parts = text.trim().split(':').map(str::parse::<u64>);
    let (hours, minutes) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let seconds = parts.next().unwrap_or(Ok(0)).ok()?;
    (hours < 24 && minutes < 60 && seconds < 60 && parts.next().is_none())
        .then_some(hours * 3600 + minutes * 60 + seconds)
}

fn of_day_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() % 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_told_from_a_duration() {
        assert_eq!(of_day("12:03"), Some(43_380));
        assert_eq!(of_day("00:00:07"), Some(7));
        for text in ["90s", "25:00", "12:60", "1:2:3:4", "12:", ""] {
            assert_eq!(of_day(text), None, "{text}");
        }
    }

    #[test]
    fn a_last_window_of_moments_belongs_to_the_one_before() {
        let mut passes = vec![(1, 100), (2, 200), (3, 210)];
        join_short(&mut passes);
        assert_eq!(passes, [(1, 100), (3, 210)]);
        join_short(&mut passes);
        let mut even = vec![(1, 100), (2, 200), (3, 290)];
        join_short(&mut even);
        assert_eq!((passes.len(), even.len()), (2, 3));
    }

    #[test]
    fn progress_is_said_in_minutes() {
        let progress = Progress { position: 61.4, length: 3600.0, paused: false, speed: 2.0, ended: false };
        assert_eq!(progress.to_string(), "REPLAY 1:01 of 60:00 x2.0");
        assert_eq!(Progress { ended: true, ..progress }.to_string(), "REPLAY 1:01 of 60:00 end");
    }
}
