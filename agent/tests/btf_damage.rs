//! The BTF reader on damaged copies of the running kernel's BTF, and on small files made from pieces of it: each
//! is refused or answers, and none panics or hangs.
//!
//! Without the file there is nothing to damage: a failure in CI, a printed reason elsewhere.
#![cfg(test)]

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;

use loopscope::kernel::btf::Btf;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Where the kernel shows its BTF.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const QUESTIONS: [(&str, &str); 12] = [
    ("eventpoll", "rbr.rb_root.rb_node"),
    ("eventpoll", "wq.lock"),
    ("epitem", "rbn.rb_left"),
    ("epitem", "ffd.fd"),
    ("task_struct", "comm[3]"),
    ("task_struct", "sched_remote_wakeup"),
    ("task_struct", "se.avg.load_sum"),
    ("files_struct", "fd_array[1]"),
    ("file", "f_path.dentry"),
    ("pt_regs", "ax"),
    ("sk_buff", "pkt_type"),
    ("pid_t", "x"),
];

/// Asks everything; an answer of any sort will do.
fn ask(btf: &Btf) {
    for (name, path) in QUESTIONS {
        let _ = btf.field(name, path);
        let _ = btf.size_of(name);
    }
    let _ = btf.func("do_epoll_wait");
    let _ = btf.enumerator("pid_type", "PIDTYPE_TGID");
}

/// Ends a test that cannot run: loudly in CI, with the reason elsewhere.
fn cannot_run(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must be able to run this test: {reason}");
    eprintln!("not run: {reason}");
}

/// The kernel's BTF as bytes, or nothing and the reason.
fn vmlinux() -> Option<Vec<u8>> {
    let bytes = std::fs::read(Path::new(VMLINUX));
    bytes.map_err(|error| cannot_run(&format!("{VMLINUX}: {error}"))).ok()
}

/// The little-endian word at `at`.
fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize
}

/// Where the records of the file's type section are.
fn records(file: &[u8]) -> Vec<Range<usize>> {
    let mut at = word(file, 4) + word(file, 8);
    let end = at + word(file, 12);
    let mut records = Vec::new();
    while at < end {
        let info = word(file, at + 4);
        let length = info & 0xff_ffff;
        let tail = match info >> 24 & 0x7f {
            1 | 14 | 17 => 4,
            3 => 12,
            4 | 5 | 15 | 19 => 12 * length,
            6 | 13 => 8 * length,
            _ => 0,
        };
        records.push(at..at + 12 + tail);
        at += 12 + tail;
    }
    records
}

#[test]
fn a_damaged_vmlinux_is_refused_or_answers_but_never_panics() {
    let Some(whole) = vmlinux() else { return };
    let strings = &whole[word(&whole, 4) + word(&whole, 16)..];
    let asked = |at: &Range<usize>| {
        let name = strings[word(&whole, at.start)..].split(|byte| *byte == 0).next();
        QUESTIONS.iter().any(|(asked, _)| name == Some(asked.as_bytes()))
    };
    // The structs that the questions are about: most damage goes there, where it changes answers.
    let targets: Vec<usize> = records(&whole).into_iter().filter(asked).flatten().collect();
    let index = any::<prop::sample::Index>;
    let place = prop_oneof![
        1 => index().prop_map(|at| at.index(whole.len() - 64)),
        4 => index().prop_map(|at| targets[at.index(targets.len())]),
    ];
    let value = prop_oneof![any::<u32>(), 0..1_u32 << 17, 0..256_u32];
    let damage = (place, 0..6_u8, value, index().prop_map(|at| at.index(whole.len() - 64)));
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(damage, 1..3), |damages| {
        let mut bytes = whole.clone();
        for (at, how, value, other) in damages {
            if at + 64 > bytes.len() || other + 64 > bytes.len() {
                continue;
            }
            match how {
                0 => bytes[at] ^= 1 << (value % 8),
                1 => bytes[at / 4 * 4..][..4].copy_from_slice(&value.to_le_bytes()),
                2 => bytes.copy_within(other..other + 64, at),
                3 => bytes.copy_within(other / 4 * 4..other / 4 * 4 + 12, at / 4 * 4),
                4 if value % 4 == 0 => bytes[at % 24] = value.to_le_bytes()[1],
                5 if value % 8 == 0 => bytes.truncate(at.max(128)),
                _ => bytes[at / 4 * 4] = bytes[at / 4 * 4].wrapping_add(1),
            }
        }
        match Btf::parse(bytes) {
            Ok(btf) => {
                accepted.set(accepted.get() + 1);
                ask(&btf);
            }
            Err(_) => refused.set(refused.get() + 1),
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(accepted.get() > 10 && refused.get() > 10, "{accepted:?} {refused:?}: not both are tested");
}

/// Ids and names of the files made of pieces are below this, so that the pieces refer to each other.
const LOW: u32 = 16;

/// `record` with every number that may be an id, a name or a size made small; infos and bit lengths stay.
fn small(record: &[u8]) -> impl Iterator<Item = u8> {
    let numbers = record.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number));
    numbers.map(|number| if number < 1 << 22 { number % LOW } else { number }).flat_map(u32::to_le_bytes)
}

#[test]
fn a_small_file_of_pieces_of_vmlinux_never_panics() {
    let Some(whole) = vmlinux() else { return };
    // Not the functions: with their ids changed they have no prototype any more.
    let records: Vec<_> = records(&whole)
        .into_iter()
        .map(|at| &whole[at])
        .filter(|record| word(record, 4) >> 24 != 12)
        .collect();
    let strings = &whole[word(&whole, 4) + word(&whole, 16)..];
    let strings = [&strings[..64], b"\0"].concat();
    let names: Vec<&str> = (1..LOW as usize)
        .map(|from| std::str::from_utf8(strings[from..].split(|byte| *byte == 0).next().unwrap()).unwrap())
        .collect();
    let (accepted, answered) = (Cell::new(0), Cell::new(0));
    let piece = (any::<prop::sample::Index>(), 8..32_usize);
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(piece, 2..6), |pieces| {
        let from_to = |(at, length): &(prop::sample::Index, usize)| {
            let at = at.index(records.len());
            at..(at + length).min(records.len())
        };
        let chosen = pieces.iter().flat_map(|piece| &records[from_to(piece)]);
        let body: Vec<u8> = chosen.flat_map(|record| small(record)).collect();
        let sizes = (body.len() as u32, strings.len() as u32);
        let header = [0x0001_eb9f, 24, 0, sizes.0, sizes.0, sizes.1];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&strings);
        if let Ok(btf) = Btf::parse(bytes) {
            accepted.set(accepted.get() + 1);
            for (name, path) in names.iter().flat_map(|name| names.iter().map(move |path| (name, path))) {
                answered.set(answered.get() + usize::from(btf.field(name, path).is_ok()));
                let _ = btf.enumerator(name, path);
            }
            names.iter().for_each(|name| drop(btf.size_of(name)));
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(accepted.get() > 100 && answered.get() > 50, "{accepted:?} {answered:?}: too few are tested");
}
