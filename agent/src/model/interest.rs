//! Interest sets: what each epoll instance watches, put together from the tables of all who hold it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
};

use loopscope_probe::Entry;
use serde::{Deserialize, Serialize};

use super::Waitable;
use crate::decode::interest::{Entries, Holder};

/// Bits of `epoll_event.events` that are no conditions (include/uapi/linux/eventpoll.h).
pub const EXCLUSIVE: u32 = 1 << 28;
/// As above: EPOLLONESHOT.
pub const ONESHOT: u32 = 1 << 30;
/// As above: EPOLLET.
pub const EDGE: u32 = 1 << 31;

/// Levels of nesting that are followed; the kernel allows 5 (fs/eventpoll.c: EP_MAX_NESTS).
const NESTS: u32 = 16;
/// Where two walks differ by more than one in so many entries, the set is approximate.
const TOLERATED: usize = 100;

/// Whether an entry's descriptor still means its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bond {
    /// In the table of a process that waits on the instance, or that holds it where none waits.
    Live,
    /// Only in the table of another process that holds the instance.
    Foreign,
    /// In no such table: a dup, a fork or SCM_RIGHTS keeps the file alive.
    Stale,
}

/// An entry of an interest set. As large as [`Entry`], so that a set is made in the place of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedFile {
    /// The descriptor under which it was added.
    pub fd: u32,
    /// Conditions and flags.
    pub events: u32,
    /// The user's data.
    pub data: u64,
    /// Whether the descriptor still means the file.
    pub bond: Bond,
    /// A process in whose table it does.
    pub(super) process: Option<NonZeroU32>,
    /// Address of the file; never shown.
    pub(super) file: u64,
}

const _: () = assert!(size_of::<WatchedFile>() == size_of::<Entry>());

impl WatchedFile {
    /// A process in whose table its descriptor means the file; None where there is none.
    pub fn tgid(&self) -> Option<u32> {
        self.process.map(NonZeroU32::get)
    }
}

/// What an instance watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterestSet {
    /// Processes that hold the instance, with the descriptors.
    pub holders: BTreeSet<(u32, i32)>,
    /// User to whom the entries are counted (epoll(7): max_user_watches).
    pub uid: u32,
    /// Entries, by file and descriptor.
    pub entries: Vec<WatchedFile>,
    /// Levels of instances below it: 0 where it watches none.
    pub depth: u32,
    /// The set moved while it was read.
    pub approximate: bool,
}

/// How many entries a set has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Entries.
    pub total: u64,
    /// Level-triggered ones.
    pub level: u64,
    /// Edge-triggered ones.
    pub edge: u64,
    /// With EPOLLONESHOT.
    pub oneshot: u64,
    /// With EPOLLEXCLUSIVE.
    pub exclusive: u64,
    /// As [`Bond::Stale`].
    pub stale: u64,
    /// As [`Bond::Foreign`].
    pub foreign: u64,
    /// As [`InterestSet::approximate`].
    pub approximate: bool,
}

impl InterestSet {
    /// How many entries it has of each sort.
    pub fn watched(&self) -> Watched {
        let mut watched = Watched { approximate: self.approximate, ..Watched::default() };
        for entry in &self.entries {
            let has = |flag: u32| u64::from(entry.events & flag != 0);
            watched.total += 1;
            watched.edge += has(EDGE);
            watched.oneshot += has(ONESHOT);
            watched.exclusive += has(EXCLUSIVE);
            watched.stale += u64::from(entry.bond == Bond::Stale);
            watched.foreign += u64::from(entry.bond == Bond::Foreign);
        }
        watched.level = watched.total - watched.edge;
        watched
    }
}

/// The sets of all instances that were found. `waiting`: the processes that wait on an instance.
pub(super) fn sets(
    found: Vec<Holder>,
    waiting: impl Fn(&Waitable) -> BTreeSet<u32>,
) -> BTreeMap<Waitable, InterestSet> {
    let mut by_instance: BTreeMap<Waitable, Vec<Holder>> = BTreeMap::new();
    for holder in found {
        let (address, generation) = holder.instance;
        by_instance.entry(Waitable::instance(address, generation)).or_default().push(holder);
    }
    let mut sets: BTreeMap<Waitable, InterestSet> = by_instance
        .into_iter()
        .map(|(instance, holders)| (instance, set(holders, || waiting(&instance))))
        .collect();
    nest(&mut sets);
    sets
}

