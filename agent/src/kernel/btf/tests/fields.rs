//! Where fields lie, and what is said of those that do not exist.

use super::super::{BitRange, BtfError, Field};
use super::blob::{
    Blob, CONST, DECL_TAG, FLAG, PTR, RESTRICT, STRUCT, TYPE_TAG, TYPEDEF, VOID, VOLATILE, everything,
};
use super::{parsed, plain};

#[test]
fn a_member_of_nested_structs_is_found_by_its_path() {
    let btf = parsed(everything());
    assert_eq!(plain(btf.field("outer", "tree.leftmost")), (8, 8));
    assert_eq!(plain(btf.field("outer", "tree.rb_root.rb_node")), (0, 8));
    assert_eq!(plain(btf.field("outer", "tree.rb_root")), (0, 8));
    assert_eq!(plain(btf.field("rb_node", "rb_right")), (8, 8));
}

#[test]
fn members_of_anonymous_structs_and_unions_are_found_by_their_own_names() {
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    let pair = blob.structure("", 8, &[("low", int, 0), ("high", int, 32)]);
    let either = blob.union("", 8, &[("", pair), ("flat", int)]);
    let inner = blob.structure("", 12, &[("count", int, 0), ("", either, 32)]);
    blob.structure("s", 16, &[("first", int, 0), ("", inner, 32)]);
    let btf = parsed(blob);
    assert_eq!(plain(btf.field("s", "count")), (4, 4));
    assert_eq!(plain(btf.field("s", "flat")), (8, 4));
    assert_eq!(plain(btf.field("s", "low")), (8, 4));
    assert_eq!(plain(btf.field("s", "high")), (12, 4));
}

#[test]
fn a_typedef_name_stands_for_its_struct() {
    let btf = parsed(everything());
    assert_eq!(plain(btf.field("outer_t", "comm")), (16, 16));
    assert_eq!(plain(btf.field("tree_t", "leftmost")), (8, 8));
    assert_eq!(btf.size_of("outer_t").unwrap(), 112);
}

#[test]
fn every_modifier_is_looked_through() {
    for kind in [TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG, DECL_TAG] {
        let mut blob = Blob::default();
        let int = blob.int("int", 2);
        let inner = blob.structure("inner", 4, &[("a", int, 0), ("b", int, 16)]);
        let tail: &[u32] = if kind == DECL_TAG { &[u32::MAX] } else { &[] };
        let once = blob.add("m", kind, 0, inner, tail);
        let twice = blob.add("m2", kind, 0, once, tail);
        blob.structure("s", 8, &[("x", twice, 32)]);
        let btf = parsed(blob);
        assert_eq!(plain(btf.field("s", "x.b")), (6, 2), "kind {kind}");
        assert_eq!(plain(btf.field("s", "x")), (4, 4), "kind {kind}");
    }
}

#[test]
fn an_index_reaches_into_an_array_and_no_further() {
    let btf = parsed(everything());
    assert_eq!(plain(btf.field("outer", "comm[0]")), (16, 1));
    assert_eq!(plain(btf.field("outer", "comm[15]")), (31, 1));
    assert_eq!(plain(btf.field("outer", "grid")), (48, 48));
    assert_eq!(plain(btf.field("outer", "grid[1]")), (72, 24));
    assert_eq!(plain(btf.field("outer", "grid[1][2].a")), (88, 4));
    let error = btf.field("outer", "comm[16]").unwrap_err();
    assert_eq!(error.to_string(), "outer.comm[16] is an array of 16: index 16 is outside");
    assert!(error.is_absent());
    let error = btf.field("outer", "data[0]").unwrap_err();
    assert_eq!(error.to_string(), "outer.data[0] is a pointer: only an array has an index");
}

#[test]
fn a_flexible_array_has_a_start_and_no_size() {
    let btf = parsed(everything());
    assert_eq!(plain(btf.field("outer", "tail")), (112, 0));
    assert_eq!(plain(btf.field("outer", "tail[0]")), (112, 8));
    assert_eq!(plain(btf.field("outer", "tail[0].z")), (116, 4));
    assert!(btf.field("outer", "tail[1]").unwrap_err().is_absent());
}

#[test]
fn a_bitfield_of_the_newer_encoding_has_its_bits_from_the_member() {
    let btf = parsed(everything());
    let bits = |first, len| Some(BitRange { first, len });
    assert_eq!(btf.field("new_bits", "x").unwrap(), Field { offset: 0, size: 1, bits: bits(0, 3) });
    assert_eq!(btf.field("new_bits", "y").unwrap(), Field { offset: 0, size: 1, bits: bits(3, 5) });
    assert_eq!(plain(btf.field("new_bits", "z")), (4, 4));
    assert_eq!(btf.field("outer", "tail[0].y").unwrap(), Field { offset: 112, size: 1, bits: bits(3, 5) });
}

#[test]
fn a_bitfield_of_the_older_encoding_has_its_bits_from_the_integer() {
    let btf = parsed(everything());
    let bits = Some(BitRange { first: 2, len: 3 });
    assert_eq!(btf.field("old_bits", "b").unwrap(), Field { offset: 4, size: 1, bits });
    assert_eq!(btf.field("outer", "grid[0][1].b").unwrap(), Field { offset: 60, size: 1, bits });
    assert_eq!(plain(btf.field("old_bits", "a")), (0, 4));
}

