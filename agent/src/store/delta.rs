//! A pass over the probes' records as its difference from the pass before: most loops of a host are idle, and of an
//! idle loop's record three words change.
//!
//! Records are told apart by their heads alone; what is in them does not matter here, so that a new kind of record needs
//! nothing new. Pure; the unpacking side believes no number.

use std::collections::HashMap;

use loopscope_probe::Head;

use super::varint::{Bytes, put, unzigzag, zigzag};

/// A pass that unpacks to more is refused: some 100,000 loops.
const LONGEST_PASS: usize = 256 << 20;

/// How a record begins: the record after the last one that was taken from the pass before, one without a forerunner, or
/// one at a certain place of the pass before.
const NEXT: u64 = 0;
const NEW: u64 = 1;
const AT: u64 = 2;

/// What tells a record from the others of a pass: kind, thread, its birth, and the how-manieth of them.
type Key = (u32, u32, u64, u32);

/// The pass before, on both sides.
#[derive(Default)]
pub struct Before {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Before {
    fn record(&self, i: usize) -> Option<&[u8]> {
        let from = match i.checked_sub(1) {
            None => 0,
            Some(last) => *self.ends.get(last)?,
        };
        self.bytes.get(from..*self.ends.get(i)?)
    }

    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }
}

/// The packing side.
#[derive(Default)]
pub struct Packer {
    before: Before,
    keys: HashMap<Key, usize>,
}

impl Packer {
    /// The next pass stands for itself.
    pub fn reset(&mut self) {
        *self = Packer::default();
    }

    /// Appends a pass to `out`.
    pub fn pack(&mut self, pass: &[u8], out: &mut Vec<u8>) {
        let mut now = Before::default();
        let mut keys = HashMap::with_capacity(self.keys.len());
        let mut next = 0;
        let records: Vec<&[u8]> = split(pass).collect();
        put(out, records.len() as u64);
        for (i, record) in records.into_iter().enumerate() {
            let key = key(record, &keys);
            let place = key.and_then(|key| self.keys.get(&key).copied());
            let old =
                place.and_then(|place| self.before.record(place)).filter(|old| old.len() == record.len());
            match (place, old) {
                (Some(place), Some(old)) => {
                    put(out, if place == next { NEXT } else { AT + place as u64 });
                    next = place + 1;
                    difference(old, record, out);
                }
                _ => {
                    put(out, NEW);
                    put(out, record.len() as u64);
                    difference(&[], record, out);
                }
            }
            if let Some(key) = key {
                keys.insert(key, i);
            }
            now.push(record);
        }
        (self.before, self.keys) = (now, keys);
    }
}

/// The unpacking side.
#[derive(Default)]
pub struct Unpacker {
    before: Before,
}

impl Unpacker {
    /// The next pass stands for itself.
    pub fn reset(&mut self) {
        self.before = Before::default();
    }

    /// Takes a pass from the front of `bytes`; None where they are none.
    pub fn unpack(&mut self, bytes: &mut Bytes) -> Option<&[u8]> {
        let mut now = Before::default();
        let mut next = 0;
        for _ in 0..bytes.size()? {
            let place = match bytes.number()? {
                NEXT => Some(next),
                NEW => None,
                at => Some(usize::try_from(at - AT).ok()?),
            };
            match place {
                Some(place) => {
                    next = place.checked_add(1)?;
                    let old = self.before.record(place)?;
                    now.bytes.extend_from_slice(old);
                }
                None => {
                    let length = bytes.size().filter(|length| *length <= LONGEST_PASS)?;
                    // No more is set aside than the difference can fill: a word of eight bytes takes two.
                    now.bytes.resize(now.bytes.len().checked_add(length)?, 0);
                }
            }
            let from = now.ends.last().copied().unwrap_or(0);
            if now.bytes.len() > LONGEST_PASS {
                return None;
            }
            apply(now.bytes.get_mut(from..)?, bytes)?;
            now.ends.push(now.bytes.len());
        }
        self.before = now;
        Some(&self.before.bytes)
    }
}

/// The records of a pass, by the sizes that their heads announce; what is none is one piece.
fn split(mut pass: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let size = match Head::read(pass) {
            Some(head) if head.size as usize >= size_of::<Head>() && head.size as usize <= pass.len() => {
                head.size as usize
            }
            _ => pass.len(),
        };
        let (record, rest) = pass.split_at_checked(size).filter(|(record, _)| !record.is_empty())?;
        pass = rest;
        Some(record)
    })
}

