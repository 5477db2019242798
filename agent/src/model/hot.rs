//! Which entries of an interest set delivered the events, from counts by user data word. Pure.
//!
//! A word is all that the kernel gives back, and several entries may have the same. So events are an entry's only where
//! no other entry can have had its word within the window; else they are ambiguous or gone, and never guessed.

use std::collections::{BTreeMap, HashMap, HashSet};

use loopscope_probe::ctl_op;

use super::{
    InstanceWindow, Model, Waitable,
    interest::{InterestSet, WatchedFile},
    sum,
};

/// Counts of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events by user data word.
    pub words: BTreeMap<u64, u64>,
    /// Events of which the word is not known.
    pub unsampled: u64,
}

/// Counts of all instances, by address and generation.
#[derive(Clone, Debug, Default)]
pub struct Hot(HashMap<Waitable, Counts>);

impl Hot {
    /// Adds events of an instance: `word` None where it is not known.
    pub fn add(&mut self, [address, generation]: [u64; 2], word: Option<u64>, events: u64) {
        let counts = self.0.entry(Waitable::instance(address, generation)).or_default();
        match word {
            Some(word) => sum::add(counts.words.entry(word).or_default(), events),
            None => sum::add(&mut counts.unsampled, events),
        }
    }
}

/// What an entry delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// So many events.
    Known(u64),
    /// Other entries have the same word; they delivered so many together.
    Ambiguous(u64),
    /// The entry, or one with its word, came, went or changed within the window.
    Changed,
}

/// What the entries of an instance delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// In the order of the set's entries.
    pub entries: Vec<Events>,
    /// Events whose word is known.
    pub sampled: u64,
    /// Events whose word is not known.
    pub unsampled: u64,
    /// Events of words that several entries have.
    pub ambiguous: u64,
    /// Events of words whose entry has changed or is gone.
    pub gone: u64,
}

/// What is known of an instance beside its set and its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// What each entry delivered; None where nobody asked.
    pub delivered: Option<Delivered>,
    /// Numbers of the instances among its entries, by the place in the set.
    pub nested: BTreeMap<usize, u64>,
}

impl Model {
    /// Remembers the sets that were last read as those of the window's begin.
    pub fn keep_interest(&mut self) {
        self.sets_before = self.sets.clone();
    }

    /// What the entries of an instance of the last [`Model::window`] delivered, and which of them are instances.
    pub fn entries(&self, instance: &InstanceWindow, hot: Option<&Hot>) -> Entries {
        let Some(set) = &instance.set else {
            return Entries::default();
        };
        let of = self.numbers.iter().find(|(_, number)| **number == instance.number).map(|(of, _)| *of);
        let delivered = hot.zip(of).map(|(hot, of)| {
            let before = self.sets_before.as_ref().and_then(|sets| sets.get(&of));
            let before = before.map_or(&[][..], |set| set.entries.as_slice());
            let adds = instance.ctl.done.get(ctl_op::ADD).copied().unwrap_or(0);
            delivered(before, &set.entries, adds, hot.0.get(&of).unwrap_or(&Counts::default()))
        });
        Entries { delivered, nested: self.nested(set) }
    }

    /// The instances among a set's entries.
    fn nested(&self, set: &InterestSet) -> BTreeMap<usize, u64> {
        if set.depth == 0 {
            return BTreeMap::new();
        }
        let known: HashMap<u64, u64> = (self.sets.iter().flatten())
            .filter_map(|(of, _)| Some((of.address, *self.numbers.get(of)?)))
            .collect();
        let entries = set.entries.iter().enumerate();
        entries.filter_map(|(place, entry)| Some((place, *known.get(&entry.file)?))).collect()
    }
}

/// The entries that have each word.
fn by_word(entries: &[WatchedFile]) -> HashMap<u64, Vec<&WatchedFile>> {
    let mut words: HashMap<u64, Vec<&WatchedFile>> = HashMap::new();
    for entry in entries {
        words.entry(entry.data).or_default().push(entry);
    }
    words
}

