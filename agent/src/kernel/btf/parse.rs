//! From the bytes of a file to a checked table of types: header, sections, every record once.
//!
//! After [`parse`] every record is whole, every type id names a type, every name lies in the string section and
//! every function has a prototype, so that a lookup meets nothing worse than an absent name or a circle. Nothing
//! here answers a question, and no length from the file decides how much memory is asked for.

use std::ops::Range;

use super::error::{BtfError, Place};
use super::names::Names;
use super::record::{Kind, Record, words};
use super::{Btf, MAX_BYTES, string};

/// BTF's magic number, as a little-endian machine writes it.
const MAGIC: u16 = 0xeb9f;
/// Bytes of the header of version 1; a longer one has fields that are not needed here.
const HEADER_BYTES: u32 = 24;

/// Where the two sections lie in the file.
#[derive(Debug)]
struct Sections {
    types: Range<usize>,
    strings: Range<usize>,
}

/// Checks `bytes` and finds every type in them.
pub(super) fn parse(bytes: Vec<u8>) -> Result<Btf, BtfError> {
    let found = bytes.len() as u64;
    if found > MAX_BYTES {
        return Err(BtfError::TooBig { found, limit: MAX_BYTES });
    }
    let Sections { types, strings } = header(&bytes)?;
    check_strings(&bytes, &strings)?;
    let mut scan = Scan::new(&bytes, &types, &strings);
    scan.run()?;
    scan.check_types()?;
    let (offsets, names) = (scan.offsets, scan.names);
    Ok(Btf { bytes, types, strings, offsets, names })
}

/// Reads the header and places the sections.
fn header(bytes: &[u8]) -> Result<Sections, BtfError> {
    let corrupt = |what, byte, found: u32, expected: String| {
        Err(BtfError::corrupt(what, Place { byte, type_id: 0 }, found, expected))
    };
    let magic = bytes.first_chunk().map_or(0, |magic| u16::from_le_bytes(*magic));
    if magic == MAGIC.swap_bytes() {
        return Err(BtfError::BigEndian);
    }
    if magic != MAGIC {
        return Err(BtfError::NotBtf { found: magic });
    }
    let Some([first, header_bytes, type_offset, type_bytes, string_offset, string_bytes]) = words(bytes)
    else {
        return corrupt("the header is cut off", 0, bytes.len() as u32, format!("{HEADER_BYTES} bytes"));
    };
    let [_, _, version, flags] = first.to_le_bytes();
    if version != 1 {
        return corrupt("version", 2, version.into(), "1".into());
    }
    if flags != 0 {
        return corrupt("flags", 3, flags.into(), "0".into());
    }
    if header_bytes < HEADER_BYTES || u64::from(header_bytes) > bytes.len() as u64 {
        let expected = format!("{HEADER_BYTES} to {}", bytes.len());
        return corrupt("header length", 4, header_bytes, expected);
    }
    if type_offset % 4 != 0 {
        return corrupt("offset of the type section", 8, type_offset, "a multiple of 4".into());
    }
    let place = |offset: u32, length: u32, what, byte| {
        let start = u64::from(header_bytes) + u64::from(offset);
        let end = start + u64::from(length);
        if end > bytes.len() as u64 {
            let expected = format!("at most {}", bytes.len());
            return Err(BtfError::corrupt(what, Place { byte, type_id: 0 }, end, expected));
        }
        Ok(start as usize..end as usize)
    };
    let types = place(type_offset, type_bytes, "end of the type section, by the fields", 8)?;
    let strings = place(string_offset, string_bytes, "end of the string section, by the fields", 16)?;
    if types.start < strings.end && strings.start < types.end {
        let expected = format!("{} or later, or an end before the types", types.end);
        let start = u32::try_from(strings.start).unwrap_or(u32::MAX);
        return corrupt("the sections overlap: start of the strings, by the field", 16, start, expected);
    }
    Ok(Sections { types, strings })
}