#[test]
fn the_storage_of_a_bitfield_is_the_smallest_aligned_one_that_holds_it() {
    let mut blob = Blob::default();
    let long = blob.int("long", 8);
    let members = [
        ("a", long, 4 << 24 | 6),
        ("b", long, 9 << 24 | 20),
        ("c", long, 3 << 24 | 30),
        ("d", long, 40 << 24 | 64),
    ];
    blob.container(STRUCT, FLAG, "s", 16, &members);
    let btf = parsed(blob);
    let field = |name| btf.field("s", name).unwrap();
    let at = |offset, size, first, len| Field { offset, size, bits: Some(BitRange { first, len }) };
    assert_eq!(field("a"), at(0, 2, 6, 4));
    assert_eq!(field("b"), at(2, 2, 4, 9));
    assert_eq!(field("c"), at(0, 8, 30, 3));
    assert_eq!(field("d"), at(8, 8, 0, 40));
}

#[test]
fn a_path_stops_at_a_pointer_and_says_so() {
    let btf = parsed(everything());
    let error = btf.field("outer", "rbn.rb_left.rb_left").unwrap_err();
    assert!(matches!(&error, BtfError::Shape { path, .. } if path == "rbn.rb_left"), "{error:?}");
    assert!(error.to_string().contains("does not go through pointers"), "{error}");
    let error = btf.field("outer", "comm.x").unwrap_err();
    assert_eq!(error.to_string(), "outer.comm is an array, which has no members");
}

#[test]
fn what_is_missing_is_named_as_far_as_it_was_looked_for() {
    let btf = parsed(everything());
    let error = btf.field("epitem", "rbn").unwrap_err();
    assert!(matches!(&error, BtfError::Missing { name, path: None } if name == "epitem"), "{error:?}");
    assert!(error.is_absent());
    let error = btf.field("outer", "tree.gone.more").unwrap_err();
    assert_eq!(error.to_string(), "outer has no field tree.gone in this kernel's BTF");
    let error = btf.field("nowhere", "x").unwrap_err();
    assert!(matches!(error, BtfError::Missing { path: None, .. }), "a forward declaration is no struct");
    assert!(btf.field("int", "x").unwrap_err().is_absent());
    assert!(btf.field("state", "IDLE").unwrap_err().is_absent());
    assert!(btf.field("", "rbn").unwrap_err().is_absent());
}

#[test]
fn the_first_of_several_spellings_that_exists_is_taken() {
    let btf = parsed(everything());
    assert_eq!(plain(btf.field_any("outer", &["f_count", "comm", "state"])), (16, 16));
    assert_eq!(plain(btf.field_any("outer", &["comm.x", "state"])), (32, 4));
    let error = btf.field_any("outer", &["f_count", "f_ref"]).unwrap_err();
    assert_eq!(error.to_string(), "outer has no field f_count or f_ref in this kernel's BTF");
    assert!(matches!(btf.field_any("gone", &["a", "b"]), Err(BtfError::Missing { path: None, .. })));
    assert!(matches!(btf.field_any("outer", &["f_count", "comm.x"]), Err(BtfError::Shape { .. })));
    assert!(matches!(btf.field_any("outer", &["a..b", "comm"]), Err(BtfError::Path { .. })));
}

#[test]
fn of_structs_with_one_name_the_first_that_has_the_whole_path_answers() {
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    let one = blob.structure("", 8, &[("a", int, 0), ("b", int, 32)]);
    let two = blob.structure("", 8, &[("b", int, 0), ("c", int, 32)]);
    blob.structure("s", 8, &[("in", one, 0)]);
    blob.structure("s", 16, &[("in", two, 64), ("more", int, 0)]);
    let pointer = blob.refer(PTR, "", VOID);
    blob.structure("s", 24, &[("in", pointer, 128), ("last", int, 0)]);
    let btf = parsed(blob);
    assert_eq!(plain(btf.field("s", "in.b")), (4, 4), "both have it: the first");
    assert_eq!(plain(btf.field("s", "in.c")), (12, 4), "only the second has it");
    assert_eq!(plain(btf.field("s", "last")), (0, 4), "only the third has it");
    assert!(btf.field("s", "in.d").unwrap_err().is_absent());
    assert_eq!(btf.size_of("s").unwrap(), 8, "a size is that of the first");
}

#[test]
fn a_badly_written_path_is_refused_before_anything_is_looked_up() {
    let btf = parsed(everything());
    for path in
        ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a[-1]", "a[1", "a[1]b", "a]", "[0]", "a b"]
    {
        let error = btf.field("gone", path).unwrap_err();
        assert!(matches!(error, BtfError::Path { .. }), "{path:?}: {error:?}");
        assert!(!error.is_absent());
    }
    let error = btf.field("outer", "comm[4294967296]").unwrap_err();
    assert!(error.to_string().contains("does not fit into 32 bits"), "{error}");
}
