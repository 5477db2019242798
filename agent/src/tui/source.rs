//! Where top's windows come from while it watches: the probes, read at each tick.

use std::time::SystemTime;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

use super::frame::{Frame, Own};
use crate::{
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
        let own = Own { cpu_seconds: Some(cpu - std::mem::replace(&mut self.cpu, cpu)), cpus: cpus() };
        Ok(Frame::new(window, &self.origin, aside, times, own))
    }
}

/// CPU time of this process, seconds.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processors that are online.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
