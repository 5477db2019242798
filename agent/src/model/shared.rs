//! Files that several instances watch: of listening sockets, how evenly the loops share the work. Pure: whether a file
//! listens is for others to find out.

use std::collections::BTreeMap;

use super::{
    LoopWindow, Model, Waitable, Window,
    interest::{EXCLUSIVE, WatchedFile},
    sum,
    totals::Sums,
};

/// A file in the sets of several instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedFile {
    /// A process in whose table a descriptor means it.
    pub tgid: u32,
    /// That descriptor.
    pub fd: u32,
    /// The instances, with the descriptor there and whether by EPOLLEXCLUSIVE.
    watchers: Vec<(Waitable, u32, bool)>,
}

/// A listening socket that several instances watch, as seen from one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listener {
    /// Its address.
    pub name: String,
    /// The descriptor by which this instance watches it.
    pub fd: u32,
    /// With EPOLLEXCLUSIVE.
    pub exclusive: bool,
    /// Instances that watch it.
    pub loops: u64,
    /// Part of the waits of all of them that were on this one; None where there were none.
    pub waits_share: Option<f64>,
    /// Part of the events of all of them that this one delivered; None where there were none.
    pub events_share: Option<f64>,
}

impl Model {
    /// The files that are in several of the sets that were last read.
    pub fn shared_files(&self) -> Vec<SharedFile> {
        // What is shared is in another set than the largest too. Each is in the order of the files' addresses, so that a
        // large set among small ones, such as one of 15,000 connections, costs a few searches and no table.
        let mut sets: Vec<_> = self.sets.iter().flatten().collect();
        sets.sort_by_key(|(_, set)| std::cmp::Reverse(set.entries.len()));
        let Some(((largest_of, largest), others)) = sets.split_first() else {
            return Vec::new();
        };
        let watcher = |of: &Waitable, entry: &WatchedFile| {
            Some((*of, entry.fd, entry.events & EXCLUSIVE != 0, entry.tgid()?))
        };
        let others = others.iter().flat_map(|(of, set)| set.entries.iter().map(|entry| (*of, entry)));
        let mut others: Vec<(&Waitable, &WatchedFile)> =
            others.filter(|(_, entry)| entry.tgid().is_some()).collect();
        others.sort_by_key(|(_, entry)| entry.file);
        let mut shared = Vec::new();
        for watchers in others.chunk_by(|(_, a), (_, b)| a.file == b.file) {
            let Some((_, any)) = watchers.first() else { continue };
            let first = largest.entries.partition_point(|entry| entry.file < any.file);
            let in_largest = largest.entries.get(first..).unwrap_or_default().iter();
            let mut in_largest = in_largest.take_while(|entry| entry.file == any.file);
            let mut watchers: Vec<_> = watchers.iter().filter_map(|(of, entry)| watcher(of, entry)).collect();
            watchers.extend(in_largest.find_map(|entry| watcher(largest_of, entry)));
            watchers.sort_by_key(|(of, fd, ..)| (*of, *fd));
            // One instance may have it by several descriptors.
            watchers.dedup_by_key(|(of, ..)| *of);
            if let [(_, fd, _, tgid), _, ..] = *watchers.as_slice() {
                let watchers =
                    watchers.into_iter().map(|(of, fd, exclusive, _)| (of, fd, exclusive)).collect();
                shared.push(SharedFile { tgid, fd, watchers });
            }
        }
        shared.sort_by_key(|file| (file.tgid, file.fd));
        shared
    }

    /// Takes in which of the shared files of the sets listen: `name` gives the address of a process's descriptor, or None.
    pub fn name_listeners(&mut self, mut name: impl FnMut(u32, u32) -> Option<String>) {
        let shared = self.shared_files().into_iter();
        self.listening = shared.filter_map(|file| Some((name(file.tgid, file.fd)?, file))).collect();
    }

    /// Process, descriptor and address of each.
    pub fn listeners(&self) -> impl ExactSizeIterator<Item = (u32, u32, &str)> {
        self.listening.iter().map(|(name, file)| (file.tgid, file.fd, name.as_str()))
    }

    /// Puts into a window, for each instance and its loops, the listening sockets that it shares with others.
    pub(super) fn show_listeners<T: Sums>(&self, window: &mut Window<LoopWindow<T>>) {
        let of = |looped: &LoopWindow<T>| Some((looped.instance?, looped.totals.done()));
        let listeners = self.share_listeners(window, of);
        for looped in &mut window.loops {
            let own = looped.instance.and_then(|number| listeners.get(&number));
            looped.listeners = own.cloned().unwrap_or_default();
        }
    }