/// Checks that the string section starts with the empty name, ends with the end of a name, and is UTF-8.
fn check_strings(bytes: &[u8], section: &Range<usize>) -> Result<(), BtfError> {
    let strings = bytes.get(section.clone()).unwrap_or_default();
    let corrupt = |what, offset: usize, found: Option<&u8>, expected: &str| {
        let at = Place { byte: section.start.saturating_add(offset), type_id: 0 };
        Err(BtfError::corrupt(what, at, found.copied().unwrap_or_default(), expected))
    };
    match (strings.first(), strings.last()) {
        (Some(0), Some(0)) => {}
        (Some(0), last) => {
            let what = "the last string has no end, last byte";
            return corrupt(what, strings.len().saturating_sub(1), last, "0");
        }
        (None, _) => return corrupt("the string section is empty, bytes", 0, None, "at least 1"),
        (first, _) => return corrupt("first byte of the string section", 0, first, "0, the empty name"),
    }
    match str::from_utf8(strings) {
        Ok(_) => Ok(()),
        Err(error) => {
            let offset = error.valid_up_to();
            corrupt("a string is not UTF-8, byte", offset, strings.get(offset), "a character")
        }
    }
}

/// One walk through the type section, and what it gathers.
struct Scan<'a> {
    section: &'a [u8],
    /// Bytes in the file before the section.
    base: usize,
    strings: &'a [u8],
    /// Offset in the section of the type with id 1, 2, ...
    offsets: Vec<u32>,
    names: Names,
    /// The highest type id that any record refers to, and the record.
    highest: (u32, Place),
    /// By id, from 1: whether the type is a function prototype.
    is_prototype: Vec<bool>,
    /// Functions that were read before their prototype: its id, and the function. Compilers write few or none.
    functions: Vec<(u32, Place)>,
}

impl<'a> Scan<'a> {
    /// Nothing read yet.
    fn new(bytes: &'a [u8], types: &Range<usize>, strings: &Range<usize>) -> Scan<'a> {
        Scan {
            section: bytes.get(types.clone()).unwrap_or_default(),
            base: types.start,
            strings: bytes.get(strings.clone()).unwrap_or_default(),
            offsets: Vec::new(),
            // A type takes 28 bytes on average, and three of five have a name that is looked up.
            names: Names::new(types.len() / 64),
            highest: (0, Place { byte: 0, type_id: 0 }),
            is_prototype: Vec::new(),
            functions: Vec::new(),
        }
    }

    /// Reads every record once; fails at the first that is cut off, of an unknown kind, or badly named.
    fn run(&mut self) -> Result<(), BtfError> {
        let limit = u32::try_from(self.strings.len()).unwrap_or(u32::MAX);
        let (mut offset, mut id) = (0, 1);
        while offset < self.section.len() {
            let record = Record::read(self.section, offset, self.base, id)?;
            let (mut last_name, mut last_type) = (0, 0);
            record.visit(|name| last_name = last_name.max(name), |other| last_type = last_type.max(other));
            if last_name >= limit {
                let expected = format!("less than {limit}");
                return Err(BtfError::corrupt("name offset", record.at, last_name, expected));
            }
            if last_type > self.highest.0 {
                self.highest = (last_type, record.at);
            }
            if record.kind == Kind::Func && !self.is_prototype(record.value) {
                self.functions.push((record.value, record.at));
            }
            self.is_prototype.push(record.kind == Kind::FuncProto);
            self.offsets.push(offset as u32);
            let named = record.kind.is_looked_up() && record.name != 0;
            self.names.push(id, named.then(|| string(self.strings, record.name)));
            offset += record.bytes();
            id += 1;
        }
        Ok(())
    }

    /// Checks what could not be checked before all types were known.
    fn check_types(&self) -> Result<(), BtfError> {
        let (last_type, at) = self.highest;
        if last_type as usize > self.offsets.len() {
            let expected = format!("at most {}", self.offsets.len());
            return Err(BtfError::corrupt("type id", at, last_type, expected));
        }
        match self.functions.iter().find(|(id, _)| !self.is_prototype(*id)) {
            Some((id, at)) => Err(BtfError::corrupt("type of a function", *at, *id, "the id of a prototype")),
            None => Ok(()),
        }
    }

    /// Whether the type `id` is a prototype, as far as types have been read.
    fn is_prototype(&self, id: u32) -> bool {
        let index = id.checked_sub(1).map(|index| index as usize);
        index.and_then(|index| self.is_prototype.get(index)).copied().unwrap_or(false)
    }
}
