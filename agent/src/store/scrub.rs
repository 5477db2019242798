//! Takes kernel addresses out of the probes' records before they come into a file: each is moved by one secret distance,
//! so that their order stays, by which instances are numbered, and where the kernel lies does not show.
//!
//! Knows where each kind of record has addresses; a test fails where there is a kind that is not listed here.

use std::mem::offset_of;

use loopscope_probe::{ChunkHead, Ctl, Entry, Head, Loop, Wait, kind, waitable};

/// Kernel addresses on 64-bit machines lie above.
const KERNEL: u64 = 1 << 63;

/// The places of addresses in the body of a record, by kind: size of a slot, and offsets in it. (A loop in parts is one
/// slot, however long.)
const PLACES: &[(usize, usize, &[usize])] = &[
    (kind::LOOPS, size_of::<Loop>(), &[offset_of!(Loop, waitable)]),
    (kind::CTLS, size_of::<Ctl>(), &[offset_of!(Ctl, waitable)]),
    (kind::COUNTERS, 0, &[]),
    (kind::BORN, 0, &[]),
    (kind::LINES, usize::MAX / 2, &[size_of::<u64>() + offset_of!(Loop, waitable)]),
    (kind::SAME, 0, &[]),
];

/// Moves the addresses of one record, in place. `distance`: less than 2^62.
pub fn record(bytes: &mut [u8], distance: u64) {
    let Some(head) = Head::read(bytes) else { return };
    move_one(bytes, offset_of!(Head, wait) + offset_of!(Wait, waitable), distance);
    let Some((_, slot, offsets)) = PLACES.iter().find(|(kind, ..)| *kind == head.kind as usize) else {
        return;
    };
    if *slot == 0 {
        return;
    }
    for at in (size_of::<Head>()..bytes.len()).step_by(*slot) {
        for offset in *offsets {
            move_one(bytes, at + offset, distance);
        }
    }
}

/// As [`record`], of a chunk of an interest set; `user_data`: it may stay.
pub fn chunk(bytes: &mut [u8], distance: u64, user_data: bool) {
    move_one(bytes, offset_of!(ChunkHead, file), distance);
    // How long the walk took nobody asks of a recording, and it is other in each chunk.
    let at = offset_of!(ChunkHead, longest_ns);
    if let Some(longest) = bytes.get_mut(at..at + 4) {
        longest.fill(0);
    }
    let entries = bytes.get_mut(size_of::<ChunkHead>()..).unwrap_or_default();
    for entry in entries.chunks_exact_mut(size_of::<Entry>()) {
        move_one(entry, offset_of!(Entry, file), distance);
        let at = offset_of!(Entry, data);
        if let Some(data) = entry.get_mut(at..at + 8).filter(|_| !user_data) {
            data.fill(0);
        }
    }
}

fn move_one(bytes: &mut [u8], at: usize, distance: u64) {
    let Some(Ok(place)) = bytes.get_mut(at..at + 8).map(<&mut [u8; 8]>::try_from) else { return };
    let address = u64::from_le_bytes(*place);
    if address >= KERNEL {
        // Between 2^62 and 2^63: above every number of `waitable`, and no address of anything.
        *place = ((address - KERNEL) / 2 + (KERNEL / 2) - distance / 2).max(waitable::LAST + 1).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_record_is_listed() {
        let listed: Vec<usize> = PLACES.iter().map(|(kind, ..)| *kind).collect();
        let mut kinds = listed.clone();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), listed.len());
        assert_eq!(kinds.len(), kind::NAMES.len(), "say where the new kind has addresses");
    }

    #[test]
    fn addresses_are_moved_in_order_and_the_numbers_that_are_none_stay() {
        let size = size_of::<Head>() + 2 * size_of::<Loop>();
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&(kind::LOOPS as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(size as u32).to_le_bytes());
        let wait = offset_of!(Head, wait) + offset_of!(Wait, waitable);
        let slots = [0, 1].map(|i| size_of::<Head>() + i * size_of::<Loop>() + offset_of!(Loop, waitable));
        let (low, high) = (0xffff_8880_1234_5600_u64, 0xffff_8880_1234_5800_u64);
        for (at, value) in [(wait, low), (slots[0], high), (slots[1], waitable::POLL)] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        record(&mut bytes, 0x0123_4567_89ab);
        let at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert!(at(wait) < at(slots[0]) && at(slots[0]) < KERNEL && at(wait) > waitable::LAST);
        assert_eq!(at(slots[1]), waitable::POLL);
    }
}
