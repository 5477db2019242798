//! Reads the layout of the kernel's structs from its BTF, so that no offset is ever compiled in.
//!
//! The bytes of the file are kept as they are, with one number a type to find its record and two to find its
//! name: about 7 MB for a kernel whose BTF is 5.5 MB, read and checked in a few milliseconds. The file is not
//! trusted: it may be any file that a user named, so no length in it is believed and every walk is bounded.
//!
//! Only little-endian BTF of a whole kernel is read; split BTF (of modules) is not. Nothing here decides which
//! fields are needed, or what a missing one means.

mod error;
mod lookup;
mod names;
mod parse;
mod path;
mod record;
mod walk;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

pub use error::{BtfError, Place};

/// Bytes of the largest file that is read; kernels have 5 to 20 MB.
const MAX_BYTES: u64 = 256 << 20;

/// The BTF of one kernel, checked and ready to be asked.
pub struct Btf {
    bytes: Vec<u8>,
    types: Range<usize>,
    strings: Range<usize>,
    /// Offset in the type section of the type with id 1, 2, ...
    offsets: Vec<u32>,
    names: names::Names,
}

/// Where a field lies in its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the struct.
    pub offset: u32,
    /// Bytes that the field takes; 0 for a flexible array. For a bitfield: of the storage that holds it.
    pub size: u32,
    /// Which bits of the storage, when the field is a bitfield.
    pub bits: Option<BitRange>,
}

/// The bits of a bitfield in its storage: the smallest aligned 1, 2, 4 or 8 bytes that hold all of them, read as
/// one little-endian number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    /// The first bit, counted from the least significant one.
    pub first: u32,
    /// How many bits.
    pub len: u32,
}

/// A function of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Func {
    /// How many parameters it has, not counting `...`.
    pub params: usize,
    /// Whether `...` follows them.
    pub variadic: bool,
    /// Its type id, by which the kernel knows it when a program is attached.
    pub type_id: u32,
}

impl Btf {
    /// Reads and checks the BTF in the file `path`, for example `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    ///
    /// [`BtfError::Read`] when the file cannot be read, [`BtfError::InFile`] when it is not BTF, is larger than
    /// 256 MiB or contradicts itself.
    pub fn from_file(path: &Path) -> Result<Btf, BtfError> {
        let in_file = |error| BtfError::InFile { path: path.to_owned(), source: Box::new(error) };
        let bytes = read(path).map_err(|source| BtfError::Read { path: path.to_owned(), source })?;
        Btf::parse(bytes).map_err(in_file)
    }

    /// Checks `bytes` as the contents of a BTF file.
    ///
    /// # Errors
    ///
    /// Any but those about files and questions; the message says where the fault is.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, BtfError> {
        parse::parse(bytes)
    }

    /// How many types there are; their ids are 1 to this number.
    pub fn types(&self) -> usize {
        self.offsets.len()
    }

    /// The record of the type `id`; 0 is void.
    fn record(&self, id: u32) -> Result<record::Record<'_>, BtfError> {
        let Some(index) = id.checked_sub(1) else {
            return Ok(record::Record::void());
        };
        let Some(offset) = self.offsets.get(index as usize) else {
            let at = Place { byte: self.types.start, type_id: 0 };
            return Err(BtfError::corrupt("type id", at, id, format!("at most {}", self.offsets.len())));
        };
        let section = self.bytes.get(self.types.clone()).unwrap_or_default();
        record::Record::read(section, *offset as usize, self.types.start, id)
    }

    /// The name at `offset` of the string section; the scan has checked that there is one.
    fn string(&self, offset: u32) -> &[u8] {
        string(self.bytes.get(self.strings.clone()).unwrap_or_default(), offset)
    }
}

/// The string at `offset` in a string section, without its NUL; empty when there is none.
fn string(section: &[u8], offset: u32) -> &[u8] {
    let from = section.get(offset as usize..).unwrap_or_default();
    let end = from.iter().position(|byte| *byte == 0).unwrap_or_default();
    from.get(..end).unwrap_or_default()
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf").field("bytes", &self.bytes.len()).field("types", &self.types()).finish()
    }
}

/// The contents of `path`, but at most one byte more than is allowed: [`parse`] refuses those.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // A hint only, and a bounded one: the file may grow, shrink, or not be a file.
    let hint = file.metadata()?.len().min(MAX_BYTES);
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(usize::try_from(hint).unwrap_or(0).saturating_add(1)).is_err() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
