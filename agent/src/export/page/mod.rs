//! The agent without Grafana: a live table of loops at `/`, and the same as JSON at `/api/loops`.
//!
//! Made on demand: windows are looked at only while somebody asks for the page. Computes no figure but by the report's
//! code, and writes nothing that a process chose (its name) but as text.

mod html;
mod view;

use std::time::{Duration, Instant};

use hyper::body::Bytes;
use loopscope_probe::Counters;

pub use html::{CSS, SCRIPT, empty};
use view::View;

use crate::{
    model::{LoopWindow, Totals, Window},
    report::host::Host,
};

/// For how long after a request windows are looked at.
const WANTED: Duration = Duration::from_secs(15);
/// Requests that come within this time of a reading share it, so that many viewers cost no more than one.
const SHARED: Duration = Duration::from_millis(500);
/// Shorter windows, which a scrape leaves behind, say little: the reading before is shown instead, if it is recent.
const SHORTEST: Duration = Duration::from_millis(400);
/// How old that may be.
const OLDEST: Duration = Duration::from_secs(5);

/// What the page shows.
pub struct Page {
    host: Host,
    wanted: Option<Instant>,
    shown: Option<(Instant, View)>,
}

impl Page {
    /// Of this host.
    pub fn new() -> Page {
        Page { host: Host::this(), wanted: None, shown: None }
    }

    /// Somebody asks. Whether the probes should be read for it.
    pub fn want(&mut self) -> bool {
        let now = Instant::now();
        self.wanted = Some(now);
        !self.is_younger(SHARED)
    }

    /// Takes a window in, if somebody asked lately; `counters` are those since the start.
    pub fn see<T: Clone + Into<Totals>>(
        &mut self,
        window: &Window<LoopWindow<T>>,
        counters: &Counters,
        missed: u64,
    ) {
        if self.wanted.is_none_or(|at| at.elapsed() > WANTED) {
            self.shown = None;
        } else if !self.is_younger(OLDEST) || u128::from(window.duration_ns) >= SHORTEST.as_nanos() {
            self.shown = Some((Instant::now(), View::new(&self.host, window, counters, missed)));
        }
    }

    /// The whole page.
    pub fn html(&self) -> Bytes {
        Bytes::from(
            self.shown.as_ref().map_or_else(|| empty("nothing was read yet"), |(_, view)| html::page(view)),
        )
    }

    /// The table as JSON.
    pub fn json(&self) -> Bytes {
        // The view has no map with other keys than strings, so it can always be written.
        let text = self.shown.as_ref().and_then(|(_, view)| serde_json::to_vec(view).ok());
        Bytes::from(text.unwrap_or_else(|| b"null".to_vec()))
    }

    fn is_younger(&self, age: Duration) -> bool {
        self.shown.as_ref().is_some_and(|(at, _)| at.elapsed() < age)
    }
}

impl Default for Page {
    fn default() -> Self {
        Page::new()
    }
}

#[cfg(test)]
mod tests;
