//! What the walk of interest sets sends. As in the crate's root: fixed widths, no hole.

/// Entries of an interest set that are sent at once; a power of two.
pub const CHUNK_ENTRIES: usize = 32;

/// One watched file (fs/eventpoll.c: `struct epitem`), in the order of file and descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Address of its `struct file`; never shown.
    pub file: u64,
    /// The user's data.
    pub data: u64,
    /// The descriptor under which it was added.
    pub fd: u32,
    /// EPOLLIN and the others, with EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE.
    pub events: u32,
    /// 1 where that descriptor of the table in whose name the set is read still means that file.
    pub behind: u32,
    /// Padding.
    pub _unused: u32,
}

/// What precedes the entries of a [`Chunk`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkHead {
    /// One of [`crate::chunk`].
    pub kind: u32,
    /// Which walk of the instance the entries are of: 2 for the one that is made where the first two differed, else lower.
    pub round: u32,
    /// How many entries follow.
    pub count: u32,
    /// 1 where the walk did not come to its end.
    pub lost: u32,
    /// Process in whose table the instance was found, as the host counts.
    pub tgid: u32,
    /// Its descriptor there.
    pub epfd: u32,
    /// User to whom its entries are counted.
    pub uid: u32,
    /// Longest run of the program in this pass up to the one before, ns.
    pub longest_ns: u32,
    /// As [`crate::Wait::waitable`].
    pub file: u64,
    /// As [`crate::Wait::generation`].
    pub generation: u64,
}

/// Entries of an interest set, as the walk sends them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Whose they are.
    pub head: ChunkHead,
    /// The first [`ChunkHead::count`] of them count.
    pub entries: [Entry; CHUNK_ENTRIES],
}

const _: () = assert!(size_of::<Entry>() == 32 && size_of::<ChunkHead>() == 48);
const _: () = assert!(size_of::<Chunk>() == size_of::<ChunkHead>() + CHUNK_ENTRIES * size_of::<Entry>());
