//! What the oracle tests are made of: processes with a guard, servers, load, and the counters to compare with.

pub mod bpftrace;
pub mod count;
pub mod idle;
pub mod load;
pub mod process;
pub mod report;
pub mod requirements;
pub mod server;
pub mod strace;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// What takes longer than this is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        sleep(Duration::from_millis(5));
    }
}
