//! Sizes, functions and enumerators by name.

use super::super::{Btf, BtfError};
use super::blob::{Blob, ENUM64, FLAG, FUNC_PROTO, FWD, TYPEDEF, VOID, everything};
use super::parsed;

#[test]
fn sizes_are_those_of_structs_unions_and_typedefs() {
    let btf = parsed(everything());
    assert_eq!(btf.size_of("outer").unwrap(), 112);
    assert_eq!(btf.size_of("tree_t").unwrap(), 16);
    assert!(matches!(btf.size_of("nowhere"), Err(BtfError::Missing { path: None, .. })));
    assert!(matches!(btf.size_of("do_wait"), Err(BtfError::Missing { .. })), "a function has no size");
}

#[test]
fn a_struct_is_preferred_to_a_typedef_of_the_same_name() {
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    blob.refer(TYPEDEF, "both", int);
    blob.add("both", FWD, 0, 0, &[]);
    blob.structure("both", 8, &[("a", int, 32)]);
    let btf = parsed(blob);
    assert_eq!(btf.size_of("both").unwrap(), 8);
    assert_eq!(btf.field("both", "a").unwrap().offset, 4);
}

#[test]
fn a_function_has_as_many_parameters_as_its_prototype() {
    let btf = parsed(everything());
    let wait = btf.func("do_wait").unwrap();
    assert_eq!((wait.params, wait.variadic), (2, false));
    let log = btf.func("log").unwrap();
    assert_eq!((log.params, log.variadic), (1, true));
    assert!(wait.type_id > 0 && wait.type_id < log.type_id);
    assert_eq!(btf.func("outer"), None, "a struct is no function");
    assert_eq!(btf.func("gone"), None);
    assert_eq!(btf.func(""), None);
}

#[test]
fn a_prototype_may_come_after_its_function() {
    let mut blob = Blob::default();
    let prototype = blob.next_id() + 1;
    blob.refer(super::blob::FUNC, "early", prototype);
    blob.add("", FUNC_PROTO, 0, VOID, &[]);
    assert_eq!(parsed(blob).func("early").unwrap().params, 0);
}

#[test]
fn enumerators_keep_their_sign_and_width() {
    let mut blob = everything();
    blob.enumeration("unsigned", 0, &[("TOP", u32::MAX)]);
    blob.enum64("signed_wide", FLAG, &[("MINUS", (-2_i64).cast_unsigned()), ("HIGH", 1 << 40)]);
    let btf = parsed(blob);
    assert_eq!(btf.enumerator("state", "IDLE"), Some(0));
    assert_eq!(btf.enumerator("state", "BAD"), Some(-1));
    assert_eq!(btf.enumerator("unsigned", "TOP"), Some(0xffff_ffff));
    assert_eq!(btf.enumerator("wide", "HUGE"), Some(i128::from(u64::MAX)));
    assert_eq!(btf.enumerator("signed_wide", "MINUS"), Some(-2));
    assert_eq!(btf.enumerator("signed_wide", "HIGH"), Some(1 << 40));
    assert_eq!(btf.enumerator("state", "HUGE"), None);
    assert_eq!(btf.enumerator("gone", "IDLE"), None);
}

#[test]
fn an_enum_without_a_name_is_asked_for_by_the_empty_name() {
    let btf = parsed(everything());
    assert_eq!(btf.enumerator("", "NAMELESS"), Some(7));
    assert_eq!(btf.enumerator("", "IDLE"), None, "that one is in an enum with a name");
}

#[test]
fn of_enums_with_one_name_the_first_that_has_the_enumerator_answers() {
    let mut blob = Blob::default();
    blob.enumeration("e", 0, &[("A", 1)]);
    blob.enumeration("e", 0, &[("A", 2), ("B", 3)]);
    blob.add("e", ENUM64, 0, 8, &[]);
    let btf = parsed(blob);
    assert_eq!(btf.enumerator("e", "A"), Some(1));
    assert_eq!(btf.enumerator("e", "B"), Some(3));
}

#[test]
fn a_name_may_be_the_end_of_another_in_the_string_section() {
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    let suffix = blob.name("long_name") + 5;
    let member = blob.name("a");
    let mut bytes = {
        blob.add("", super::blob::STRUCT, 1, 4, &[member, int, 0]);
        blob.finish()
    };
    // The struct is the second type: 24 bytes of header and 16 of the integer before it.
    bytes[40..44].copy_from_slice(&suffix.to_le_bytes());
    let btf = Btf::parse(bytes).unwrap();
    assert_eq!(btf.size_of("name").unwrap(), 4);
    assert_eq!(btf.field("name", "a").unwrap().offset, 0);
}

#[test]
fn a_thousand_names_are_each_found_and_nothing_else_is() {
    let mut blob = Blob::default();
    let int = blob.int("int", 4);
    for number in 0..1000 {
        blob.structure(&format!("name_{number}"), 4 + number, &[("a", int, 0)]);
    }
    let btf = parsed(blob);
    for number in 0..1000 {
        assert_eq!(btf.size_of(&format!("name_{number}")).unwrap(), 4 + number);
    }
    assert!(btf.size_of("name_1000").is_err());
    assert!(btf.size_of("name_").is_err());
}
