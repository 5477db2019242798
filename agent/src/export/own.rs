//! The agent's own process: what `process_*` metrics say. Reads /proc/self and the process's own clocks.

use std::{fs, time::SystemTime};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// Figures of this process. What cannot be read is None and has no series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Own {
    /// User and system time, all threads, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory, bytes.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// How many there may be; None for no limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// When it started, seconds since 1970.
    pub start_seconds: f64,
}

impl Own {
    /// As it is now; `started` is when it was started.
    pub fn read(started: SystemTime) -> Own {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Own {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024),
            virtual_bytes: field(&status, "VmSize:").map(|kib| kib * 1024),
            // But for the descriptor by which they are listed.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
            threads: field(&status, "Threads:"),
            start_seconds: started
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0.0, |time| time.as_secs_f64()),
        }
    }
}

/// The number behind a name in the text of /proc/PID/status (proc(5)).
fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_every_figure() {
        let own = Own::read(SystemTime::now());
        assert!(own.cpu_seconds > 0.0 && own.start_seconds > 1.6e9, "{own:?}");
        assert!(own.resident_bytes.unwrap() > 4096 && own.virtual_bytes > own.resident_bytes, "{own:?}");
        assert!(own.open_fds.unwrap() >= 3 && own.threads.unwrap() >= 1, "{own:?}");
    }

    #[test]
    fn a_field_that_is_not_there_is_unknown() {
        assert_eq!(field("VmRSS:\t  12 kB\nThreads:\t3\n", "Threads:"), Some(3));
        assert_eq!(field("VmRSS:\t  12 kB\n", "VmSize:"), None);
    }
}
