//! The parts of a recording as bytes, written and read; and in what ways a file may not be one. Does no I/O.

use std::{fmt, mem::offset_of};

use loopscope_probe::{ChunkHead, Counters, Ctl, Entry, Head as RecordHead, Loop, kind};
use serde::{Deserialize, Serialize};

use super::VERSION;

/// How a recording begins.
pub const MAGIC: [u8; 8] = *b"loopscop";
/// Bytes before the head's JSON.
pub const LEAD: usize = 20;
/// Bytes of a frame's head.
pub const FRAME_HEAD: usize = 24;
/// A head of more bytes is none.
const LONGEST_HEAD: usize = 1 << 20;
/// A frame that unpacks to more is refused.
pub const LONGEST_FRAME: usize = 256 << 20;

/// What a recording says of itself before anything else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// Version of loopscope that wrote it.
    pub agent: String,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine.
    pub arch: String,
    /// Processors.
    pub cpus: usize,
    /// Layout of the probes' records: see `layout`.
    pub layout: Vec<usize>,
    /// Wall clock when it was made, ns since 1970...
    pub wall_ns: u64,
    /// ...and CLOCK_MONOTONIC at the same moment, ns.
    pub monotonic_ns: u64,
    /// Names, paths and addresses are tokens.
    pub redacted: bool,
    /// The how-manieth file of a recording that was begun anew when it was full, from 0.
    pub part: u32,
    /// What is left out of each window.
    pub filtered: Filtered,
    /// The probes see some processes alone.
    pub narrowed: bool,
    /// The process that the probes belong to.
    pub pid: u32,
}

/// The filters that the probes do not apply, and what is said about them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filtered {
    /// Patterns of names.
    pub comms: Vec<String>,
    /// Paths of control groups of a v1 hierarchy.
    pub paths: Vec<String>,
    /// Notes for the report.
    pub notes: Vec<String>,
}

/// How the probes are attached, and what they measure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// Each probe.
    pub probes: Vec<ProbeNote>,
    /// Ready lists are measured.
    pub backlog: bool,
}

/// How a probe was attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeNote {
    /// Its name.
    pub name: String,
    /// The ways that were tried, each with why it failed.
    pub attempts: Vec<(String, Option<String>)>,
}

/// What frames hold.
pub mod frame {
    /// How the probes are attached: JSON of `Attached`.
    pub const PROBES: u8 = 1;
    /// A reading.
    pub const READING: u8 = 2;
    /// The window of a report begins: u64 wall clock ns.
    pub const BEGIN: u8 = 3;
    /// What /proc said of all processes that are known.
    pub const PROCESSES: u8 = 4;
    /// The recording was ended, rather than cut off.
    pub const END: u8 = 5;
    /// Interest sets: 1, and the chunks; or 0, and why they could not be read.
    pub const INTEREST: u8 = 6;
    /// What the kernel measured of the programs until the reading that follows: JSON of a list of `RunTime`.
    pub const RUN_TIMES: u8 = 7;
    /// Addresses of the listening sockets in several of the sets before it: process, descriptor there, address.
    pub const LISTENERS: u8 = 8;
    /// Flag of a reading: it needs no reading before it.
    pub const KEY: u8 = 1;
    /// Flag of a reading: all records were read, not only the ring buffer.
    pub const PASS: u8 = 2;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the body in the file.
    pub stored: u32,
    /// Bytes of the body unpacked.
    pub unpacked: u32,
    /// One of [`frame`].
    pub kind: u8,
    /// Flags of [`frame`].
    pub flags: u8,
    /// CLOCK_MONOTONIC, ns.
    pub monotonic_ns: u64,
    /// Of the head before it and the stored body.
    pub crc: u32,
}

impl FrameHead {
    fn unsigned(&self) -> [u8; FRAME_HEAD - 4] {
        let mut bytes = [0; FRAME_HEAD - 4];
        let fields =
            [&self.stored.to_le_bytes()[..], &self.unpacked.to_le_bytes(), &[self.kind, self.flags, 0, 0]];
        let all = fields.concat().into_iter().chain(self.monotonic_ns.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        bytes
    }

    /// The checksum that it should have with that body.
    pub fn checksum(&self, body: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.unsigned());
        hasher.update(body);
        hasher.finalize()
    }

    /// From bytes.
    pub fn read(bytes: &[u8; FRAME_HEAD]) -> FrameHead {
        let [a, b, c, d, e, f, g, h, kind, flags, _, _, rest @ ..] = *bytes;
        let [t0, t1, t2, t3, t4, t5, t6, t7, c0, c1, c2, c3] = rest;
        FrameHead {
            stored: u32::from_le_bytes([a, b, c, d]),
            unpacked: u32::from_le_bytes([e, f, g, h]),
            kind,
            flags,
            monotonic_ns: u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
        }
    }
}

