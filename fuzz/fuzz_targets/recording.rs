//! The reader of recordings, and the replay that makes reports of them.
//!
//! With an even first byte the rest is the file. With an odd one it is frames, of which a file is made with the checksums
//! that they should have: u8 kind, u8 flags, u16 bytes of the body, the body.
#![no_main]

use std::{fs::File, io::Write, os::fd::AsRawFd, path::PathBuf};

use libfuzzer_sys::fuzz_target;
use loopscope::store::{self, Head, Replay, Step};
use rustix::fs::{MemfdFlags, memfd_create};

/// Frames of a replay that are looked at: a file of the largest input has fewer.
const FRAMES: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let made = (which % 2 == 1).then(|| file(bytes));
    let mut memory = File::from(memfd_create("recording", MemfdFlags::CLOEXEC).unwrap());
    memory.write_all(made.as_deref().unwrap_or(bytes)).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    let Ok(mut replay) = Replay::open(&path) else { return };
    for number in 0..FRAMES {
        match replay.step() {
            Ok(Step::End) | Err(_) => break,
            Ok(Step::Pass) if number % 3 == 0 => {
                let _ = replay.window();
                replay.begin();
            }
            Ok(_) => {}
        }
    }
    let _ = (replay.samples(), replay.origin(), replay.now(), replay.missed(), replay.damaged());
    let passes = replay.passes();
    for (frame, _) in passes.iter().take(4) {
        let _ = replay.seek(*frame);
    }
});

fn file(mut bytes: &[u8]) -> Vec<u8> {
    let head = Head { layout: store::layout(), ..Head::default() };
    let mut file = store::head(&head).unwrap();
    let mut time = 0;
    while let [kind, flags, low, high, rest @ ..] = bytes {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        time += 1_000_000;
        file.extend(store::frame(*kind, *flags, time, body).unwrap());
        bytes = rest;
    }
    file
}