/// Attributes the counts of an instance to the entries that it had `before` and has `after` the window, in which so
/// many `adds` succeeded.
fn delivered(before: &[WatchedFile], after: &[WatchedFile], adds: u64, counts: &Counts) -> Delivered {
    let key = |entry: &WatchedFile| (entry.file, entry.fd);
    let had: HashSet<(u64, u32)> = before.iter().map(key).collect();
    let new = after.iter().filter(|entry| !had.contains(&key(entry))).count() as u64;
    // Each entry that was added is still there: no other had the word of a new one.
    let all_stayed = adds <= new;
    let (words_before, words_after) = (by_word(before), by_word(after));
    let nobody = Vec::new();
    let mut delivered = Delivered { unsampled: counts.unsampled, ..Delivered::default() };
    for (word, events) in &counts.words {
        sum::add(&mut delivered.sampled, *events);
        match words_after.get(word).map_or(0, Vec::len) {
            0 => sum::add(&mut delivered.gone, *events),
            1 => {}
            _ => sum::add(&mut delivered.ambiguous, *events),
        }
    }
    for entry in after {
        let events = counts.words.get(&entry.data).copied().unwrap_or(0);
        let earlier = words_before.get(&entry.data).unwrap_or(&nobody);
        let same = match earlier.as_slice() {
            [] => all_stayed && !had.contains(&key(entry)),
            [only] => key(only) == key(entry),
            _ => false,
        };
        let alone = words_after.get(&entry.data).map_or(0, Vec::len) == 1;
        delivered.entries.push(match (events, alone, same) {
            (0, ..) => Events::Known(0),
            (_, false, _) => Events::Ambiguous(events),
            (_, true, true) => Events::Known(events),
            (_, true, false) => {
                sum::add(&mut delivered.gone, events);
                Events::Changed
            }
        });
    }
    delivered
}

#[cfg(test)]
mod tests {
    use super::{super::interest::Bond, *};

    fn entry(file: u64, fd: u32, data: u64) -> WatchedFile {
        WatchedFile { fd, events: 1, data, bond: Bond::Live, process: None, file }
    }

    fn counts(words: &[(u64, u64)]) -> Counts {
        Counts { words: words.iter().copied().collect(), unsampled: 0 }
    }

    #[test]
    fn a_word_of_one_entry_that_stayed_is_its_own() {
        let set = [entry(64, 4, 4), entry(128, 5, 5)];
        let seen = delivered(&set, &set, 7, &Counts { unsampled: 3, ..counts(&[(5, 9)]) });
        assert_eq!(seen.entries, [Events::Known(0), Events::Known(9)]);
        assert_eq!((seen.sampled, seen.unsampled, seen.ambiguous, seen.gone), (9, 3, 0, 0));
    }

    #[test]
    fn a_word_of_several_entries_is_ambiguous() {
        let set = [entry(64, 4, 1), entry(128, 5, 1), entry(192, 6, 2)];
        let seen = delivered(&set, &set, 0, &counts(&[(1, 9), (2, 1)]));
        assert_eq!(seen.entries, [Events::Ambiguous(9), Events::Ambiguous(9), Events::Known(1)]);
        assert_eq!((seen.sampled, seen.ambiguous, seen.gone), (10, 9, 0));
    }

    #[test]
    fn what_left_or_came_in_the_place_of_another_is_gone() {
        let before = [entry(64, 4, 4), entry(128, 5, 5), entry(256, 7, 7)];
        let after = [entry(192, 5, 5), entry(256, 7, 70)];
        let seen = delivered(&before, &after, 1, &counts(&[(4, 2), (5, 9), (70, 1)]));
        assert_eq!(seen.entries, [Events::Changed, Events::Changed]);
        assert_eq!((seen.sampled, seen.gone), (12, 12));
    }

    #[test]
    fn a_new_entry_has_its_word_if_no_other_was_added_and_left() {
        let after = [entry(64, 4, 4)];
        assert_eq!(delivered(&[], &after, 1, &counts(&[(4, 2)])).entries, [Events::Known(2)]);
        assert_eq!(delivered(&[], &after, 2, &counts(&[(4, 2)])).entries, [Events::Changed]);
    }

    proptest::proptest! {
        #[test]
        fn every_event_is_counted_once(
            before in proptest::collection::vec((0_u64..4, 0_u32..4, 0_u64..4), 0..6),
            after in proptest::collection::vec((0_u64..4, 0_u32..4, 0_u64..4), 0..6),
            words in proptest::collection::btree_map(0_u64..5, 1_u64..9, 0..5),
            adds in 0_u64..4,
        ) {
            let of = |list: Vec<(u64, u32, u64)>| -> Vec<WatchedFile> {
                list.into_iter().map(|(file, fd, data)| entry(file, fd, data)).collect()
            };
            let total: u64 = words.values().sum();
            let seen = delivered(&of(before), &of(after), adds, &Counts { words, unsampled: 0 });
            let known: u64 = seen.entries.iter().map(|events| match events {
                Events::Known(events) => *events,
                _ => 0,
            }).sum();
            proptest::prop_assert_eq!(known + seen.ambiguous + seen.gone, total);
        }
    }
}