/// The body of a frame at byte `at`, from what is stored of it.
///
/// # Errors
/// It is not what was written.
pub fn unpack(head: &FrameHead, stored: &[u8], at: u64) -> Result<Vec<u8>, Damage> {
    let damage = || Damage::Frame(at);
    let unpacked = usize::try_from(head.unpacked).map_err(|_| damage())?;
    // One byte of LZ4 gives 255 at most.
    let is_possible = u64::from(head.unpacked) <= 255 * u64::from(head.stored) + 64;
    if unpacked > LONGEST_FRAME || !is_possible || head.checksum(stored) != head.crc {
        return Err(damage());
    }
    let body = lz4_flex::block::decompress(stored, unpacked).map_err(|_| damage())?;
    if body.len() == unpacked { Ok(body) } else { Err(damage()) }
}

/// A whole frame, as it is written.
pub fn frame(kind: u8, flags: u8, monotonic_ns: u64, body: &[u8]) -> Option<Vec<u8>> {
    let stored = lz4_flex::block::compress(body);
    let mut head = FrameHead {
        stored: stored.len().try_into().ok()?,
        unpacked: body.len().try_into().ok()?,
        kind,
        flags,
        monotonic_ns,
        crc: 0,
    };
    head.crc = head.checksum(&stored);
    Some([&head.unsigned()[..], &head.crc.to_le_bytes(), &stored].concat())
}

/// A file's head, as it is written.
pub fn head(head: &Head) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(head).ok()?;
    let length = u32::try_from(json.len()).ok()?;
    let crc = crc32fast::hash(&json);
    Some([&MAGIC[..], &VERSION.to_le_bytes(), &length.to_le_bytes(), &crc.to_le_bytes(), &json].concat())
}

/// Reads the first [`LEAD`] bytes: how long the JSON is, and its checksum.
///
/// # Errors
/// They are not those of a recording that this version reads.
pub fn lead(bytes: &[u8]) -> Result<(usize, u32), Damage> {
    if bytes.is_empty() {
        return Err(Damage::Empty);
    }
    let begins = MAGIC.iter().zip(bytes).all(|(magic, byte)| magic == byte);
    if !begins {
        return Err(Damage::Foreign);
    }
    let number =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    let (Some(version), Some(length), Some(crc)) = (number(8), number(12), number(16)) else {
        return Err(Damage::Short);
    };
    if version > VERSION || version == 0 {
        return Err(Damage::Newer(version));
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_HEAD);
    Ok((length.ok_or(Damage::Head)?, crc))
}

/// Reads the head's JSON.
///
/// # Errors
/// It is not what was written, or the records are laid out otherwise than this version knows.
pub fn read_head(json: &[u8], crc: u32) -> Result<Head, Damage> {
    if crc32fast::hash(json) != crc {
        return Err(Damage::Head);
    }
    let head: Head = serde_json::from_slice(json).map_err(|_| Damage::Head)?;
    if head.layout != layout() {
        return Err(Damage::Layout(head.agent));
    }
    Ok(head)
}

/// The sizes and places by which the records' layout is told from another one.
pub fn layout() -> Vec<usize> {
    vec![
        size_of::<RecordHead>(),
        size_of::<Loop>(),
        size_of::<Ctl>(),
        size_of::<Counters>(),
        size_of::<ChunkHead>(),
        size_of::<Entry>(),
        kind::NAMES.len(),
        offset_of!(RecordHead, now_ns),
        offset_of!(RecordHead, wait),
        offset_of!(Loop, wait),
        offset_of!(Loop, events_per_wait),
        usize::from(cfg!(target_endian = "big")),
    ]
}

/// Why a file, or a part of it, cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It has no bytes.
    Empty,
    /// It does not begin as a recording does.
    Foreign,
    /// It was written by a newer version.
    Newer(u32),
    /// It ends within its head.
    Short,
    /// Its head is damaged.
    Head,
    /// The probes' records are laid out otherwise; the version of loopscope that wrote it.
    Layout(String),
    /// A frame is damaged; where, in bytes.
    Frame(u64),
    /// It has no reading.
    Nothing,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Empty => f.write_str("the file is empty; `loopscope record -o FILE` makes a recording"),
            Damage::Foreign => f.write_str("this is no recording of loopscope"),
            Damage::Newer(version) => write!(
                f,
                "this recording has format version {version}, and this loopscope reads up to {VERSION}; use a newer one"
            ),
            Damage::Short => {
                f.write_str("the file ends within the recording's head; nothing can be read of it")
            }
            Damage::Head => f.write_str("the recording's head is damaged; nothing can be read of it"),
            Damage::Layout(agent) => write!(
                f,
                "loopscope {agent} wrote this recording, whose records differ from those of {}; use that version",
                env!("CARGO_PKG_VERSION")
            ),
            Damage::Frame(at) => write!(f, "the recording is damaged at byte {at}"),
            Damage::Nothing => f.write_str("the recording ends before its first reading"),
        }
    }
}

impl std::error::Error for Damage {}
