//! Which types may have a given name: chains of type ids, one for each value of a hash.
//!
//! It holds numbers only (two words a type), because a map of names costs several times the file. A chain mixes
//! names and kinds: whoever walks it must compare both.

/// Chains of type ids by the hash of the type's name.
#[derive(Debug)]
pub(super) struct Names {
    /// Last id of each chain, 0 for none; the length is a power of two.
    heads: Vec<u32>,
    /// By id: the one before it in the same chain, 0 at the end.
    before: Vec<u32>,
}

impl Names {
    /// A table with at least `chains` chains, and none of the types in it.
    pub(super) fn new(chains: usize) -> Names {
        Names { heads: vec![0; chains.next_power_of_two()], before: vec![0] }
    }

    /// Adds the next type, which has the id `id`, to the chain of `name`, or to none.
    pub(super) fn push(&mut self, id: u32, name: Option<&[u8]>) {
        let chain = name.map(|name| self.chain(name));
        let head = chain.and_then(|chain| self.heads.get_mut(chain));
        self.before.push(head.map_or(0, |head| std::mem::replace(head, id)));
    }

    /// The ids that may have `name`, the last one added first.
    pub(super) fn candidates(&self, name: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let some = |id: Option<&u32>| id.copied().filter(|id| *id != 0);
        let last = some(self.heads.get(self.chain(name)));
        std::iter::successors(last, move |id| some(self.before.get(*id as usize)))
    }

    /// The chain of `name`.
    fn chain(&self, name: &[u8]) -> usize {
        hash(name) as usize & self.heads.len().wrapping_sub(1)
    }
}

/// Eight bytes at a time, because the names of one kernel are 1.5 MB.
fn hash(name: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (chunks, rest) = name.as_chunks::<8>();
    let tail = rest.iter().fold(name.len() as u64, |tail, byte| tail << 8 | u64::from(*byte));
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(ODD).rotate_left(29);
    let hash = chunks.iter().fold(ODD, |hash, chunk| mix(hash, u64::from_le_bytes(*chunk)));
    let hash = mix(hash, tail);
    hash ^ hash >> 32
}