/// The set of one instance, from the tables of those that hold it.
fn set(mut holders: Vec<Holder>, waiting: impl FnOnce() -> BTreeSet<u32>) -> InterestSet {
    if let [Holder { tgid, epfd, uid, entries: Some(Entries { first, second: None, lost }), .. }] =
        holders.as_mut_slice()
    {
        // Nearly all are held by one process, and still: no table of 15,000 entries has to be built.
        return InterestSet {
            holders: BTreeSet::from([(*tgid, *epfd)]),
            uid: *uid,
            entries: std::mem::take(first).into_iter().map(|entry| alone(&entry, *tgid)).collect(),
            depth: 0,
            approximate: *lost,
        };
    }
    let mut set = InterestSet::default();
    let mut entries: BTreeMap<(u64, u32), (Entry, BTreeSet<u32>)> = BTreeMap::new();
    for holder in &holders {
        set.holders.insert((holder.tgid, holder.epfd));
        set.uid = holder.uid;
        let Some(seen) = &holder.entries else { continue };
        let (union, approximate) = united(seen);
        set.approximate |= approximate;
        for entry in union {
            let (_, tables) =
                entries.entry((entry.file, entry.fd)).or_insert_with(|| (entry, BTreeSet::new()));
            if entry.behind != 0 {
                tables.insert(holder.tgid);
            }
        }
    }
    // Of those that wait, the ones that hold it: a wait may go on when its descriptor was closed.
    let holding: BTreeSet<u32> = set.holders.iter().map(|(tgid, _)| *tgid).collect();
    let waiting: BTreeSet<u32> = waiting().intersection(&holding).copied().collect();
    let home = if waiting.is_empty() { &holding } else { &waiting };
    set.entries = entries
        .into_values()
        .map(|(entry, tables)| {
            let bond = match (tables.is_empty(), tables.is_disjoint(home)) {
                (true, _) => Bond::Stale,
                (false, true) => Bond::Foreign,
                (false, false) => Bond::Live,
            };
            let tgid = tables.intersection(home).next().or(tables.first()).copied();
            let process = tgid.and_then(NonZeroU32::new);
            WatchedFile {
                fd: entry.fd,
                events: entry.events,
                data: entry.data,
                bond,
                process,
                file: entry.file,
            }
        })
        .collect();
    set
}

/// An entry of an instance that one process alone holds.
fn alone(entry: &Entry, tgid: u32) -> WatchedFile {
    let behind = entry.behind != 0;
    WatchedFile {
        fd: entry.fd,
        events: entry.events,
        data: entry.data,
        bond: if behind { Bond::Live } else { Bond::Stale },
        process: NonZeroU32::new(tgid).filter(|_| behind),
        file: entry.file,
    }
}

/// The entries of all walks, and whether they are approximate. What one walk alone saw was added or removed meanwhile, or
/// hidden from the other by a rotation of the tree.
fn united(seen: &Entries) -> (Vec<Entry>, bool) {
    let Some(second) = &seen.second else {
        return (seen.first.clone(), seen.lost);
    };
    let mut union: BTreeMap<(u64, u32), (Entry, usize)> = BTreeMap::new();
    for entry in seen.first.iter().chain(second) {
        union.entry((entry.file, entry.fd)).or_insert((*entry, 0)).1 += 1;
    }
    let alone = union.values().filter(|(_, walks)| *walks == 1).count();
    let approximate = seen.lost || alone * TOLERATED > union.len().max(TOLERATED);
    (union.into_values().map(|(entry, _)| entry).collect(), approximate)
}

/// Finds how deep instances watch one another.
fn nest(sets: &mut BTreeMap<Waitable, InterestSet>) {
    let mut instances: Vec<Waitable> = sets.keys().copied().collect();
    if instances.len() < 2 {
        return;
    }
    // Of an address that was used again, the newest.
    instances.dedup_by(|later, earlier| {
        let again = later.address == earlier.address;
        if again {
            *earlier = *later;
        }
        again
    });
    let below: HashMap<Waitable, Vec<Waitable>> = sets
        .iter()
        .map(|(instance, set)| (*instance, watched_instances(set, &instances)))
        .filter(|(_, below)| !below.is_empty())
        .collect();
    // One level more in each turn: as many turns as there are levels.
    for level in 1..=NESTS {
        let deeper: Vec<Waitable> = below
            .iter()
            .filter(|(_, below)| {
                below.iter().any(|instance| sets.get(instance).is_some_and(|set| set.depth == level - 1))
            })
            .map(|(instance, _)| *instance)
            .collect();
        if deeper.is_empty() {
            return;
        }
        for instance in deeper {
            if let Some(set) = sets.get_mut(&instance) {
                set.depth = level;
            }
        }
    }
}

