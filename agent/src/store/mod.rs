//! Recordings: what the kernel gave, kept in a file, and made into the same windows again.
//!
//! A recording holds the bytes of every reading of the probes, before they are decoded, and what /proc said; a replay
//! decodes them and applies them to the model as [`crate::reactor::Watch`] does. So every view works on it, and a model
//! that is mended later mends what old recordings say.
//!
//! # Format, version 1
//!
//! All numbers are little-endian. A file is a head, then frames:
//!
//! ```text
//! head   magic "loopscop", u32 version, u32 length and u32 CRC-32 of the JSON that follows (struct Head)
//! frame  u32 bytes of its body as stored, u32 bytes of it unpacked, u8 kind, u8 flags, u16 zero,
//!        u64 CLOCK_MONOTONIC ns, u32 CRC-32 of the 20 bytes before and of the stored body; then the body (LZ4 block)
//! ```
//!
//! A frame is written by one call. Where the writer was killed or the disk was full, the last frame may be missing, and
//! with it the frame of kind END; all before it is whole. A reading is stored as its difference from the one before
//! it, but for key readings, about one a minute, which stand for themselves: a replay can begin at any of them. Since
//! frames tell their length, kind and time, the index for seeking is made from their heads when the file is opened.
//!
//! Kernel addresses never come into a file: see `scrub`.

mod delta;
mod follower;
pub(crate) mod format;
mod output;
mod reader;
mod redact;
mod replay;
mod scrub;
mod varint;
mod writer;

pub use follower::{Follower, Step};
pub use format::{Damage, Filtered, Head, ProbeNote};
/// For the fuzz targets alone, which make recordings with the right checksums.
#[cfg(fuzzing)]
pub use format::{frame, head, layout};
pub use reader::Recording;
pub use replay::{Replay, origin};
pub use writer::{Limits, Recorder};

/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests;