fn key(record: &[u8], known: &HashMap<Key, usize>) -> Option<Key> {
    let head = Head::read(record)?;
    (0..64).map(|nth| (head.kind, head.tid, head.born_ns, nth)).find(|key| !known.contains_key(key))
}

/// A word of eight bytes; what is beyond the end is zero.
fn word(bytes: &[u8], i: usize) -> u64 {
    let mut word = [0; 8];
    let here = bytes.get(i * 8..).unwrap_or_default();
    for (to, from) in word.iter_mut().zip(here) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Appends how many words differ, and each with its distance from the one before.
fn difference(old: &[u8], new: &[u8], out: &mut Vec<u8>) {
    let changed: Vec<(usize, u64)> = (0..new.len().div_ceil(8))
        .map(|i| (i, word(new, i).wrapping_sub(word(old, i))))
        .filter(|(_, difference)| *difference != 0)
        .collect();
    put(out, changed.len() as u64);
    let mut next = 0;
    for (i, difference) in changed {
        put(out, (i - next) as u64);
        put(out, zigzag(difference));
        next = i + 1;
    }
}

fn apply(record: &mut [u8], bytes: &mut Bytes) -> Option<()> {
    let mut next = 0_usize;
    for _ in 0..bytes.size()? {
        let i = next.checked_add(bytes.size()?)?;
        let difference = unzigzag(bytes.number()?);
        // Before the word is looked at: the place is the file's, and may be any number.
        record.get(i.checked_mul(8)?..).filter(|here| !here.is_empty())?;
        let value = word(record, i).wrapping_add(difference);
        let here = record.get_mut(i * 8..)?;
        for (to, from) in here.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
        next = i + 1;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use loopscope_probe::{Loop, kind};
    use proptest::prelude::*;

    use super::*;

    /// A record of a thread with a body of zeros but for one word.
    fn record(tid: u32, body: usize, value: u64) -> Vec<u8> {
        let size = size_of::<Head>() + body;
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&(kind::LOOPS as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(size as u32).to_le_bytes());
        let at = std::mem::offset_of!(Head, tid);
        bytes[at..at + 4].copy_from_slice(&tid.to_le_bytes());
        bytes[16..24].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    fn round_trip(passes: &[Vec<u8>]) -> Vec<usize> {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        let mut sizes = Vec::new();
        for pass in passes {
            let mut out = Vec::new();
            packer.pack(pass, &mut out);
            let mut bytes = Bytes(&out);
            assert!(unpacker.unpack(&mut bytes) == Some(pass));
            assert!(bytes.0.is_empty());
            sizes.push(out.len());
        }
        sizes
    }

    #[test]
    fn a_place_beyond_every_record_is_refused() {
        let mut out = Vec::new();
        for number in [1, NEW, 8, 1, 1 << 61, 2] {
            put(&mut out, number);
        }
        assert_eq!(Unpacker::default().unpack(&mut Bytes(&out)), None);
    }

    #[test]
    fn an_idle_loop_costs_a_few_bytes_wherever_its_record_is() {
        let pass = |tids: &[u32], now: u64| -> Vec<u8> {
            tids.iter().flat_map(|tid| record(*tid, size_of::<Loop>(), now + u64::from(*tid))).collect()
        };
        let tids: Vec<u32> = (0..100).collect();
        let others: Vec<u32> = (3..50).chain([900]).chain(51..100).collect();
        let sizes = round_trip(&[
            pass(&tids, 1_000_000_000),
            pass(&tids, 2_000_000_000),
            pass(&others, 3_000_000_000),
            pass(&[], 0),
            pass(&tids, 0),
        ]);
        assert!(sizes[1] < 100 * 9, "{sizes:?}");
        assert!(sizes[2] < 100 * 9 + 100, "{sizes:?}");
    }

    proptest! {
        #[test]
        fn any_passes_come_back(passes in proptest::collection::vec(
            proptest::collection::vec((0_u32..6, 0_usize..40, any::<u64>()), 0..12), 1..6), tail in proptest::collection::vec(any::<u8>(), 0..20)) {
            let passes: Vec<Vec<u8>> = passes
                .into_iter()
                .map(|records| {
                    let records = records.into_iter().flat_map(|(tid, body, value)| record(tid, body, value));
                    records.chain(tail.iter().copied()).collect()
                })
                .collect();
            round_trip(&passes);
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut unpacker = Unpacker::default();
            let mut good = Vec::new();
            Packer::default().pack(&record(1, 64, 5), &mut good);
            unpacker.unpack(&mut Bytes(&good)).unwrap();
            let _ = unpacker.unpack(&mut Bytes(&bytes));
        }
    }
}
