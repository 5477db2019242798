//! Files that are wrong in one way each: what is said of them, and that every walk ends.

use std::io::Write;
use std::path::Path;

use super::super::{Btf, BtfError};
use super::blob::{
    ARRAY, Blob, CONST, ENUM, FLAG, FUNC, INT, PTR, STRUCT, TYPEDEF, UNION, VOID, everything, file,
};

/// What is said of a file.
fn refusal(bytes: Vec<u8>) -> String {
    Btf::parse(bytes).unwrap_err().to_string()
}

/// [`everything`] with one word of the header replaced.
fn with_header(word: usize, value: u32) -> Vec<u8> {
    let mut bytes = everything().finish();
    bytes[word * 4..word * 4 + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// What is said when the field is asked for.
fn answer(blob: Blob, name: &str, path: &str) -> String {
    let error = super::parsed(blob).field(name, path).unwrap_err();
    assert!(!error.is_absent(), "{error}");
    error.to_string()
}

#[test]
fn what_is_not_btf_is_told_by_its_first_bytes() {
    assert_eq!(refusal(vec![]), "not BTF: magic number at byte 0: found 0x0000, expected 0xeb9f");
    assert!(refusal(b"\x7fELF and more".to_vec()).contains("objcopy --dump-section .BTF=FILE"));
    assert!(refusal(b"\xeb\x9f\x01\x00".to_vec()).contains("big-endian"));
    assert!(matches!(Btf::parse(vec![0xeb, 0x9f]), Err(BtfError::BigEndian)));
    let cut = everything().finish()[..20].to_vec();
    assert_eq!(refusal(cut), "corrupt BTF: the header is cut off at byte 0: found 20, expected 24 bytes");
}

#[test]
fn an_unknown_version_or_flag_is_refused() {
    assert_eq!(refusal(with_header(0, 0x0002_eb9f)), "corrupt BTF: version at byte 2: found 2, expected 1");
    assert_eq!(refusal(with_header(0, 0x0101_eb9f)), "corrupt BTF: flags at byte 3: found 1, expected 0");
}

#[test]
fn a_longer_header_than_is_known_is_skipped() {
    let plain = everything().finish();
    let (types, strings) = (u32::from_le_bytes(*plain[12..].first_chunk().unwrap()), plain.len() as u32 - 24);
    let mut header = vec![0x0001_eb9f, 32, 0, types, types, strings - types];
    header.extend([0xdead_beef, 0xdead_beef]);
    let btf = Btf::parse(file(&header, &plain[24..], &[])).unwrap();
    assert_eq!(btf.field("outer", "comm").unwrap().offset, 16);
}

#[test]
fn a_header_that_points_outside_the_file_is_refused() {
    for length in [0, 23, 100_000, u32::MAX] {
        assert!(refusal(with_header(1, length)).contains("header length at byte 4"), "{length}");
    }
    assert!(refusal(with_header(2, u32::MAX - 3)).contains("end of the type section"));
    assert!(refusal(with_header(3, u32::MAX)).contains("end of the type section"));
    assert!(refusal(with_header(4, u32::MAX)).contains("end of the string section"));
    assert!(refusal(with_header(5, u32::MAX)).contains("end of the string section"));
    assert!(refusal(with_header(2, 2)).contains("expected a multiple of 4"));
}

#[test]
fn overlapping_sections_are_refused_and_swapped_ones_are_not() {
    assert!(refusal(with_header(4, 0)).contains("the sections overlap"));
    let types = [0_u32, STRUCT << 24, 4].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let btf = Btf::parse(file(&[0x0001_eb9f, 24, 4, 12, 0, 4], b"\0ab\0", &types)).unwrap();
    assert_eq!(btf.types(), 1);
}

#[test]
fn strings_must_begin_and_end_with_nul_and_be_utf_8() {
    let strings =
        |strings: &[u8]| refusal(file(&[0x0001_eb9f, 24, 0, 0, 0, strings.len() as u32], &[], strings));
    assert!(strings(b"").contains("the string section is empty"));
    assert!(strings(b"ab\0").contains("first byte of the string section at byte 24: found 97"));
    assert!(
        strings(b"\0ab").contains("the last string has no end, last byte at byte 26: found 98, expected 0")
    );
    assert!(strings(b"\0a\xff\0").contains("not UTF-8, byte at byte 26: found 255"));
    assert!(Btf::parse(file(&[0x0001_eb9f, 24, 0, 0, 0, 1], &[], b"\0")).is_ok());
}

#[test]
fn a_type_that_is_cut_off_is_refused() {
    let bytes = everything().finish();
    let (types, end) = (u32::from_le_bytes(*bytes[12..].first_chunk().unwrap()), bytes.len() as u32);
    for cut in [4, 8, 12, 16] {
        let mut bytes = with_header(3, types - cut);
        bytes[20..24].copy_from_slice(&(end - 24 - types).to_le_bytes());
        assert!(refusal(bytes).contains("the type section ends within"), "{cut}");
    }
    let mut blob = Blob::default();
    blob.add("s", STRUCT, 0xff_ffff, 4, &[]);
    assert!(refusal(blob.finish()).contains("found 0, expected 201326580 more bytes"));
}

#[test]
fn an_unknown_kind_is_named() {
    for kind in [0, 20, 31, 32, 127] {
        let mut blob = Blob::default();
        blob.int("int", 4);
        blob.add("new", kind, 0, 0, &[]);
        let error = Btf::parse(blob.finish()).unwrap_err();
        assert!(matches!(error, BtfError::UnknownKind { kind: found, .. } if found == kind), "{error:?}");
        let expected =
            format!("unknown BTF kind {kind} at byte 40 (type 2): expected 1 (INT) to 19 (ENUM64)");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn names_outside_the_string_section_are_refused() {
    let bad = 1 << 20;
    let refused = |make: &dyn Fn(&mut Blob) -> u32| {
        let mut blob = Blob::default();
        blob.int("int", 4);
        make(&mut blob);
        refusal(blob.finish())
    };
    let expected = "corrupt BTF: name offset at byte 40 (type 2): found 1048576, expected less than 5";
    assert_eq!(refused(&|blob| blob.add("", STRUCT, 1, 4, &[bad, 1, 0])), expected);
    assert_eq!(refused(&|blob| blob.add("", ENUM, 1, 4, &[bad, 1])), expected);
    assert_eq!(refused(&|blob| blob.add("", super::blob::ENUM64, 1, 8, &[bad, 1, 0])), expected);
    assert_eq!(refused(&|blob| blob.add("", super::blob::FUNC_PROTO, 1, 0, &[bad, 1])), expected);
    let mut bytes = everything().finish();
    bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refusal(bytes).contains("name offset at byte 24 (type 1): found 4294967295"));
}

#[test]
fn type_ids_that_no_type_has_are_refused() {
    let refused = |kind, info, value, tail: &[u32]| {
        let mut blob = Blob::default();
        blob.int("int", 4);
        blob.add("", kind, info, value, tail);
        let text = refusal(blob.finish());
        assert!(text.ends_with("at byte 40 (type 2): found 3, expected at most 2"), "kind {kind}: {text}");
    };
    for kind in [PTR, TYPEDEF, CONST, super::blob::VOLATILE, super::blob::RESTRICT, super::blob::TYPE_TAG] {
        refused(kind, 0, 3, &[]);
    }
    refused(super::blob::VAR, 0, 3, &[0]);
    refused(super::blob::DECL_TAG, 0, 3, &[0]);
    refused(STRUCT, 1, 4, &[0, 3, 0]);
    refused(UNION, 1, 4, &[0, 3, 0]);
    refused(ARRAY, 0, 0, &[3, 1, 1]);
    refused(ARRAY, 0, 0, &[1, 3, 1]);
    refused(super::blob::FUNC_PROTO, 0, 3, &[]);
    refused(super::blob::FUNC_PROTO, 1, 0, &[0, 3]);
    refused(super::blob::DATASEC, 1, 0, &[3, 0, 4]);
}

#[test]
fn a_function_without_a_prototype_is_refused() {
    for target in [VOID, 1] {
        let mut blob = Blob::default();
        blob.int("int", 4);
        blob.refer(FUNC, "f", target);
        let expected = format!(
            "corrupt BTF: type of a function at byte 40 (type 2): found {target}, expected the id of a prototype"
        );
        assert_eq!(refusal(blob.finish()), expected);
    }
}

#[test]
fn modifiers_in_a_circle_end_with_an_error() {
    let mut blob = Blob::default();
    blob.refer(TYPEDEF, "a", 2);
    blob.refer(CONST, "", 1);
    blob.structure("s", 8, &[("x", 1, 0)]);
    let btf = super::parsed(blob);
    let text = btf.field("a", "x").unwrap_err().to_string();
    assert_eq!(text, "corrupt BTF: the modifiers from type 1 do not end within 64 steps");
    assert!(btf.field("s", "x").unwrap_err().to_string().contains("the modifiers"));
    assert!(btf.size_of("a").unwrap_err().to_string().contains("the modifiers"));
}

#[test]
fn arrays_of_themselves_end_with_an_error() {
    let mut blob = Blob::default();
    blob.array(1, 2);
    blob.refer(TYPEDEF, "a", 1);
    blob.structure("s", 8, &[("x", 1, 0)]);
    let btf = super::parsed(blob);
    assert!(btf.size_of("a").unwrap_err().to_string().contains("arrays of arrays from type 2"));
    assert!(!btf.field("s", "x[0]").unwrap_err().is_absent());
}

#[test]
fn an_anonymous_struct_within_itself_ends_with_an_error() {
    let mut blob = Blob::default();
    blob.structure("s", 8, &[("", 1, 0)]);
    assert!(answer(blob, "s", "x").contains("the anonymous members from type 1 do not end within 32 steps"));
}

#[test]
fn anonymous_structs_that_double_at_each_level_end_with_an_error() {
    let mut blob = Blob::default();
    for next in 2..31 {
        blob.structure("", 8, &[("", next, 0), ("", next, 0)]);
    }
    blob.structure("", 8, &[]);
    blob.structure("s", 8, &[("", 1, 0)]);
    assert!(answer(blob, "s", "x").contains("the members from type"), "2 to the power of 29 paths");
}

#[test]
fn a_hundred_structs_of_one_name_share_one_budget() {
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    let members = vec![("a", int, 0); 1000];
    for _ in 0..100 {
        blob.structure("s", 4, &members);
    }
    assert!(answer(blob, "s", "x").contains("do not end within 65536 steps"));
}

#[test]
fn a_member_beyond_its_struct_is_refused() {
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    blob.structure("s", 4, &[("x", int, 8)]);
    let expected = "corrupt BTF: last bit of a member at byte 40 (type 2): found 40, expected at most 32";
    assert_eq!(answer(blob, "s", "x"), expected);
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    blob.structure("s", u32::MAX, &[("x", int, u32::MAX - 6)]);
    assert!(answer(blob, "s", "x").contains("bit offset of a member"));
}

#[test]
fn offsets_and_sizes_beyond_32_bits_are_refused() {
    let mut blob = Blob::default();
    let big = blob.structure("big", u32::MAX, &[]);
    let array = blob.array(big, 2);
    blob.structure("s", u32::MAX, &[("x", array, 0)]);
    assert!(answer(blob, "s", "x").contains("size of an array"));
    let mut blob = Blob::default();
    let byte = blob.int("char", 1);
    let last = blob.structure("", u32::MAX, &[("pad", byte, 0), ("x", byte, u32::MAX - 7)]);
    let mut inner = last;
    for _ in 0..9 {
        inner = blob.structure("", u32::MAX, &[("", inner, 0)]);
    }
    blob.structure("s", u32::MAX, &[("", inner, 0)]);
    assert_eq!(super::plain(super::parsed(blob).field("s", "x")), (u32::MAX / 8, 1));
    let mut blob = Blob::default();
    let flexible = blob.next_id() + 1;
    let byte = blob.int("char", 1);
    blob.array(flexible + 1, 0);
    let low = u32::MAX / 16 * 8;
    blob.structure("inner", u32::MAX, &[("next", flexible, low), ("x", byte, low)]);
    blob.structure("s", u32::MAX, &[("first", flexible, low)]);
    let path = format!("first[0].{}x", "next[0].".repeat(20));
    assert!(answer(blob, "s", &path).contains("byte offset of a field"));
}

#[test]
fn a_bitfield_that_its_type_cannot_hold_is_refused() {
    let with = |size: u32, first, bits| {
        let mut blob = Blob::default();
        let int = blob.int_bits("", size, first, bits);
        blob.structure("s", 64, &[("x", int, 0)]);
        answer(blob, "s", "x")
    };
    assert!(with(1, 0, 9).contains("bitfield length at byte 40 (type 2): found 9, expected an integer"));
    assert!(with(4, 0, 0).contains("bitfield length"));
    assert!(with(16, 3, 100).contains("a bitfield is not within 8 aligned bytes"));
    let mut blob = Blob::default();
    let void_ptr = blob.refer(PTR, "", VOID);
    blob.container(STRUCT, FLAG, "s", 8, &[("x", void_ptr, 3 << 24)]);
    assert!(answer(blob, "s", "x").contains("expected an integer or enum, and 1 to 64 bits"));
}

#[test]
fn a_member_of_a_type_without_size_is_refused() {
    let mut blob = Blob::default();
    blob.structure("s", 8, &[("x", VOID, 0)]);
    assert!(answer(blob, "s", "x").contains("type of a member, which has no size"));
    let mut blob = Blob::default();
    let fwd = blob.add("f", super::blob::FWD, 0, 0, &[]);
    let array = blob.array(fwd, 3);
    blob.structure("s", 8, &[("x", array, 0)]);
    assert!(answer(blob, "s", "x[0]").contains("which has no size"));
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_a_hint() {
    let text = Btf::from_file(Path::new("/nowhere/vmlinux")).unwrap_err().to_string();
    assert!(text.starts_with("cannot read /nowhere/vmlinux: "), "{text}");
    assert!(text.contains("--btf FILE") && text.contains("CONFIG_DEBUG_INFO_BTF"), "{text}");
    let text = Btf::from_file(Path::new("/")).unwrap_err().to_string();
    assert!(text.starts_with("cannot read /: "), "{text}");
}

#[test]
fn a_file_is_refused_by_its_contents_and_named() {
    let path = std::env::temp_dir().join(format!("loopscope-btf-{}", std::process::id()));
    let mut out = std::fs::File::create(&path).unwrap();
    out.write_all(b"hello").unwrap();
    let text = Btf::from_file(&path).unwrap_err().to_string();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("not BTF"), "{text}");
    // Sparse: nothing is on the disk.
    out.set_len((256 << 20) + 1).unwrap();
    let error = Btf::from_file(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(&error, BtfError::InFile { source, .. } if matches!(**source, BtfError::TooBig { .. })));
    assert!(error.to_string().ends_with("BTF of at least 268435457 bytes: expected at most 268435456"));
}

#[test]
fn an_integer_without_its_word_is_cut_off() {
    let mut blob = Blob::default();
    blob.add("int", INT, 0, 4, &[]);
    assert!(
        refusal(blob.finish())
            .contains("the type section ends within the list of a type at byte 24 (type 1)")
    );
}
