//! From type to type: modifiers, sizes, members and array elements.
//!
//! Every walk here ends, whatever the file says: chains are followed [`MAX_CHAIN`] steps, anonymous members
//! [`MAX_NESTING`] deep, and one question looks at [`MAX_MEMBERS`] members at most. Nothing here looks up a name of
//! a type; that is [`super::lookup`].

use super::error::BtfError;
use super::record::{Kind, Member, Record};
use super::{BitRange, Btf, Field};

/// Modifiers or array dimensions in a row; C compilers and kernels stay below ten.
const MAX_CHAIN: u32 = 64;
/// Anonymous structs and unions in each other; kernels stay below ten.
const MAX_NESTING: u32 = 32;
/// Members looked at for one question; the largest struct of a kernel has about a thousand.
pub(super) const MAX_MEMBERS: u32 = 1 << 16;
/// Bytes of a pointer: eBPF needs a 64-bit kernel.
const POINTER_BYTES: u32 = 8;

/// Something inside the struct that was asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// Its type, modifiers included.
    pub(super) type_id: u32,
    /// Bits from the start of that struct; saturates, and is refused then when it becomes a field.
    bits: u64,
    /// Bits that it is long, when it is a bitfield.
    bit_len: Option<u32>,
}

impl Spot {
    /// The struct itself.
    pub(super) fn start(type_id: u32) -> Spot {
        Spot { type_id, bits: 0, bit_len: None }
    }

    /// The same, seen from what `outer` is seen from, when `self` is seen from the start of `outer`.
    pub(super) fn within(self, outer: Spot) -> Spot {
        Spot { bits: outer.bits.saturating_add(self.bits), ..self }
    }
}

