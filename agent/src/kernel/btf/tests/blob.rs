//! Makes small BTF files, right ones and, on request, wrong ones.

use std::collections::HashMap;

pub(super) const VOID: u32 = 0;
pub(super) const INT: u32 = 1;
pub(super) const PTR: u32 = 2;
pub(super) const ARRAY: u32 = 3;
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const ENUM: u32 = 6;
pub(super) const FWD: u32 = 7;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const VOLATILE: u32 = 9;
pub(super) const CONST: u32 = 10;
pub(super) const RESTRICT: u32 = 11;
pub(super) const FUNC: u32 = 12;
pub(super) const FUNC_PROTO: u32 = 13;
pub(super) const VAR: u32 = 14;
pub(super) const DATASEC: u32 = 15;
pub(super) const FLOAT: u32 = 16;
pub(super) const DECL_TAG: u32 = 17;
pub(super) const TYPE_TAG: u32 = 18;
pub(super) const ENUM64: u32 = 19;

/// The kind flag of a type's info word.
pub(super) const FLAG: u32 = 1 << 31;

/// A file under construction. Each method that adds a type returns its id.
#[derive(Default)]
pub(super) struct Blob {
    types: Vec<u8>,
    count: u32,
    strings: Vec<u8>,
    known: HashMap<String, u32>,
}

impl Blob {
    /// The offset of `text` in the string section, where it is added when it is new.
    pub(super) fn name(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let next = self.strings.len() as u32;
        let offset = *self.known.entry(text.to_owned()).or_insert(next);
        if offset == next {
            self.strings.extend_from_slice(text.as_bytes());
            self.strings.push(0);
        }
        offset
    }

    /// The id that the next type will have.
    pub(super) fn next_id(&self) -> u32 {
        self.count + 1
    }

    /// Any type: `kind` with the list length and [`FLAG`] in `info`, and the words of the list.
    pub(super) fn add(&mut self, name: &str, kind: u32, info: u32, value: u32, tail: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, kind << 24 | info, value].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    /// An integer of `size` bytes that uses all of its bits.
    pub(super) fn int(&mut self, name: &str, size: u32) -> u32 {
        self.add(name, INT, 0, size, &[size * 8])
    }

    /// An integer of `size` bytes that uses `bits` of them from `first` on.
    pub(super) fn int_bits(&mut self, name: &str, size: u32, first: u32, bits: u32) -> u32 {
        self.add(name, INT, 0, size, &[first << 16 | bits])
    }

    /// A type that refers to `target`: pointer, typedef, qualifier, type tag or function.
    pub(super) fn refer(&mut self, kind: u32, name: &str, target: u32) -> u32 {
        self.add(name, kind, 0, target, &[])
    }

    /// An array of `count` elements.
    pub(super) fn array(&mut self, element: u32, count: u32) -> u32 {
        let index = if self.count == 0 { VOID } else { 1 };
        self.add("", ARRAY, 0, 0, &[element, index, count])
    }

    /// A struct with members (name, type, bits from its start).
    pub(super) fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.container(STRUCT, 0, name, size, members)
    }

    /// A union with members (name, type), all at its start.
    pub(super) fn union(&mut self, name: &str, size: u32, members: &[(&str, u32)]) -> u32 {
        let members: Vec<_> = members.iter().map(|(name, type_id)| (*name, *type_id, 0)).collect();
        self.container(UNION, 0, name, size, &members)
    }

    /// A struct or union; with [`FLAG`] the third part of a member holds length and offset.
    pub(super) fn container(
        &mut self,
        kind: u32,
        flag: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let mut tail = Vec::new();
        for (name, type_id, offset) in members {
            tail.extend([self.name(name), *type_id, *offset]);
        }
        self.add(name, kind, flag | members.len() as u32, size, &tail)
    }

    /// An enum with 32-bit values.
    pub(super) fn enumeration(&mut self, name: &str, flag: u32, values: &[(&str, u32)]) -> u32 {
        let mut tail = Vec::new();
        for (name, value) in values {
            tail.extend([self.name(name), *value]);
        }
        self.add(name, ENUM, flag | values.len() as u32, 4, &tail)
    }

    /// An enum with 64-bit values.
    pub(super) fn enum64(&mut self, name: &str, flag: u32, values: &[(&str, u64)]) -> u32 {
        let mut tail = Vec::new();
        for (name, value) in values {
            tail.extend([self.name(name), *value as u32, (*value >> 32) as u32]);
        }
        self.add(name, ENUM64, flag | values.len() as u32, 8, &tail)
    }

    /// A function with its prototype; returns the id of the function.
    pub(super) fn func(&mut self, name: &str, params: &[(&str, u32)]) -> u32 {
        let mut tail = Vec::new();
        for (name, type_id) in params {
            tail.extend([self.name(name), *type_id]);
        }
        let prototype = self.add("", FUNC_PROTO, params.len() as u32, VOID, &tail);
        self.refer(FUNC, name, prototype)
    }

    /// The file: header, types, strings.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.name("");
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        file(&[0x0001_eb9f, 24, 0, types, types, strings], &self.types, &self.strings)
    }
}

