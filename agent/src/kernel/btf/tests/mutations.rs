//! Thousands of damaged files: each is refused or answers, and none panics or hangs.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::Btf;
use super::blob::{QUESTIONS, everything};

/// One way to damage a file; positions are taken modulo its length.
#[derive(Clone, Debug)]
enum Damage {
    Flip { bit: usize },
    Truncate { length: usize },
    Copy { from: usize, to: usize, length: usize },
    Insert { from: usize, to: usize, length: usize },
    Remove { from: usize, length: usize },
    Word { word: usize, value: u32 },
    Nudge { word: usize, by: i32 },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || any::<usize>();
    let length = || 1..64_usize;
    let value = prop_oneof![
        any::<u32>(),
        0..64_u32,
        Just(u32::MAX),
        Just(i32::MAX.cast_unsigned()),
        (0..20_u32, 0..6_u32).prop_map(|(kind, vlen)| kind << 24 | vlen),
        (0..20_u32, 0..6_u32).prop_map(|(kind, vlen)| 1 << 31 | kind << 24 | vlen),
    ];
    prop_oneof![
        4 => at().prop_map(|bit| Damage::Flip { bit }),
        1 => at().prop_map(|length| Damage::Truncate { length }),
        2 => (at(), at(), length()).prop_map(|(from, to, length)| Damage::Copy { from, to, length }),
        1 => (at(), at(), length()).prop_map(|(from, to, length)| Damage::Insert { from, to, length }),
        1 => (at(), length()).prop_map(|(from, length)| Damage::Remove { from, length }),
        6 => (at(), value).prop_map(|(word, value)| Damage::Word { word, value }),
        4 => (at(), -4..5_i32).prop_map(|(word, by)| Damage::Nudge { word, by }),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let size = bytes.len().max(1);
        let words = (bytes.len() / 4).max(1);
        match *self {
            Damage::Flip { bit } => {
                if let Some(byte) = bytes.get_mut(bit / 8 % size) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Damage::Truncate { length } => bytes.truncate(length % size),
            Damage::Copy { from, to, length } => {
                let piece: Vec<u8> = bytes.iter().skip(from % size).take(length).copied().collect();
                for (byte, new) in bytes.iter_mut().skip(to % size).zip(piece) {
                    *byte = new;
                }
            }
            Damage::Insert { from, to, length } => {
                let piece: Vec<u8> = bytes.iter().skip(from % size).take(length).copied().collect();
                let to = (to % size).min(bytes.len());
                bytes.splice(to..to, piece);
            }
            Damage::Remove { from, length } => {
                let from = (from % size).min(bytes.len());
                let end = (from + length).min(bytes.len());
                bytes.drain(from..end);
            }
            Damage::Word { word, value } => set_word(bytes, word % words, |_| value),
            Damage::Nudge { word, by } => set_word(bytes, word % words, |old| old.wrapping_add_signed(by)),
        }
    }
}

fn set_word(bytes: &mut [u8], word: usize, new: impl Fn(u32) -> u32) {
    if let Some(place) = bytes.get_mut(word * 4..).and_then(<[u8]>::first_chunk_mut) {
        *place = new(u32::from_le_bytes(*place)).to_le_bytes();
    }
}

/// Every question there is; an answer of any sort will do.
fn ask(btf: &Btf) {
    for (name, path) in QUESTIONS {
        if let Ok(field) = btf.field(name, path) {
            assert!(field.bits.is_none_or(|bits| bits.first + bits.len <= field.size * 8), "{field:?}");
        }
        let _ = btf.size_of(name);
    }
    let _ = btf.field_any("outer", &["absent", "comm"]);
    for name in ["do_wait", "log", "outer"] {
        let _ = btf.func(name);
    }
    for (name, value) in [("state", "BAD"), ("wide", "HUGE"), ("", "NAMELESS")] {
        let _ = btf.enumerator(name, value);
    }
}

#[test]
fn a_damaged_file_is_refused_or_answers_but_never_panics() {
    let whole = everything().finish();
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 8000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(damage(), 1..5), |damages| {
        let mut bytes = whole.clone();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        match Btf::parse(bytes) {
            Ok(btf) => {
                accepted.set(accepted.get() + 1);
                ask(&btf);
            }
            Err(error) => {
                refused.set(refused.get() + 1);
                assert!(!error.to_string().is_empty());
            }
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(accepted.get() > 1000 && refused.get() > 1000, "{accepted:?} {refused:?}: not both are tested");
}

#[test]
fn random_bytes_behind_a_right_header_never_panic() {
    let mut runner = TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
    let word = prop_oneof![0..8_u32, (1..20_u32, 0..4_u32).prop_map(|(kind, vlen)| kind << 24 | vlen)];
    let outcome = runner.run(&prop::collection::vec(word, 0..200), |words| {
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let strings = b"\0outer\0comm\0rb\0";
        let sizes = (types.len() as u32, strings.len() as u32);
        let header = [0x0001_eb9f, 24, 0, sizes.0, sizes.0, sizes.1];
        if let Ok(btf) = Btf::parse(super::blob::file(&header, &types, strings)) {
            ask(&btf);
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn the_questions_have_the_answers_that_make_them_worth_asking() {
    let btf = super::parsed(everything());
    let answered = QUESTIONS.iter().filter(|(name, path)| btf.field(name, path).is_ok()).count();
    assert_eq!(answered, QUESTIONS.len() - 5, "all but the five that ask for what is not there");
}