impl Btf {
    /// The type behind all modifiers.
    pub(super) fn strip(&self, type_id: u32) -> Result<Record<'_>, BtfError> {
        let mut record = self.record(type_id)?;
        for _ in 0..MAX_CHAIN {
            if !record.kind.is_modifier() {
                return Ok(record);
            }
            record = self.record(record.value)?;
        }
        Err(BtfError::TooDeep { what: "the modifiers", type_id, limit: MAX_CHAIN })
    }

    /// Bytes that a value of this type takes; `None` for what has no size (void, functions, forward
    /// declarations).
    pub(super) fn type_size(&self, type_id: u32) -> Result<Option<u32>, BtfError> {
        let mut record = self.strip(type_id)?;
        let mut count = 1_u64;
        for _ in 0..MAX_CHAIN {
            if let Some((element, length)) = record.array() {
                count = count.saturating_mul(length.into());
                record = self.strip(element)?;
                continue;
            }
            let unit = match record.kind {
                Kind::Ptr => POINTER_BYTES,
                Kind::Int | Kind::Float | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => {
                    record.value
                }
                _ => return Ok(None),
            };
            let bytes = count.saturating_mul(unit.into());
            return u32::try_from(bytes)
                .map(Some)
                .map_err(|_| BtfError::corrupt("size of an array", record.at, bytes, "less than 4 GiB"));
        }
        Err(BtfError::TooDeep { what: "the arrays of arrays", type_id, limit: MAX_CHAIN })
    }

    /// The member called `name` of the struct or union `container`, also from within its anonymous members, as
    /// seen from the start of `container`.
    /// `budget` is what is left of [`MAX_MEMBERS`].
    pub(super) fn member(
        &self,
        container: &Record<'_>,
        name: &str,
        budget: &mut u32,
    ) -> Result<Option<Spot>, BtfError> {
        self.member_at(container, name, budget, MAX_NESTING)
    }

    /// [`Btf::member`] with `depth` levels of anonymous members left.
    fn member_at(
        &self,
        container: &Record<'_>,
        name: &str,
        budget: &mut u32,
        depth: u32,
    ) -> Result<Option<Spot>, BtfError> {
        let too_deep = |what, limit| BtfError::TooDeep { what, type_id: container.id, limit };
        for member in container.members() {
            *budget = budget.checked_sub(1).ok_or_else(|| too_deep("the members", MAX_MEMBERS))?;
            let text = self.string(member.name);
            if text == name.as_bytes() {
                return self.spot(container, &member).map(Some);
            }
            if !text.is_empty() {
                continue;
            }
            let inner = self.strip(member.type_id)?;
            if !inner.kind.is_container() {
                continue;
            }
            let depth = depth.checked_sub(1).ok_or_else(|| too_deep("the anonymous members", MAX_NESTING))?;
            if let Some(found) = self.member_at(&inner, name, budget, depth)? {
                let outer = self.spot(container, &member)?;
                return Ok(Some(found.within(outer)));
            }
        }
        Ok(None)
    }

    /// Where `member` lies in `container`, checked against the sizes of both.
    fn spot(&self, container: &Record<'_>, member: &Member) -> Result<Spot, BtfError> {
        let inner = self.strip(member.type_id)?;
        let Some(size) = self.type_size(inner.id)? else {
            let what = "type of a member, which has no size";
            return Err(BtfError::corrupt(what, container.at, member.type_id, "a type with a size"));
        };
        let whole = u64::from(size) * 8;
        let (shift, bit_len) = bits_of(&inner, member);
        if let Some(bit_len) = bit_len {
            let scalar = inner.kind == Kind::Int || inner.kind.is_enum();
            if !scalar || bit_len == 0 || u64::from(bit_len) > whole {
                let expected = format!("an integer or enum, and 1 to {whole} bits");
                return Err(BtfError::corrupt("bitfield length", container.at, bit_len, expected));
            }
        }
        let bits = u64::from(member.bits) + u64::from(shift);
        let (end, limit) = (bits + bit_len.map_or(whole, u64::from), u64::from(container.value) * 8);
        if end > limit {
            let what = "last bit of a member";
            return Err(BtfError::corrupt(what, container.at, end, format!("at most {limit}")));
        }
        if bit_len.is_none() && bits % 8 != 0 {
            let what = "bit offset of a member";
            return Err(BtfError::corrupt(what, container.at, bits, "a multiple of 8"));
        }
        Ok(Spot { type_id: member.type_id, bits, bit_len })
    }

    /// The element `index` of the array at `spot`; the error says why there is none.
    pub(super) fn element(&self, spot: Spot, index: u32) -> Result<Result<Spot, String>, BtfError> {
        let record = self.strip(spot.type_id)?;
        let Some((element, count)) = record.array() else {
            return Ok(Err(format!("{}: only an array has an index", record.kind.noun())));
        };
        // A flexible array member has 0 elements by its type; where it starts is all that can be asked.
        if index >= count.max(1) {
            return Ok(Err(format!("an array of {count}: index {index} is outside")));
        }
        let Some(size) = self.type_size(element)? else {
            let what = "type of an array's elements, which has no size";
            return Err(BtfError::corrupt(what, record.at, element, "a type with a size"));
        };
        let shift = u64::from(index).saturating_mul(size.into()).saturating_mul(8);
        Ok(Ok(Spot { type_id: element, bits: spot.bits.saturating_add(shift), bit_len: None }))
    }

    /// The field at `spot` in whole bytes of storage.
    pub(super) fn finish(&self, spot: Spot) -> Result<Field, BtfError> {
        let record = self.strip(spot.type_id)?;
        let refuse = |what, found| Err(BtfError::corrupt(what, record.at, found, "at most 4294967295"));
        let (bytes, size, bits) = match spot.bit_len {
            None => (spot.bits / 8, self.type_size(spot.type_id)?.unwrap_or(0), None),
            Some(len) => {
                let Some((bytes, size)) = storage(spot.bits, len) else {
                    let what = "a bitfield is not within 8 aligned bytes, first bit";
                    return Err(BtfError::corrupt(what, record.at, spot.bits, format!("{len} bits there")));
                };
                let first = u32::try_from(spot.bits - bytes * 8).unwrap_or(u32::MAX);
                (bytes, size, Some(BitRange { first, len }))
            }
        };
        match u32::try_from(bytes) {
            Ok(offset) => Ok(Field { offset, size, bits }),
            Err(_) => refuse("byte offset of a field", bytes),
        }
    }
}

/// What a member says of itself, or else what its integer type says: bits to add to the offset, and the length of
/// the bitfield. Compilers before 2019 wrote the second form.
fn bits_of(inner: &Record<'_>, member: &Member) -> (u32, Option<u32>) {
    match (member.bit_len, inner.int_bits()) {
        (None, Some((first, len))) if first != 0 || u64::from(len) != u64::from(inner.value) * 8 => {
            (first, Some(len))
        }
        (bit_len, _) => (0, bit_len),
    }
}

/// The smallest aligned 1, 2, 4 or 8 bytes that hold `len` bits from bit `first` on: (byte offset, bytes).
fn storage(first: u64, len: u32) -> Option<(u64, u32)> {
    [1_u32, 2, 4, 8].into_iter().find_map(|size| {
        let offset = first / 8 / u64::from(size) * u64::from(size);
        let end = first.checked_add(len.into())?;
        (end <= (offset + u64::from(size)).saturating_mul(8)).then_some((offset, size))
    })
}