/// A file with that header.
pub(super) fn file(header: &[u32], types: &[u8], strings: &[u8]) -> Vec<u8> {
    let header = header.iter().flat_map(|word| word.to_le_bytes());
    header.chain(types.iter().copied()).chain(strings.iter().copied()).collect()
}

/// A file with every kind of type, every way to hold a bitfield, and names worth asking for.
pub(super) fn everything() -> Blob {
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    let byte = blob.int("char", 1);
    let void_ptr = blob.refer(PTR, "", VOID);
    let comm = blob.array(byte, 16);
    let node_id = blob.next_id();
    let node_ptr = node_id + 1;
    blob.structure("rb_node", 16, &[("rb_left", node_ptr, 0), ("rb_right", node_ptr, 64)]);
    blob.refer(PTR, "", node_id);
    let root = blob.structure("rb_root", 8, &[("rb_node", node_ptr, 0)]);
    let cached = blob.structure("rb_root_cached", 16, &[("rb_root", root, 0), ("leftmost", node_ptr, 64)]);
    let constant = blob.refer(CONST, "", cached);
    let volatile = blob.refer(VOLATILE, "", constant);
    let tagged = blob.refer(TYPE_TAG, "rcu", volatile);
    let restrict = blob.refer(RESTRICT, "", tagged);
    let tree = blob.refer(TYPEDEF, "tree_t", restrict);
    let either = blob.union("", 16, &[("rbn", node_id), ("tree", tree)]);
    let state = blob.enumeration("state", FLAG, &[("IDLE", 0), ("BAD", u32::MAX)]);
    let wide = blob.enum64("wide", 0, &[("HUGE", u64::MAX), ("SMALL", 1)]);
    blob.enumeration("", 0, &[("NAMELESS", 7)]);
    let three_bits = blob.int_bits("", 4, 2, 3);
    let old = blob.structure("old_bits", 8, &[("a", int, 0), ("b", three_bits, 32)]);
    let new_bits = [("x", int, 3 << 24), ("y", state, 5 << 24 | 3), ("z", int, 32)];
    let new = blob.container(STRUCT, FLAG, "new_bits", 8, &new_bits);
    let rows = blob.array(old, 3);
    let grid = blob.array(rows, 2);
    let flexible = blob.array(new, 0);
    let float = blob.add("double", FLOAT, 0, 8, &[]);
    blob.add("nowhere", FWD, FLAG, 0, &[]);
    let members = [
        ("", either, 0),
        ("comm", comm, 128),
        ("state", state, 256),
        ("wide", wide, 320),
        ("grid", grid, 384),
        ("data", void_ptr, 768),
        ("ratio", float, 832),
        ("tail", flexible, 896),
    ];
    let outer = blob.structure("outer", 112, &members);
    blob.refer(TYPEDEF, "outer_t", outer);
    blob.add("tag", DECL_TAG, 0, outer, &[u32::MAX]);
    blob.func("do_wait", &[("fd", int), ("data", void_ptr)]);
    blob.func("log", &[("text", void_ptr), ("", VOID)]);
    let variable = blob.add("jiffies", VAR, 0, int, &[1]);
    blob.add(".data", DATASEC, 1, 4, &[variable, 0, 4]);
    blob
}

/// Names and paths in [`everything`], and some that are not there.
pub(super) const QUESTIONS: [(&str, &str); 22] = [
    ("outer", "rbn.rb_left"),
    ("outer", "tree.rb_root.rb_node"),
    ("outer", "tree.leftmost"),
    ("outer", "comm"),
    ("outer", "comm[15]"),
    ("outer", "comm[16]"),
    ("outer", "state"),
    ("outer", "wide"),
    ("outer", "grid[1][2].b"),
    ("outer", "grid[1].b"),
    ("outer", "data"),
    ("outer", "data.more"),
    ("outer", "ratio"),
    ("outer", "tail[0].y"),
    ("outer", "absent"),
    ("outer_t", "comm[3]"),
    ("tree_t", "rb_root"),
    ("old_bits", "b"),
    ("new_bits", "x"),
    ("new_bits", "y"),
    ("rb_node", "rb_right"),
    ("nowhere", "x"),
];
