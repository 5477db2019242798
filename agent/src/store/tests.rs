//! Recordings that are written and read here, without a kernel; and what is left of them when they are damaged.

use std::{
    fs,
    mem::offset_of,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use loopscope_probe::{Counters, Head as RecordHead, Loop, Wait, kind, reason, result, waitable};
use proptest::prelude::*;

use super::{
    format::{self, LEAD, frame},
    *,
};
use crate::{
    decode,
    identity::Process,
    model::Model,
    report::build::{self, Aside},
};

const S: u64 = 1_000_000_000;

/// A file of its own in the folder for temporary files; removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Scratch(std::env::temp_dir().join(format!("loopscope-store-{}-{number}", std::process::id())))
    }

    fn with(bytes: &[u8]) -> Scratch {
        let scratch = Scratch::new();
        fs::write(&scratch.0, bytes).unwrap();
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for suffix in ["", ".1"] {
            let _ = fs::remove_file(format!("{}{suffix}", self.0.display()));
        }
    }
}

fn put_at(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn record(kind: usize, body: usize, now_ns: u64, tid: u32) -> Vec<u8> {
    let size = size_of::<RecordHead>() + body;
    let mut bytes = vec![0; size];
    put_at(&mut bytes, offset_of!(RecordHead, kind), &(kind as u32).to_le_bytes());
    put_at(&mut bytes, offset_of!(RecordHead, size), &(size as u32).to_le_bytes());
    put_at(&mut bytes, offset_of!(RecordHead, now_ns), &now_ns.to_le_bytes());
    put_at(&mut bytes, offset_of!(RecordHead, window), &((now_ns / S) as u32).to_le_bytes());
    put_at(&mut bytes, offset_of!(RecordHead, tid), &tid.to_le_bytes());
    put_at(&mut bytes, offset_of!(RecordHead, tgid), &tid.to_le_bytes());
    put_at(&mut bytes, offset_of!(RecordHead, born_ns), &u64::from(tid).to_le_bytes());
    put_at(&mut bytes, offset_of!(RecordHead, comm), b"server");
    bytes
}

/// A loop of thread `tid` after `waits` waits.
fn looped(tid: u32, waits: u32, now_ns: u64) -> Vec<u8> {
    let mut bytes = record(kind::LOOPS, size_of::<Loop>(), now_ns, tid);
    let of = 0xffff_8881_0000_0000 + u64::from(tid) * 512;
    put_at(
        &mut bytes,
        offset_of!(RecordHead, wait) + offset_of!(Wait, entry_ns),
        &(now_ns - 7).to_le_bytes(),
    );
    put_at(&mut bytes, offset_of!(RecordHead, wait) + offset_of!(Wait, waitable), &of.to_le_bytes());
    let body = size_of::<RecordHead>();
    put_at(&mut bytes, body + offset_of!(Loop, waitable), &of.to_le_bytes());
    put_at(&mut bytes, body + offset_of!(Loop, last_exit_ns), &(now_ns - 9).to_le_bytes());
    put_at(&mut bytes, body + offset_of!(Loop, wait_ns), &(u64::from(waits) * 5000).to_le_bytes());
    put_at(&mut bytes, body + offset_of!(Loop, events), &u64::from(waits).to_le_bytes());
    let ready = body + offset_of!(Loop, results) + 4 * result::READY;
    put_at(&mut bytes, ready, &waits.to_le_bytes());
    put_at(&mut bytes, body + offset_of!(Loop, wait) + 4 * 60, &waits.to_le_bytes());
    bytes
}

/// The end of thread `tid`.
fn exit(tid: u32, waits: u32, now_ns: u64) -> Vec<u8> {
    let mut bytes = looped(tid, waits, now_ns);
    put_at(&mut bytes, offset_of!(RecordHead, reason), &(reason::EXIT as u32).to_le_bytes());
    bytes
}

/// What the probes give in second `n`, and the ring buffer before it: 40 threads, one of which ends.
fn second(n: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let now = 100 * S + n * S;
    let end = |tid: u32| u64::from(tid) == n;
    let here = (1..41).filter(|tid| u64::from(*tid) > n);
    let mut pass: Vec<u8> = here.flat_map(|tid| looped(tid, tid * n as u32, now)).collect();
    pass.extend(record(kind::COUNTERS, size_of::<Counters>(), now, 0));
    (pass, (1..41).filter(|tid| end(*tid)).map(|tid| exit(tid, tid * n as u32, now - S / 2)).collect())
}

fn process(pid: u32) -> Arc<Process> {
    Arc::new(Process { exe: Some(format!("/usr/bin/server-{pid}")), ..Process::default() })
}

/// Records so many seconds, and says what a model made of the same bytes.
fn make(path: &Path, limits: Limits, seconds: u64) -> String {
    let mut recorder = Recorder::create(path, limits, Filtered::default()).unwrap();
    recorder.probes(&[], false);
    let mut model = Model::default();
    let started_at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for n in 0..seconds {
        let (pass, events) = second(n);
        for event in &events {
            recorder.event(event);
        }
        recorder.pass(&pass);
        let mut records = decode::records(&pass).unwrap();
        records.extend(events.iter().map(|event| decode::record(event).unwrap().0));
        model.apply(records, &mut |pid| {
            recorder.process(pid, &process(pid));
            process(pid)
        });
        recorder.commit(n);
        if n == 0 {
            model.begin();
            recorder.begin(started_at);
        }
    }
    recorder.finish().unwrap();
    let replay = Replay::open(path).unwrap();
    let report = build::report(&model.window(), &replay.origin(), Aside::default(), started_at);
    serde_json::to_string(&report).unwrap()
}

fn report(replay: &mut Replay) -> String {
    let window = replay.window();
    serde_json::to_string(&build::report(&window, &replay.origin(), Aside::default(), replay.started_at()))
        .unwrap()
}

/// Replays to the end, as every view may.
fn play(path: &Path) -> anyhow::Result<(usize, String)> {
    let mut replay = Replay::open(path)?;
    let mut passes = 0;
    loop {
        match replay.step()? {
            Step::Pass => passes += 1,
            Step::Other => {}
            Step::End => return Ok((passes, report(&mut replay))),
        }
    }
}

/// As [`play`], and demands that a failure is one line that says what is wrong with the file.
fn damage(path: &Path) -> Option<Damage> {
    let error = play(path).err()?;
    assert!(!format!("{error:#}").contains('\n'));
    let damage = error.chain().find_map(|cause| cause.downcast_ref::<Damage>());
    Some(damage.or_else(|| error.downcast_ref()).unwrap_or_else(|| panic!("{error:#}")).clone())
}

#[test]
fn a_replay_says_what_was_seen() {
    let file = Scratch::new();
    let seen = make(&file.0, Limits::default(), 30);
    let (passes, replayed) = play(&file.0).unwrap();
    assert_eq!((passes, replayed), (29, seen));
    assert!(Replay::open(&file.0).unwrap().is_whole());
}

#[test]
fn every_window_is_the_same_after_a_seek() {
    let file = Scratch::new();
    // Longer than two key readings are apart.
    make(&file.0, Limits::default(), 150);
    let mut replay = Replay::open(&file.0).unwrap();
    let mut straight = Vec::new();
    loop {
        match replay.step().unwrap() {
            Step::Pass => {
                let mut window = replay.window();
                window.loops.iter_mut().for_each(|looped| looped.instance = None);
                straight.push((replay.started_at(), format!("{:?}", window.loops)));
                replay.begin();
            }
            Step::Other => {}
            Step::End => break,
        }
    }
    let passes = replay.passes();
    assert_eq!(passes.len(), straight.len());
    for i in [0, 5, 59, 60, 61, 148, 1, 100] {
        replay.seek(replay.pass_before(passes[i].0)).unwrap();
        while replay.step().unwrap() != Step::Pass {}
        let mut window = replay.window();
        window.loops.iter_mut().for_each(|looped| looped.instance = None);
        let shown = format!("{:?}", window.loops);
        assert!(shown == straight[i].1, "window {i}");
        // The first began when the recording says, not with a reading.
        assert!(i == 0 || replay.started_at() == straight[i].0, "window {i}");
    }
}

#[test]
fn an_address_of_the_kernel_is_nowhere_in_the_file_and_names_are_not_where_they_are_redacted() {
    let file = Scratch::new();
    make(&file.0, Limits { redact: true, ..Limits::default() }, 3);
    let recording = Recording::open(&file.0).unwrap();
    for entry in recording.entries() {
        let body = recording.body(entry).unwrap();
        for name in [&b"server"[..], b"/usr"] {
            assert!(!body.windows(name.len()).any(|window| window == name), "{:?}", entry.head);
        }
    }
    let mut replay = Replay::open(&file.0).unwrap();
    replay.step().unwrap();
    assert!(report(&mut replay).contains("\"comm\":\"x"));
    let mut bytes = looped(5, 1, S);
    scrub::record(&mut bytes, 99 << 12);
    assert!(
        !bytes.windows(4).any(|window| window == [0x81, 0xff, 0xff, 0xff] || window == [0, 0x81, 0x88, 0xff])
    );
}

#[test]
fn a_recording_that_is_full_begins_anew_and_keeps_the_one_before() {
    let file = Scratch::new();
    make(&file.0, Limits { bytes: Some(32 << 10), ..Limits::default() }, 400);
    let before = PathBuf::from(format!("{}.1", file.0.display()));
    for path in [&file.0, &before] {
        let size = fs::metadata(path).unwrap().len();
        assert!(size < 24 << 10, "{size}");
        let (passes, report) = play(path).unwrap();
        assert!(passes > 0, "{report}");
        assert!(Replay::open(path).unwrap().head().part > 0);
    }
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let file = Scratch::new();
    make(&file.0, Limits::default(), 2);
    let whole = fs::read(&file.0).unwrap();
    let of = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        damage(&Scratch::with(&bytes).0)
    };
    assert_eq!(of(&|_| {}), None);
    assert_eq!(of(&Vec::clear), Some(Damage::Empty));
    assert_eq!(of(&|bytes| bytes[0] ^= 1), Some(Damage::Foreign));
    assert_eq!(of(&|bytes| bytes.truncate(5)), Some(Damage::Short));
    assert_eq!(of(&|bytes| bytes.truncate(LEAD + 10)), Some(Damage::Short));
    assert_eq!(of(&|bytes| bytes[8] = 2), Some(Damage::Newer(2)));
    assert_eq!(of(&|bytes| bytes[LEAD + 2] ^= 1), Some(Damage::Head));
    assert_eq!(damage(&Scratch::with(b"#!/bin/sh\n").0), Some(Damage::Foreign));
    let other = Head { layout: vec![1], agent: "9.9".to_owned(), ..Head::default() };
    let bytes = format::head(&other).unwrap();
    assert_eq!(damage(&Scratch::with(&bytes).0), Some(Damage::Layout("9.9".to_owned())));
    let empty = Head { layout: format::layout(), ..Head::default() };
    assert_eq!(damage(&Scratch::with(&format::head(&empty).unwrap()).0), Some(Damage::Nothing));
    assert!(Recording::open(Path::new("/")).is_err());
}

