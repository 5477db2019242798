//! Where top's windows come from while it watches: the probes, read at each tick.

use std::{
    sync::LazyLock,
    thread::available_parallelism,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

use super::frame::{Frame, Own};
use crate::{
    feed::Remote,
    model::Window,
    reactor::Watch,
    report::{
        build::{Aside, Origin},
        group::Sample,
    },
};

/// Leaves out of a window what the probes could not.
pub type Filter = Box<dyn Fn(&mut Window<Sample>)>;

/// The probes, and what is needed to make frames of their windows.
pub struct Live {
    /// The probes.
    pub watch: Watch,
    origin: Origin,
    filter: Filter,
    started_at: SystemTime,
    missed: u64,
    cpu: f64,
}

impl Live {
    /// From probes that are attached, whose first window has begun.
    pub fn new(watch: Watch, origin: Origin, filter: Filter) -> Live {
        let missed = watch.missed();
        Live { watch, origin, filter, started_at: SystemTime::now(), missed, cpu: cpu_seconds() }
    }

    /// Ends the window, and begins the next.
    ///
    /// # Errors
    /// The probes cannot be read.
    pub fn frame(&mut self) -> Result<Frame> {
        self.watch.sample()?;
        self.watch.refresh_interest();
        let mut window = self.watch.samples();
        let costs = self.watch.costs();
        self.watch.begin();
        (self.filter)(&mut window);
        let now = SystemTime::now();
        let times = (std::mem::replace(&mut self.started_at, now), now);
        let missed = self.watch.missed();
        let aside = Aside {
            missed: missed.saturating_sub(self.missed),
            damaged: self.watch.damaged(),
            interest: None,
            costs,
        };
        self.missed = missed;
        let cpu = cpu_seconds();
        let spent = cpu - std::mem::replace(&mut self.cpu, cpu);
        let own = Own { cpu_seconds: Some(spent), view_seconds: None, cpus: cpus() };
        Ok(Frame::new(window, &self.origin, aside, times, own))
    }
}

/// A running agent's readings, and what is needed to make frames of their windows.
pub struct Fed {
    remote: Remote,
    origin: Origin,
    filter: Filter,
    cpu_ns: u64,
    cpu: f64,
}

impl Fed {
    /// From an agent that has sent its first reading.
    pub fn new(remote: Remote, filter: Filter) -> Fed {
        let cpu_ns = remote.follower.cpu_ns;
        Fed { origin: remote.origin(), remote, filter, cpu_ns, cpu: cpu_seconds() }
    }

    /// Asks for the reading that ends the window; [`Fed::frame`] has it when it comes.
    ///
    /// # Errors
    /// The agent has ended.
    pub fn ask(&mut self) -> Result<()> {
        self.remote.ask(false)
    }

    /// Takes in what the agent says. Ends the window and begins the next, if the reading that was asked for is here.
    ///
    /// # Errors
    /// The agent has ended, or what it says is damaged.
    pub fn frame(&mut self) -> Result<Option<Frame>> {
        if !self.remote.take()? {
            return Ok(None);
        }
        let follower = &mut self.remote.follower;
        let mut window = follower.samples();
        (self.filter)(&mut window);
        let times = (follower.started_at, SystemTime::now());
        let aside = Aside {
            missed: follower.missed(),
            damaged: follower.damaged,
            interest: None,
            costs: follower.costs(),
        };
        let (cpu, cpu_ns) = (cpu_seconds(), follower.cpu_ns);
        let spent = cpu_ns.saturating_sub(std::mem::replace(&mut self.cpu_ns, cpu_ns));
        let own = Own {
            cpu_seconds: Some(Duration::from_nanos(spent).as_secs_f64()),
            view_seconds: Some(cpu - std::mem::replace(&mut self.cpu, cpu)),
            cpus: self.remote.head().cpus.max(1),
        };
        self.remote.begin();
        Ok(Some(Frame::new(window, &self.origin, aside, times, own)))
    }
}

/// CPU time of this process, seconds.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processors that this process may use, as it was at the start: the answer takes three files.
pub fn cpus() -> usize {
    static CPUS: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));
    *CPUS
}
