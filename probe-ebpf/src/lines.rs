//! A loop in parts: what a pass sends of one whose histograms are mostly as they were.
//!
//! A [`Loop`] begins with [`Scalars`], and the rest, its histograms, is [`LINES`] lines of 64 bytes. A line is sent whole
//! and absolute, so that one that comes late is late and nothing else. Must not know who reads or writes.

use core::mem::offset_of;

use crate::Loop;

/// Sixteen counts of a histogram, as words.
pub type Line = [u64; 8];
/// Everything of a [`Loop`] before its histograms, as words.
pub type Scalars = [u64; offset_of!(Loop, wait) / 8];
/// How many lines the histograms of a loop are.
pub const LINES: usize = (size_of::<Loop>() - offset_of!(Loop, wait)) / size_of::<Line>();
/// Every line, as a set.
pub const ALL_LINES: u64 = (1 << LINES) - 1;

/// What the reader has sent of a record, by the parity of the pass: a pass may show a record twice, since where its buffer
/// is full the kernel drops what a task has written and shows the task again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Window number of the last pass of this parity that sent the record, plus 1; 0: none.
    pub windows: [u64; 2],
    /// [`crate::Task::sequence`] as it was then.
    pub sequences: [u64; 2],
    /// Not 0 once a descriptor of a slot was found closed: from then on the record is sent in every pass.
    pub closed: u64,
}

/// The first line of the histogram at this offset in a [`Loop`].
pub const fn line_of(offset: usize) -> usize {
    assert!((offset - offset_of!(Loop, wait)).is_multiple_of(size_of::<Line>()));
    (offset - offset_of!(Loop, wait)) / size_of::<Line>()
}

#[cfg(not(target_arch = "bpf"))]
impl Loop {
    /// The loop as words.
    fn words(&self) -> &[u64; size_of::<Loop>() / 8] {
        // SAFETY: a Loop is made of integers without padding, its size is a multiple of eight bytes (asserted where it is
        // defined), and so is its alignment.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }

    /// As [`Loop::words`], to write.
    fn words_mut(&mut self) -> &mut [u64; size_of::<Loop>() / 8] {
        // SAFETY: as above; any words are a Loop.
        unsafe { &mut *core::ptr::from_mut(self).cast() }
    }

    /// The lines of the histograms.
    pub fn lines(&self) -> &[Line] {
        self.words().split_at(size_of::<Scalars>() / 8).1.as_chunks().0
    }

    /// Takes in scalars and then, for each bit of `set` in ascending order, a line. False where `words` are not as many as
    /// that, and nothing was taken in.
    pub fn patch(&mut self, set: u64, words: &[u64]) -> bool {
        let Some((scalars, lines)) = words.split_at_checked(size_of::<Scalars>() / 8) else { return false };
        if set & !ALL_LINES != 0 || lines.len() != set.count_ones() as usize * size_of::<Line>() / 8 {
            return false;
        }
        let (to_scalars, to_lines) = self.words_mut().split_at_mut(scalars.len());
        to_scalars.copy_from_slice(scalars);
        let places =
            to_lines.as_chunks_mut::<8>().0.iter_mut().enumerate().filter(|(i, _)| set >> i & 1 == 1);
        for ((_, to), line) in places.zip(lines.as_chunks::<8>().0) {
            *to = *line;
        }
        true
    }

    /// Takes in the scalars and these lines of another loop.
    pub fn copy_lines(&mut self, of: &Loop, set: u64) {
        let scalars = size_of::<Scalars>() / 8;
        let (to, from) = (self.words_mut().split_at_mut(scalars), of.words().split_at(scalars));
        to.0.copy_from_slice(from.0);
        let lines = to.1.as_chunks_mut::<8>().0.iter_mut().zip(from.1.as_chunks::<8>().0);
        for (_, (to, line)) in lines.enumerate().filter(|(i, _)| set >> i & 1 == 1) {
            *to = *line;
        }
    }

    /// Takes in another reading of the same slot; gives the lines that differed.
    pub fn replace(&mut self, new: &Loop) -> u64 {
        let differ = self.lines().iter().zip(new.lines()).map(|(old, new)| u64::from(old != new));
        let set = differ.enumerate().fold(0, |set, (i, differs)| set | differs << i);
        *self = *new;
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_begin_where_lines_do_and_fill_them() {
        let first = [
            offset_of!(Loop, wait),
            offset_of!(Loop, busy),
            offset_of!(Loop, events_per_wait),
            offset_of!(Loop, overrun),
            offset_of!(Loop, nfds_per_wait),
            offset_of!(Loop, backlog_per_wait),
            offset_of!(Loop, requeued_per_wait),
        ]
        .map(line_of);
        assert_eq!(first, [0, 8, 16, 20, 28, 32, 36]);
        assert_eq!(LINES, 40);
    }

    #[test]
    fn a_loop_in_parts_is_the_loop() {
        let mut new = Loop { waitable: 7, events: 3, ..Loop::EMPTY };
        (new.wait[0], new.busy[127], new.requeued_per_wait[63]) = (1, 2, 3);
        let mut words = new.words()[..size_of::<Scalars>() / 8].to_vec();
        let set = 1 | 1 << 15 | 1 << 39;
        words.extend([0, 15, 39].iter().flat_map(|i| new.lines()[*i]));
        let mut old = Loop { fd: 9, ..Loop::EMPTY };
        old.overrun[5] = 4;
        assert!(!old.patch(set | 1 << 40, &words) && !old.patch(set, &words[..words.len() - 1]));
        assert!(old.patch(set, &words));
        new.overrun[5] = 4;
        assert!(old.words() == new.words());
        (new.busy[0], new.fd) = (1, 2);
        assert_eq!((old.replace(&new), old.fd), (1 << 8, 2));
    }
}
