//! One type record of the type section: its kind, its fixed part and the list behind it.
//!
//! Decoding only: a record knows its own bytes, never another type. Whoever follows an id does so in
//! [`super::walk`].

use super::error::{BtfError, Place};

/// Bytes of the part that every record has.
const HEAD_BYTES: usize = 12;

/// The kinds of BTF types; the index in [`Kind::ALL`] is the number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    /// Every kind, at the index that is its number in the file.
    const ALL: [Kind; 20] = [
        Kind::Void,
        Kind::Int,
        Kind::Ptr,
        Kind::Array,
        Kind::Struct,
        Kind::Union,
        Kind::Enum,
        Kind::Fwd,
        Kind::Typedef,
        Kind::Volatile,
        Kind::Const,
        Kind::Restrict,
        Kind::Func,
        Kind::FuncProto,
        Kind::Var,
        Kind::Datasec,
        Kind::Float,
        Kind::DeclTag,
        Kind::TypeTag,
        Kind::Enum64,
    ];

    /// The kind with that number in a file; 0 (void) has no record and is none.
    fn from_number(number: u32) -> Option<Kind> {
        let kind = Kind::ALL.get(usize::try_from(number).ok()?).copied()?;
        (kind != Kind::Void).then_some(kind)
    }

    /// Whether a type of this kind has the layout of the type it refers to.
    pub(super) fn is_modifier(self) -> bool {
        matches!(
            self,
            Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::DeclTag | Kind::TypeTag
        )
    }

    /// Whether a type of this kind has members.
    pub(super) fn is_container(self) -> bool {
        matches!(self, Kind::Struct | Kind::Union)
    }

    /// Whether a type of this kind is a list of names with numbers.
    pub(super) fn is_enum(self) -> bool {
        matches!(self, Kind::Enum | Kind::Enum64)
    }

    /// Whether types of this kind are asked for by name.
    pub(super) fn is_looked_up(self) -> bool {
        self.is_container() || self.is_enum() || matches!(self, Kind::Typedef | Kind::Func)
    }

    /// Whether the third word of a record of this kind is a type id (otherwise it is a size, or unused).
    fn refers(self) -> bool {
        self.is_modifier() || matches!(self, Kind::Ptr | Kind::Func | Kind::FuncProto | Kind::Var)
    }

    /// Bytes of what follows the fixed part.
    fn tail_bytes(self, vlen: u32) -> u64 {
        let vlen = u64::from(vlen);
        match self {
            Kind::Int | Kind::Var | Kind::DeclTag => 4,
            Kind::Array => 12,
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => 12 * vlen,
            Kind::Enum | Kind::FuncProto => 8 * vlen,
            _ => 0,
        }
    }

    /// The kind as messages call it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Kind::Void => "void",
            Kind::Int => "an integer",
            Kind::Ptr => "a pointer",
            Kind::Array => "an array",
            Kind::Struct => "a struct",
            Kind::Union => "a union",
            Kind::Enum | Kind::Enum64 => "an enum",
            Kind::Fwd => "a struct or union without a definition",
            Kind::Float => "a floating-point number",
            Kind::Func | Kind::FuncProto => "a function",
            Kind::Var | Kind::Datasec => "a variable",
            _ => "a modifier",
        }
    }
}

/// One decoded type; `tail` is the list behind the fixed part, whole and of the right length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) id: u32,
    pub(super) at: Place,
    pub(super) name: u32,
    pub(super) kind: Kind,
    /// Struct and union: member offsets hold a bitfield size. Enum: the values are signed.
    pub(super) flag: bool,
    /// Size in bytes or type id, as the kind has it.
    pub(super) value: u32,
    tail: &'a [u8],
}

/// A member of a struct or union, as stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name: u32,
    pub(super) type_id: u32,
    /// Bits from the start of the struct.
    pub(super) bits: u32,
    /// Bits that it is long, when the member itself says so.
    pub(super) bit_len: Option<u32>,
}

