//! Bytes of the interest-set iterator to what it found. Pure: no system call, no aya, and no length is believed.

use loopscope_probe::{CHUNK_ENTRIES, ChunkHead, Entry, chunk};

use super::Damaged;

/// A descriptor of a process that means an epoll instance, and what the instance watches as seen from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Process id as the host counts.
    pub tgid: u32,
    /// The descriptor.
    pub epfd: i32,
    /// User to whom the entries are counted.
    pub uid: u32,
    /// Address and generation of the instance.
    pub instance: (u64, u64),
    /// Its entries, in the order of file and descriptor; None where the process has the instance by another descriptor
    /// too, which has them.
    pub entries: Option<Entries>,
}

/// The entries of an instance, as one or two walks saw them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The first walk's.
    pub first: Vec<Entry>,
    /// Another's, where the set moved meanwhile.
    pub second: Option<Vec<Entry>>,
    /// Whether a walk did not come to its end.
    pub lost: bool,
}

/// Puts together what the iterator sends, chunk by chunk.
#[derive(Default)]
pub struct Assembly {
    holders: Vec<Holder>,
    longest_ns: u32,
}

impl Assembly {
    /// Takes in a chunk.
    ///
    /// # Errors
    /// [`Damaged`] where it is not whole, or belongs to nothing.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let short = |expected| Damaged::Short { found: bytes.len(), expected };
        let head = ChunkHead::read(bytes).ok_or(short(size_of::<ChunkHead>()))?;
        self.longest_ns = self.longest_ns.max(head.longest_ns);
        if head.kind as usize == chunk::HOLDER {
            self.holders.push(Holder {
                tgid: head.tgid,
                epfd: head.epfd.cast_signed(),
                uid: head.uid,
                instance: (head.file, head.generation),
                entries: None,
            });
            return Ok(());
        }
        if !matches!(head.kind as usize, chunk::ENTRIES | chunk::END) {
            return Err(Damaged::Kind(head.kind));
        }
        let count = head.count as usize;
        let size = size_of::<ChunkHead>() + count * size_of::<Entry>();
        if count > CHUNK_ENTRIES {
            return Err(Damaged::Size { kind: head.kind, size: head.count });
        }
        let body = bytes.get(size_of::<ChunkHead>()..size).ok_or(short(size))?;
        let holder = self.holders.last_mut().filter(|holder| holder.instance.0 == head.file);
        let entries = holder.ok_or(Damaged::Kind(head.kind))?.entries.get_or_insert_default();
        let walk = if head.round == 2 { entries.second.get_or_insert_default() } else { &mut entries.first };
        // Each chunk is an entry's length: none is left out, and the room is taken at once.
        walk.extend(
            body.chunks_exact(size_of::<Entry>()).map(|bytes| Entry::read(bytes).unwrap_or_default()),
        );
        entries.lost |= head.lost != 0;
        Ok(())
    }

    /// Longest run of the program, but the last, ns.
    pub fn longest_ns(&self) -> u32 {
        self.longest_ns
    }

    /// Everything that was found.
    pub fn finish(self) -> Vec<Holder> {
        self.holders
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk_of(kind: usize, round: u32, fds: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [kind as u32, round, fds.len() as u32, 0, 7, 3, 0, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(64_u64.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        for fd in fds {
            bytes.extend([0; 16]);
            bytes.extend(fd.to_le_bytes());
            bytes.extend([0; 12]);
        }
        bytes.resize(size_of::<loopscope_probe::Chunk>(), 0);
        bytes
    }

    #[test]
    fn chunks_of_both_walks_are_put_together() {
        let mut assembly = Assembly::default();
        for (kind, round, fds) in [
            (chunk::HOLDER, 0, &[][..]),
            (chunk::ENTRIES, 0, &[1, 2]),
            (chunk::ENTRIES, 1, &[3]),
            (chunk::END, 2, &[1, 3]),
        ] {
            assembly.take(&chunk_of(kind, round, fds)).unwrap();
        }
        let holders = assembly.finish();
        let entries = holders[0].entries.as_ref().unwrap();
        let fds = |entries: &[Entry]| entries.iter().map(|entry| entry.fd).collect::<Vec<_>>();
        assert_eq!(fds(&entries.first), [1, 2, 3]);
        assert_eq!(fds(entries.second.as_ref().unwrap()), [1, 3]);
        assert_eq!((holders[0].tgid, holders[0].epfd, holders[0].instance), (7, 3, (64, 0)));
    }

    #[test]
    fn entries_without_a_holder_are_refused() {
        assert!(Assembly::default().take(&chunk_of(chunk::ENTRIES, 0, &[1])).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), kind in 0_u8..4) {
            let mut assembly = Assembly::default();
            let _ = assembly.take(&chunk_of(chunk::HOLDER, 0, &[]));
            let mut bytes = bytes;
            let _ = assembly.take(&bytes);
            if bytes.len() > 4 {
                bytes[0] = kind;
                bytes[1..4].fill(0);
                let _ = assembly.take(&bytes);
            }
        }
    }
}