    /// As in [`Model::window`], for the instances alone, whatever a loop was made into: `of` gives the number of its
    /// instance, its waits and its events. Gives the listeners of each instance.
    pub fn share_listeners<L>(
        &self,
        window: &mut Window<L>,
        of: impl Fn(&L) -> Option<(u64, [u64; 2])>,
    ) -> BTreeMap<u64, Vec<Listener>> {
        let mut done: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
        for (number, counts) in window.loops.iter().filter_map(of) {
            sum::add_each(done.entry(number).or_default(), counts);
        }
        let mut listeners: BTreeMap<u64, Vec<Listener>> = BTreeMap::new();
        for (name, file) in &self.listening {
            let watchers = file.watchers.iter();
            let watchers: Vec<(u64, u32, bool)> = watchers
                .filter_map(|(of, fd, exclusive)| Some((*self.numbers.get(of)?, *fd, *exclusive)))
                .collect();
            let of = |number: &u64| done.get(number).copied().unwrap_or_default();
            let mut all = [0; 2];
            watchers.iter().for_each(|(number, ..)| sum::add_each(&mut all, of(number)));
            let [all_waits, all_events] = all;
            for (number, fd, exclusive) in &watchers {
                let [waits, events] = of(number);
                listeners.entry(*number).or_default().push(Listener {
                    name: name.clone(),
                    fd: *fd,
                    exclusive: *exclusive,
                    loops: watchers.len() as u64,
                    waits_share: share(waits, all_waits),
                    events_share: share(events, all_events),
                });
            }
        }
        for instance in window.instances.iter_mut().filter(|instance| instance.set.is_some()) {
            instance.listeners = listeners.get(&instance.number).cloned().unwrap_or_default();
        }
        listeners
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loopscope_probe::{Entry, Head, Loop};

    use super::*;
    use crate::{
        decode::{
            Record,
            interest::{Entries, Holder},
        },
        identity::Process,
    };

    const LISTENER: u64 = 640;

    /// An instance that watches the listener and a file of its own.
    fn holder(tgid: u32, address: u64) -> Holder {
        let entry = |file, fd, events| Entry { file, fd, events, behind: 1, ..Entry::default() };
        let first = vec![entry(LISTENER, 6, 1 | EXCLUSIVE), entry(address + 64, 7, 1)];
        Holder {
            tgid,
            epfd: 5,
            uid: 0,
            instance: (address, 0),
            entries: Some(Entries { first, ..Entries::default() }),
        }
    }

    fn pass(model: &mut Model, now_ns: u64, rows: &[(u32, u64, u64)]) {
        let mut records: Vec<Record> = rows
            .iter()
            .map(|(tid, address, events)| {
                let mut looped = Loop { waitable: *address, fd: 5, events: *events, ..Loop::EMPTY };
                looped.results[0] = 2;
                let head = Head { now_ns, born_ns: 1, tgid: *tid, tid: *tid, ..Head::default() };
                Record::Loops(head, vec![looped])
            })
            .collect();
        records.push(Record::Counters(Head { now_ns, ..Head::default() }, Box::default()));
        model.apply(records, &mut |_| Arc::new(Process::default()));
    }

    #[test]
    fn each_loop_has_its_part_and_what_one_instance_watches_is_not_shared() {
        let mut model = Model::default();
        pass(&mut model, 5, &[]);
        model.begin();
        pass(&mut model, 9, &[(10, 1024, 3), (20, 2048, 9)]);
        model.take_interest(vec![holder(10, 1024), holder(20, 2048)]);
        let shared = model.shared_files();
        assert_eq!(shared.iter().map(|file| (file.tgid, file.fd)).collect::<Vec<_>>(), [(10, 6)]);
        model.name_listeners(|_, _| Some("a:80".to_owned()));
        let window = model.window();
        let shares: Vec<_> = window.instances.iter().map(|instance| instance.listeners.clone()).collect();
        let listener = |part| Listener {
            name: "a:80".to_owned(),
            fd: 6,
            exclusive: true,
            loops: 2,
            waits_share: Some(0.5),
            events_share: Some(part),
        };
        assert_eq!(shares, [[listener(0.25)], [listener(0.75)]]);
        assert!(window.loops.iter().all(|looped| looped.listeners.len() == 1));
    }
}