/// The instances that a set has; both are in the order of addresses, and whichever is shorter is looked up in the other.
fn watched_instances(set: &InterestSet, instances: &[Waitable]) -> Vec<Waitable> {
    if set.entries.len() < instances.len() {
        let place = |file: u64| instances.binary_search_by_key(&file, |instance| instance.address).ok();
        let places = set.entries.iter().filter_map(|entry| place(entry.file));
        return places.filter_map(|place| instances.get(place).copied()).collect();
    }
    let is_watched = |address: u64| set.entries.binary_search_by_key(&address, |entry| entry.file).is_ok();
    instances.iter().filter(|instance| is_watched(instance.address)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: u64, fd: u32, events: u32, behind: bool) -> Entry {
        Entry { file, fd, events, behind: behind.into(), ..Entry::default() }
    }

    fn holder(tgid: u32, epfd: i32, address: u64, first: Vec<Entry>) -> Holder {
        let entries = Some(Entries { first, ..Entries::default() });
        Holder { tgid, epfd, uid: 0, instance: (address, 0), entries }
    }

    fn only(holders: Vec<Holder>, waiting: &[u32]) -> InterestSet {
        let sets = sets(holders, |_| waiting.iter().copied().collect());
        assert_eq!(sets.len(), 1);
        sets.into_values().next().unwrap()
    }

    #[test]
    fn entries_are_counted_by_their_flags() {
        let entries = vec![
            entry(64, 4, 1, true),
            entry(128, 5, 1 | EDGE, true),
            entry(128, 6, 1 | EDGE | ONESHOT, true),
            entry(192, 7, 1 | EXCLUSIVE, false),
        ];
        let watched = only(vec![holder(1, 3, 640, entries)], &[1]).watched();
        let expected =
            Watched { total: 4, level: 2, edge: 2, oneshot: 1, exclusive: 1, stale: 1, ..Watched::default() };
        assert_eq!(watched, expected);
    }

    #[test]
    fn an_entry_of_a_process_that_only_holds_the_instance_is_foreign() {
        let parent = holder(1, 3, 640, vec![entry(64, 4, 1, true), entry(128, 5, 1, false)]);
        let child = holder(2, 3, 640, vec![entry(64, 4, 1, false), entry(128, 5, 1, false)]);
        let set = only(vec![parent.clone(), child.clone()], &[2]);
        assert_eq!(
            set.entries.iter().map(|entry| entry.bond).collect::<Vec<_>>(),
            [Bond::Foreign, Bond::Stale]
        );
        assert_eq!(set.holders, BTreeSet::from([(1, 3), (2, 3)]));
        let set = only(vec![parent, child], &[]);
        assert_eq!(set.entries.iter().map(|entry| entry.bond).collect::<Vec<_>>(), [Bond::Live, Bond::Stale]);
    }

    #[test]
    fn a_set_that_hardly_moved_is_exact_enough_and_whole() {
        let all: Vec<Entry> = (0..1000).map(|fd| entry(64 * u64::from(fd), fd, 1, true)).collect();
        let mut seen = holder(1, 3, 640, all.get(..999).unwrap().to_vec());
        seen.entries.as_mut().unwrap().second = Some(all.get(1..).unwrap().to_vec());
        let watched = only(vec![seen], &[1]).watched();
        assert_eq!((watched.total, watched.approximate), (1000, false));
    }

    #[test]
    fn a_set_that_moved_much_is_approximate() {
        let all: Vec<Entry> = (0..1000).map(|fd| entry(64 * u64::from(fd), fd, 1, true)).collect();
        let mut seen = holder(1, 3, 640, all.get(..900).unwrap().to_vec());
        seen.entries.as_mut().unwrap().second = Some(all);
        let watched = only(vec![seen], &[1]).watched();
        assert_eq!((watched.total, watched.approximate), (1000, true));
    }

    #[test]
    fn depth_counts_the_levels_below() {
        let holders = vec![
            holder(1, 3, 640, vec![entry(704, 4, 1, true)]),
            holder(1, 4, 704, vec![entry(768, 5, 1, true), entry(832, 9, 1, true)]),
            holder(1, 5, 768, vec![]),
            // Cannot be, and must not hang.
            holder(1, 6, 960, vec![entry(960, 6, 1, true)]),
        ];
        let sets = sets(holders, |_| BTreeSet::new());
        let depths: Vec<u32> = sets.values().map(|set| set.depth).collect();
        assert_eq!(depths[..3], [2, 1, 0]);
    }
}
