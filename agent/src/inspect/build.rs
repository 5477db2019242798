//! Puts an inspection together: the window's figures of one process, and what /proc says of its descriptors. Divides
//! and subtracts nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
};

use super::{
    calls,
    document::{Bond, CallRow, DeliveredRow, Delivery, FdRow, ProcessRow, SocketRow, Trigger, UserRow},
    events,
};
use crate::{
    identity::files::{self, File, Files},
    model::{
        InstanceWindow, Window,
        hot::{Entries, Events},
        interest::{self, EDGE, EXCLUSIVE, ONESHOT, WatchedFile},
    },
};

/// The links of a process's descriptors at the begin of the window.
pub type Links = HashMap<u32, String>;

/// What a process's descriptors are now, to be compared with what they will be.
pub fn links(pid: u32) -> Links {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let fds = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    fds.filter_map(|fd| Some((fd, files::link_of(pid, fd)?))).collect()
}

/// Leaves the instances that a process holds or waits on, its own loops, and those of others on its instances.
pub fn only(window: &mut Window, pid: u32) {
    let own = window.loops.iter().filter(|looped| looped.thread.tgid == pid);
    let mut numbers: BTreeSet<u64> = own.filter_map(|looped| looped.instance).collect();
    let held = window.instances.iter().filter(|row| row.holders.iter().any(|(holder, _)| *holder == pid));
    numbers.extend(held.map(|instance| instance.number));
    window.instances.retain(|instance| numbers.contains(&instance.number));
    window.loops.retain(|looped| {
        looped.thread.tgid == pid || looped.instance.is_some_and(|number| numbers.contains(&number))
    });
}

/// The process, from /proc.
pub fn process(pid: u32, exe: Option<String>) -> ProcessRow {
    let read = |name| fs::read(format!("/proc/{pid}/{name}")).ok();
    let text = |name| read(name).map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned());
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok();
    ProcessRow {
        pid,
        comm: text("comm"),
        exe,
        ended: read("comm").is_none(),
        open_fds: open.map(|entries| entries.count() as u64),
        max_open_fds: text("limits").as_deref().and_then(max_open_files),
    }
}

/// The soft limit in the text of /proc/PID/limits.
fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The users of these instances, with what `watches` says that all instances of the host have of each.
/// `max_user_watches`: the most that each may have.
pub fn users(
    instances: &[InstanceWindow],
    watches: &BTreeMap<u32, u64>,
    max_user_watches: Option<u64>,
) -> Vec<UserRow> {
    let uids: BTreeSet<u32> =
        instances.iter().filter_map(|instance| Some(instance.set.as_ref()?.uid)).collect();
    let row = |uid| UserRow { uid, watches: watches.get(&uid).copied().unwrap_or(0), max_user_watches };
    uids.into_iter().map(row).collect()
}

/// The most entries that a user may have on this host.
pub fn max_user_watches() -> Option<u64> {
    fs::read_to_string("/proc/sys/fs/epoll/max_user_watches").ok()?.trim().parse().ok()
}

/// A process as a recording has it: what its loops say.
pub fn recorded_process(window: &Window, pid: u32) -> ProcessRow {
    let own = || window.loops.iter().filter(|looped| looped.thread.tgid == pid);
    let last = own().next_back();
    ProcessRow {
        pid,
        comm: last.map(|looped| looped.thread.comm.clone()),
        exe: last.and_then(|looped| looped.thread.process.exe.clone()),
        ended: last.is_some() && own().all(|looped| looped.ended),
        open_fds: None,
        max_open_fds: None,
    }
}

/// Entries of all instances by the user to whom they are counted.
pub fn watches(instances: &[InstanceWindow]) -> BTreeMap<u32, u64> {
    let mut watches = BTreeMap::new();
    for set in instances.iter().filter_map(|instance| instance.set.as_ref()) {
        *watches.entry(set.uid).or_default() += set.entries.len() as u64;
    }
    watches
}

/// What is known of the descriptors of one process.
pub struct Descriptors {
    pid: u32,
    before: Links,
    /// None: nothing can be asked, because a recording is replayed.
    files: Option<Files>,
}

impl Descriptors {
    /// Those of `pid`; `before`: its links when the window began.
    pub fn new(pid: u32, before: Links) -> Descriptors {
        Descriptors { pid, before, files: Some(Files::default()) }
    }

    /// Those of a process of a recording: what they are is not known.
    pub fn recorded(pid: u32) -> Descriptors {
        Descriptors { pid, before: Links::new(), files: None }
    }

