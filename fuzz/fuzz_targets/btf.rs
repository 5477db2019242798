//! The BTF reader: any file that a user may name with --btf, asked for fields that are there and fields that are not.
//!
//! The first byte says how long the question is that follows it; the rest is the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loopscope::kernel::btf::{BitRange, Btf};

/// What the agent asks of a kernel, in every form that a path can have.
const QUESTIONS: [(&str, &str); 6] = [
    ("eventpoll", "rbr.rb_root.rb_node"),
    ("task_struct", "comm[3]"),
    ("Loop", "wait.entry_ns"),
    ("Head", "comm"),
    ("file", "f_inode"),
    ("pt_regs", "ax"),
];

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first() else { return };
    let (question, file) = rest.split_at(rest.len().min(usize::from(*length)));
    let Ok(btf) = Btf::parse(file.to_vec()) else { return };
    let question = String::from_utf8_lossy(question);
    let asked = question.split_once(' ').into_iter().chain(QUESTIONS);
    for (name, path) in asked {
        if let Ok(field) = btf.field(name, path) {
            // The bits of a bitfield are in the bytes that hold it.
            let fits =
                |bits: BitRange| u64::from(bits.first) + u64::from(bits.len) <= u64::from(field.size) * 8;
            assert!(field.bits.is_none_or(fits), "{field:?}");
        }
        let _ = (btf.func(name), btf.struct_id(name), btf.enumerator(name, path), btf.size_of(path));
    }
});
