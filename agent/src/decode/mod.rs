//! Bytes from the kernel to typed records. Pure: no system call, no aya, and no length is believed.

pub mod interest;

use std::{fmt, mem::offset_of};

use loopscope_probe::{ALL_LINES, Counters, Ctl, Head, Line, Loop, Scalars, kind, waitable};

/// One record of the iterator or the ring buffer.
#[derive(Clone, Debug)]
pub enum Record {
    /// The loops of one thread, or some of them; unused slots are left out.
    Loops(Head, Vec<Loop>),
    /// The epoll_ctl calls of one thread, likewise.
    Ctls(Head, Vec<Ctl>),
    /// The programs' own counters; ends a pass of the iterator.
    Counters(Head, Box<Counters>),
    /// A thread was seen for the first time.
    Born(Head),
    /// A loop of a thread, without what is as it was.
    Lines(Head, Lines),
    /// A thread whose loops are as they were.
    Same(Head),
}

/// A loop without the lines of its histograms that are as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Bit i: line i is there.
    pub set: u64,
    /// [`Scalars`], then the lines in ascending order.
    pub words: Box<[u64]>,
}

impl Lines {
    /// Reads a body; None where its size does not fit its set.
    fn read(body: &[u8]) -> Option<Lines> {
        let (words, rest) = body.as_chunks::<8>();
        let (set, words) = words.split_first()?;
        let set = u64::from_le_bytes(*set);
        let size = size_of::<Scalars>() + set.count_ones() as usize * size_of::<Line>();
        if !rest.is_empty() || set & !ALL_LINES != 0 || words.len() * 8 != size {
            return None;
        }
        Some(Lines { set, words: words.iter().map(|word| u64::from_le_bytes(*word)).collect() })
    }

    /// One of the scalars, by its offset in a [`Loop`].
    fn word(&self, offset: usize) -> u64 {
        self.words.get(offset / 8).copied().unwrap_or(0)
    }

    /// As [`Loop::waitable`].
    pub fn waitable(&self) -> u64 {
        self.word(offset_of!(Loop, waitable))
    }

    /// As [`Loop::generation`].
    pub fn generation(&self) -> u64 {
        self.word(offset_of!(Loop, generation))
    }

    /// One of the scalars of four bytes, likewise.
    fn half(&self, offset: usize) -> u32 {
        (self.word(offset) >> (offset % 8 * 8)) as u32
    }

    /// As [`Loop::serial`].
    pub fn serial(&self) -> u32 {
        self.half(offset_of!(Loop, serial))
    }

    /// As [`Loop::mechanism`].
    pub fn mechanism(&self) -> u32 {
        self.half(offset_of!(Loop, mechanism))
    }
}

impl Record {
    /// What precedes the record.
    pub fn head(&self) -> &Head {
        match self {
            Record::Loops(head, _)
            | Record::Ctls(head, _)
            | Record::Counters(head, _)
            | Record::Born(head)
            | Record::Lines(head, _)
            | Record::Same(head) => head,
        }
    }
}

/// A record that cannot be what the probes wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// Fewer bytes than a head, or than the head announces.
    Short {
        /// Bytes that are there.
        found: usize,
        /// Bytes that should be.
        expected: usize,
    },
    /// The head announces a size that its kind cannot have.
    Size {
        /// The kind's number.
        kind: u32,
        /// The size announced.
        size: u32,
    },
    /// No such kind.
    Kind(u32),
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damaged::Short { found, expected } => {
                write!(f, "a record of {expected} bytes ends after {found}")
            }
            Damaged::Size { kind, size } => write!(f, "a record of kind {kind} cannot have {size} bytes"),
            Damaged::Kind(kind) => write!(f, "there is no record of kind {kind}"),
        }
    }
}

impl std::error::Error for Damaged {}

