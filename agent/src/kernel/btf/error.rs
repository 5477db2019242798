//! What can be wrong with a BTF file or with a question asked of it.
//!
//! Every message says what was looked at, where, what was found and what was expected; a hint how to mend it is
//! added where there is one. Nothing here reads BTF.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a BTF file could not be used, or why a question to it has no answer.
#[derive(Debug)]
pub enum BtfError {
    /// The file could not be opened or read.
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was read, but its contents are refused.
    InFile {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<BtfError>,
    },
    /// More bytes than any kernel's BTF has; nothing was kept of them.
    TooBig {
        /// Bytes found (at least).
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The first two bytes are not BTF's magic number.
    NotBtf {
        /// The first two bytes, little-endian.
        found: u16,
    },
    /// BTF of a big-endian machine; only little-endian BTF is read.
    BigEndian,
    /// The bytes contradict themselves or the format.
    Corrupt {
        /// The part that is wrong.
        what: &'static str,
        /// Where it is.
        at: Place,
        /// The value there.
        found: u64,
        /// What would have been right.
        expected: String,
    },
    /// A kind of type that this reader does not know, so that what follows it cannot be found either.
    UnknownKind {
        /// The kind's number.
        kind: u32,
        /// The type that has it.
        at: Place,
    },
    /// Types that refer to each other in a circle, or nest deeper than any C program does.
    TooDeep {
        /// What was being followed.
        what: &'static str,
        /// The type at which it was given up.
        type_id: u32,
        /// How far it was followed.
        limit: u32,
    },
    /// The kernel has no such struct, or the struct has no such field.
    Missing {
        /// The struct, union or typedef asked for.
        name: String,
        /// The path asked for; absent when the struct itself is missing.
        path: Option<String>,
    },
    /// The first part of the path exists, but is not something that the rest of the path can be applied to.
    Shape {
        /// The struct, union or typedef asked for.
        name: String,
        /// The part of the path that exists.
        path: String,
        /// What it is, and why that ends the path.
        why: String,
    },
    /// The path is not written as `a.b[3].c`.
    Path {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Where in a BTF file something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the file.
    pub byte: usize,
    /// The type whose record this is; 0 when it belongs to no type.
    pub type_id: u32,
}

impl BtfError {
    /// Whether the answer is "this kernel does not have it" (missing, or there in another shape), in contrast to
    /// a file that cannot be trusted or a path that is badly written.
    pub fn is_absent(&self) -> bool {
        matches!(self, BtfError::Missing { .. } | BtfError::Shape { .. })
    }

    /// A contradiction at `at`.
    pub(super) fn corrupt(
        what: &'static str,
        at: Place,
        found: impl Into<u64>,
        expected: impl Into<String>,
    ) -> BtfError {
        BtfError::Corrupt { what, at, found: found.into(), expected: expected.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.type_id {
            0 => write!(f, "at byte {}", self.byte),
            id => write!(f, "at byte {} (type {id})", self.byte),
        }
    }
}

impl fmt::Display for BtfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BtfError::Read { path, source } => {
                write!(f, "cannot read {}: {source}", path.display())?;
                if source.kind() == io::ErrorKind::NotFound {
                    f.write_str("; give --btf FILE, or boot a kernel built with CONFIG_DEBUG_INFO_BTF=y")?;
                }
                Ok(())
            }
            BtfError::InFile { path, source } => {
                write!(f, "cannot use {} as BTF: {source}", path.display())
            }
            BtfError::TooBig { found, limit } => {
                write!(f, "BTF of at least {found} bytes: expected at most {limit}")
            }
            BtfError::NotBtf { found } => not_btf(f, *found),
            BtfError::BigEndian => f.write_str(
                "BTF of a big-endian machine (magic number 0xeb9f, most significant byte first): \
                 only little-endian BTF is read",
            ),
            BtfError::Corrupt { what, at, found, expected } => {
                write!(f, "corrupt BTF: {what} {at}: found {found}, expected {expected}")
            }
            BtfError::UnknownKind { kind, at } => {
                write!(f, "unknown BTF kind {kind} {at}: expected 1 (INT) to 19 (ENUM64)")
            }
            BtfError::TooDeep { what, type_id, limit } => {
                write!(f, "corrupt BTF: {what} from type {type_id} do not end within {limit} steps")
            }
            BtfError::Missing { name, path: None } => {
                write!(f, "this kernel's BTF has no struct, union or typedef {name}")
            }
            BtfError::Missing { name, path: Some(path) } => {
                write!(f, "{name} has no field {path} in this kernel's BTF")
            }
            BtfError::Shape { name, path, why } => write!(f, "{name}.{path} is {why}"),
            BtfError::Path { path, why } => {
                write!(f, "field path {path:?}: {why} (expected names joined by dots, as in a.b[3].c)")
            }
        }
    }
}

/// The message for a wrong magic number; an ELF file is common enough to be named.
fn not_btf(f: &mut fmt::Formatter<'_>, found: u16) -> fmt::Result {
    write!(f, "not BTF: magic number at byte 0: found {found:#06x}, expected 0xeb9f")?;
    if found == u16::from_le_bytes([0x7f, b'E']) {
        f.write_str("; this is an ELF file: objcopy --dump-section .BTF=FILE extracts its BTF")?;
    }
    Ok(())
}

impl std::error::Error for BtfError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The messages of Read and InFile already hold that of their source; naming it again here would print
        // it twice in a chain.
        None
    }
}