impl<'a> Record<'a> {
    /// What type id 0 stands for.
    pub(super) fn void() -> Record<'a> {
        let at = Place { byte: 0, type_id: 0 };
        Record { id: 0, at, name: 0, kind: Kind::Void, flag: false, value: 0, tail: &[] }
    }

    /// The record of type `id` at `offset` in the type section, which starts `base` bytes into the file.
    #[inline]
    pub(super) fn read(section: &'a [u8], offset: usize, base: usize, id: u32) -> Result<Self, BtfError> {
        let at = Place { byte: base.saturating_add(offset), type_id: id };
        let bytes = section.get(offset..).unwrap_or_default();
        let Some([name, info, value]) = words(bytes) else {
            let what = "the type section ends within a type";
            return Err(BtfError::corrupt(what, at, bytes.len() as u64, "12 more bytes"));
        };
        // Older kernels have 16 bits of length and 5 of kind, and zeroes in the bits that have joined them since.
        let (vlen, kind) = (info & 0xff_ffff, (info >> 24) & 0x7f);
        let Some(kind) = Kind::from_number(kind) else {
            return Err(BtfError::UnknownKind { kind, at });
        };
        let rest = bytes.get(HEAD_BYTES..).unwrap_or_default();
        let length = kind.tail_bytes(vlen);
        let tail = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or_else(|| {
            let what = "the type section ends within the list of a type";
            BtfError::corrupt(what, at, rest.len() as u64, format!("{length} more bytes"))
        })?;
        Ok(Record { id, at, name, kind, flag: info >> 31 == 1, value, tail })
    }

    /// Bytes that the record takes.
    pub(super) fn bytes(&self) -> usize {
        HEAD_BYTES + self.tail.len()
    }

    /// The members of a struct or union.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> + use<'a> {
        let flag = self.flag;
        groups(self.tail).map(move |[name, type_id, offset]| {
            let (bits, bit_len) = if flag { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            Member { name, type_id, bits, bit_len: (bit_len > 0).then_some(bit_len) }
        })
    }

    /// The names of an enum with their values; a value is as wide as it needs to be to keep its sign.
    pub(super) fn enumerators(&self) -> impl Iterator<Item = (u32, i128)> + use<'a> {
        let (signed, wide) = (self.flag, self.kind == Kind::Enum64);
        let narrow_tail = if wide { &[] } else { self.tail };
        let wide_tail = if wide { self.tail } else { &[] };
        let narrow = groups(narrow_tail).map(move |[name, value]| {
            (name, if signed { i128::from(value.cast_signed()) } else { i128::from(value) })
        });
        let wide = groups(wide_tail).map(move |[name, low, high]| {
            let value = u64::from(high) << 32 | u64::from(low);
            (name, if signed { i128::from(value.cast_signed()) } else { i128::from(value) })
        });
        narrow.chain(wide)
    }

    /// The parameters of a function prototype as (name, type).
    pub(super) fn params(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        groups(self.tail).map(|[name, type_id]| (name, type_id))
    }

    /// Type and number of the elements of an array.
    pub(super) fn array(&self) -> Option<(u32, u32)> {
        let [element, _index, count] = words(self.tail)?;
        (self.kind == Kind::Array).then_some((element, count))
    }

    /// First bit and number of bits of an integer within its `value` bytes.
    pub(super) fn int_bits(&self) -> Option<(u32, u32)> {
        let [encoding] = words(self.tail)?;
        (self.kind == Kind::Int).then_some(((encoding >> 16) & 0xff, encoding & 0xff))
    }

    /// Calls `name` with every string offset and `refer` with every type id that the record holds.
    #[inline]
    pub(super) fn visit(&self, mut name: impl FnMut(u32), mut refer: impl FnMut(u32)) {
        name(self.name);
        if self.kind.refers() {
            refer(self.value);
        }
        match self.kind {
            Kind::Struct | Kind::Union => self.members().for_each(|member| {
                name(member.name);
                refer(member.type_id);
            }),
            Kind::FuncProto => self.params().for_each(|(text, type_id)| {
                name(text);
                refer(type_id);
            }),
            Kind::Enum | Kind::Enum64 => self.enumerators().for_each(|(text, _)| name(text)),
            Kind::Datasec => groups(self.tail).for_each(|[type_id, _, _]| refer(type_id)),
            Kind::Array => groups(self.tail).for_each(|[element, index, _]| {
                refer(element);
                refer(index);
            }),
            _ => {}
        }
    }
}

/// The first `N` little-endian words of `bytes`, when there are so many.
pub(super) fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let (words, _) = bytes.as_chunks::<4>();
    words.first_chunk::<N>().map(|words| words.map(u32::from_le_bytes))
}

/// `bytes` as groups of `N` little-endian words.
fn groups<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u32; N]> + use<'_, N> {
    let (words, _) = bytes.as_chunks::<4>();
    let (groups, _) = words.as_chunks::<N>();
    groups.iter().map(|group| group.map(u32::from_le_bytes))
}