    /// The rows of an instance's entries, in the order of the set, and what is known of its events.
    pub fn rows(
        &mut self,
        instance: &InstanceWindow,
        entries: &Entries,
    ) -> (Vec<FdRow>, Option<DeliveredRow>) {
        let Some(set) = &instance.set else {
            return (Vec::new(), None);
        };
        let delivered = entries.delivered.as_ref();
        let mut sums = delivered.map(|delivered| DeliveredRow {
            instance: instance.number,
            known: 0,
            ambiguous: delivered.ambiguous,
            gone: delivered.gone,
            unsampled: delivered.unsampled,
        });
        let mut rows = Vec::with_capacity(set.entries.len());
        for (place, entry) in set.entries.iter().enumerate() {
            let events = delivered.and_then(|delivered| delivered.entries.get(place)).copied();
            let file = self.file(entry);
            let events = self.certain(entry, file.as_ref(), events, sums.as_mut());
            let nested = entries.nested.get(&place).copied();
            rows.push(row(instance.number, entry, file, events, nested));
        }
        (rows, sums)
    }

    /// What the threads that wait by poll or select wait for, `most` descriptors of each.
    pub fn calls(&mut self, window: &Window, most: usize) -> Vec<CallRow> {
        self.files.as_mut().map_or_else(Vec::new, |files| calls::rows(self.pid, window, most, files))
    }

    /// What of the descriptors is not known, and why.
    pub fn lacks(&self) -> Vec<String> {
        self.files.iter().flat_map(Files::lacks).collect()
    }

    fn file(&mut self, entry: &WatchedFile) -> Option<File> {
        self.files.as_mut()?.get(entry.tgid()?, entry.fd)
    }

    /// What an entry delivered, unless its descriptor means another socket or pipe than when the window began: the kernel
    /// may have given the address of the old one to the new.
    fn certain(
        &self,
        entry: &WatchedFile,
        file: Option<&File>,
        events: Option<Events>,
        sums: Option<&mut DeliveredRow>,
    ) -> Option<Events> {
        let (Some(Events::Known(count)), Some(sums)) = (events, sums) else {
            return events;
        };
        let other = entry.tgid() == Some(self.pid)
            && (self.before.get(&entry.fd).zip(file)).is_some_and(|(before, file)| *before != file.link);
        let reused = other && self.before_is_unique(entry.fd);
        match reused && count > 0 {
            true => {
                sums.gone += count;
                Some(Events::Changed)
            }
            false => {
                sums.known += count;
                events
            }
        }
    }

    /// Whether a descriptor was one whose link no other file has.
    fn before_is_unique(&self, fd: u32) -> bool {
        let link = self.before.get(&fd);
        link.is_some_and(|link| link.starts_with("socket:") || link.starts_with("pipe:"))
    }
}

/// Kind, path and socket of what a descriptor is, as rows have them.
pub(super) fn parts(file: Option<File>) -> (Option<String>, Option<String>, Option<SocketRow>) {
    let Some(File { kind, path, socket, .. }) = file else {
        return (None, None, None);
    };
    let socket = socket.map(|socket| SocketRow {
        local: socket.local,
        remote: socket.remote,
        state: socket.state.map(str::to_owned),
        listening: socket.listening,
        receive_queue: socket.receive_queue,
        send_queue: socket.send_queue,
    });
    (Some(kind), path, socket)
}

fn row(
    instance: u64,
    entry: &WatchedFile,
    file: Option<File>,
    events: Option<Events>,
    nested: Option<u64>,
) -> FdRow {
    let has = |flag: u32| entry.events & flag != 0;
    let (delivered, count, rank) = match events {
        None => (Delivery::Unknown, None, 0),
        Some(Events::Known(count)) => (Delivery::Known, Some(count), count),
        Some(Events::Ambiguous(together)) => (Delivery::Ambiguous, None, together),
        Some(Events::Changed) => (Delivery::Changed, None, 0),
    };
    let (kind, path, socket) = parts(file);
    let kind = kind.or(nested.map(|_| "epoll".to_owned()));
    FdRow {
        instance,
        fd: entry.fd,
        pid: entry.tgid(),
        events: count,
        delivered,
        mask: events::words(entry.events),
        trigger: if has(EDGE) { Trigger::Edge } else { Trigger::Level },
        oneshot: has(ONESHOT),
        exclusive: has(EXCLUSIVE),
        bond: match entry.bond {
            interest::Bond::Live => Bond::Live,
            interest::Bond::Foreign => Bond::Foreign,
            interest::Bond::Stale => Bond::Stale,
        },
        kind,
        path,
        nested,
        socket,
        rank,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read_and_none_is_none() {
        let text = "Limit  Soft  Hard  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(max_open_files(text), Some(1024));
        assert_eq!(
            max_open_files("Max open files            unlimited            unlimited            files"),
            None
        );
        assert_eq!(max_open_files(""), None);
    }
}
