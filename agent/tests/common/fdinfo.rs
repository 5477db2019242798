//! What /proc/PID/fdinfo says of an epoll instance. It holds the instance's lock while it prints: an oracle for tests alone.

use std::fs;

use loopscope::model::interest::InterestSet;

/// What /proc says: descriptor and events of each entry, in order.
pub fn oracle(pid: u32, epfd: i32) -> Vec<(u32, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{epfd}")).unwrap();
    let entry = |line: &str| {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        let fd = words.next()?.parse().ok()?;
        let events = words.skip_while(|word| *word != "events:").nth(1)?;
        Some((fd, u32::from_str_radix(events, 16).ok()?))
    };
    let mut entries: Vec<(u32, u32)> = text.lines().filter_map(entry).collect();
    entries.sort_unstable();
    entries
}

/// What the probes say of it.
pub fn seen(set: &InterestSet) -> Vec<(u32, u32)> {
    let mut entries: Vec<(u32, u32)> = set.entries.iter().map(|entry| (entry.fd, entry.events)).collect();
    entries.sort_unstable();
    entries
}