#[test]
fn what_was_written_before_the_end_came_can_be_replayed() {
    let file = Scratch::new();
    make(&file.0, Limits::default(), 4);
    let whole = fs::read(&file.0).unwrap();
    let mut ends: Vec<usize> =
        Recording::open(&file.0).unwrap().entries().iter().map(|e| e.at as usize).collect();
    ends.extend((0..whole.len()).step_by(61));
    ends.extend(ends.clone().iter().flat_map(|end| [end + 1, end + 24]));
    ends.sort_unstable();
    let mut most = 0;
    for length in ends.into_iter().filter(|length| *length < whole.len()) {
        let cut = Scratch::with(&whole[..length]);
        match play(&cut.0) {
            Ok((passes, _)) => {
                assert!(passes >= most && passes <= 3);
                assert!(!Replay::open(&cut.0).unwrap().is_whole());
                most = passes;
            }
            Err(_) => assert_eq!((most, damage(&cut.0).is_some()), (0, true), "at {length}"),
        }
    }
    assert_eq!(most, 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damage_anywhere_is_one_line_or_without_effect(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        static WHOLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            let file = Scratch::new();
            make(&file.0, Limits::default(), 4);
            fs::read(&file.0).unwrap()
        });
        let mut bytes = WHOLE.clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        let _ = damage(&Scratch::with(&bytes).0);
    }

    #[test]
    fn bodies_with_true_checksums_and_false_content_are_refused_or_harmless(
        kinds in proptest::collection::vec((0_u8..8, 0_u8..4, proptest::collection::vec(any::<u8>(), 0..200)), 1..8),
        change in any::<prop::sample::Index>(), value in any::<u8>()
    ) {
        let head = Head { layout: format::layout(), ..Head::default() };
        let mut bytes = format::head(&head).unwrap();
        // A good reading, with one byte changed, among nonsense.
        let (pass, _) = second(0);
        let mut body = vec![0, 0, 0, 0];
        delta::Packer::default().pack(&pass, &mut body);
        let at = change.index(body.len());
        body[at] ^= value;
        bytes.extend(format::frame(frame::READING, frame::KEY | frame::PASS, 1, &body).unwrap());
        bytes.extend(format::frame(frame::BEGIN, 0, 1, &7_u64.to_le_bytes()).unwrap());
        for (kind, flags, body) in kinds {
            bytes.extend(format::frame(kind, flags, 2, &body).unwrap());
        }
        let _ = damage(&Scratch::with(&bytes).0);
    }
}

#[test]
fn poll_stays_poll() {
    let mut bytes = record(kind::LOOPS, size_of::<Loop>(), 5, 1);
    let at = size_of::<RecordHead>() + offset_of!(Loop, waitable);
    put_at(&mut bytes, at, &waitable::POLL.to_le_bytes());
    let before = bytes.clone();
    scrub::record(&mut bytes, 1 << 40);
    assert_eq!(bytes, before);
}