/// Reads the record at the start of `bytes`; gives it and the bytes behind it.
///
/// # Errors
/// [`Damaged`] where the bytes are not a whole record.
pub fn record(bytes: &[u8]) -> Result<(Record, &[u8]), Damaged> {
    let short = |expected| Damaged::Short { found: bytes.len(), expected };
    let head = Head::read(bytes).ok_or(short(size_of::<Head>()))?;
    let (whole, rest) = bytes.split_at_checked(head.size as usize).ok_or(short(head.size as usize))?;
    let damaged = Damaged::Size { kind: head.kind, size: head.size };
    let body = whole.get(size_of::<Head>()..).ok_or(damaged.clone())?;
    let record = match head.kind as usize {
        kind::LOOPS => Record::Loops(head, several(body, Loop::read, |slot| slot.waitable).ok_or(damaged)?),
        kind::CTLS => Record::Ctls(head, several(body, Ctl::read, |slot| slot.waitable).ok_or(damaged)?),
        kind::COUNTERS if body.len() == size_of::<Counters>() => {
            Record::Counters(head, Box::new(Counters::read(body).ok_or(damaged)?))
        }
        kind::LINES => {
            let lines = Lines::read(body).ok_or(damaged)?;
            if lines.waitable() == waitable::FREE {
                Record::Loops(head, Vec::new())
            } else {
                Record::Lines(head, lines)
            }
        }
        kind::BORN if body.is_empty() => Record::Born(head),
        kind::SAME if body.is_empty() => Record::Same(head),
        kind::COUNTERS | kind::BORN | kind::SAME => return Err(damaged),
        _ => return Err(Damaged::Kind(head.kind)),
    };
    Ok((record, rest))
}

/// Reads all records of a pass.
///
/// # Errors
/// [`Damaged`] at the first that is not whole.
pub fn records(mut bytes: &[u8]) -> Result<Vec<Record>, Damaged> {
    // Most are heads alone, or little more.
    let mut records = Vec::with_capacity(bytes.len() / (2 * size_of::<Head>()));
    while !bytes.is_empty() {
        let (record, rest) = record(bytes)?;
        records.push(record);
        bytes = rest;
    }
    Ok(records)
}

/// Reads a body of equal slots without the unused ones; None where it is not a whole number of them.
fn several<T>(body: &[u8], read: fn(&[u8]) -> Option<T>, waitable_of: fn(&T) -> u64) -> Option<Vec<T>> {
    if body.is_empty() || !body.len().is_multiple_of(size_of::<T>()) {
        return None;
    }
    let slots: Option<Vec<T>> = body.chunks_exact(size_of::<T>()).map(read).collect();
    Some(slots?.into_iter().filter(|slot| waitable_of(slot) != waitable::FREE).collect())
}

/// A name from the kernel: up to the first NUL; what is no UTF-8 is replaced.
pub fn name(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A head of the given kind and size, as bytes, followed by zeros.
    fn bytes(kind: usize, size: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[..4].copy_from_slice(&(kind as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(size as u32).to_le_bytes());
        bytes
    }

    #[test]
    fn free_slots_are_left_out() {
        let size = size_of::<Head>() + 3 * size_of::<Loop>();
        let mut bytes = bytes(kind::LOOPS, size, size);
        bytes[size_of::<Head>() + size_of::<Loop>()] = 7;
        let (record, rest) = record(&bytes).unwrap();
        assert!(rest.is_empty());
        let Record::Loops(_, loops) = record else { panic!("{record:?}") };
        assert_eq!(loops.iter().map(|looped| looped.waitable).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_record_that_ends_early_says_how_much_is_there() {
        let size = size_of::<Head>() + size_of::<Counters>();
        let error = record(&bytes(kind::COUNTERS, size, size - 1)).unwrap_err();
        assert_eq!(error, Damaged::Short { found: size - 1, expected: size });
        assert_eq!(record(&[1, 2, 3]).unwrap_err(), Damaged::Short { found: 3, expected: size_of::<Head>() });
    }

    #[test]
    fn a_size_that_the_kind_cannot_have_is_refused() {
        for (kind, size) in [
            (kind::LOOPS, 200),
            (kind::CTLS, 161),
            (kind::COUNTERS, 160),
            (kind::BORN, 168),
            (kind::SAME, 168),
            (kind::LINES, 160),
            (kind::LINES, 160 + 8 + size_of::<Scalars>() + 64),
            (kind::LOOPS, 0),
        ] {
            let error = record(&bytes(kind, size, 4096)).unwrap_err();
            assert_eq!(error, Damaged::Size { kind: kind as u32, size: size as u32 });
        }
        assert_eq!(record(&bytes(77, 160, 160)).unwrap_err(), Damaged::Kind(77));
    }

    #[test]
    fn a_name_ends_at_its_nul() {
        assert_eq!(name(b"nginx\0garbage\0\0\0"), "nginx");
        assert_eq!(name(b"sixteen-letters!"), "sixteen-letters!");
        assert_eq!(name(b"\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096), kind in 0_u8..8) {
            let mut bytes = bytes;
            let _ = records(&bytes);
            if bytes.len() > 8 {
                bytes[0] = kind;
                bytes[1..4].fill(0);
                bytes[6..8].fill(0);
                let _ = records(&bytes);
            }
        }
    }
}
