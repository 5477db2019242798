//! The reading side: opens a file, finds its frames, and gives their bodies. Believes nothing that it reads.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::format::{self, Damage, FRAME_HEAD, FrameHead, Head, LEAD, frame};

/// A frame and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Of its head, in bytes.
    pub at: u64,
    /// Its head.
    pub head: FrameHead,
}

/// A file that is a recording.
#[derive(Debug)]
pub struct Recording {
    file: File,
    head: Head,
    entries: Vec<Entry>,
    is_whole: bool,
}

impl Recording {
    /// Opens a recording, and finds its frames.
    ///
    /// # Errors
    /// It cannot be read, or it is none; the error downcasts to [`Damage`] where the file's content is to blame.
    pub fn open(path: &Path) -> anyhow::Result<Recording> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            anyhow::bail!(Damage::Foreign);
        }
        let size = file.metadata()?.len();
        let mut lead = Vec::new();
        fill(&file, &mut lead, 0, LEAD)?;
        let (length, crc) = format::lead(&lead)?;
        let mut json = Vec::new();
        fill(&file, &mut json, LEAD as u64, length)?;
        if json.len() < length {
            anyhow::bail!(Damage::Short);
        }
        let head = format::read_head(&json, crc)?;
        let mut recording = Recording { file, head, entries: Vec::new(), is_whole: false };
        recording.find(LEAD as u64 + length as u64, size)?;
        if !recording.entries.iter().any(|entry| entry.head.kind == frame::READING) {
            anyhow::bail!(Damage::Nothing);
        }
        Ok(recording)
    }

    /// Whether a file begins as a recording does.
    pub fn is_one(path: &Path) -> bool {
        let mut begin = [0; format::MAGIC.len()];
        File::open(path).is_ok_and(|file| file.read_exact_at(&mut begin, 0).is_ok() && begin == format::MAGIC)
    }

    /// Finds the frames between two places, as far as they are there.
    fn find(&mut self, mut at: u64, size: u64) -> io::Result<()> {
        let mut bytes = [0; FRAME_HEAD];
        while at + FRAME_HEAD as u64 <= size {
            self.file.read_exact_at(&mut bytes, at)?;
            let head = FrameHead::read(&bytes);
            let end = at + FRAME_HEAD as u64 + u64::from(head.stored);
            if end > size {
                break;
            }
            self.is_whole = head.kind == frame::END;
            self.entries.push(Entry { at, head });
            at = end;
        }
        self.is_whole &= at == size;
        Ok(())
    }

    /// What it says of itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether it was ended, rather than cut off.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Its frames.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// When a frame was written.
    pub fn time(&self, monotonic_ns: u64) -> SystemTime {
        let since = Duration::from_nanos(monotonic_ns.saturating_sub(self.head.monotonic_ns));
        let start = UNIX_EPOCH.checked_add(Duration::from_nanos(self.head.wall_ns));
        start.and_then(|start| start.checked_add(since)).unwrap_or(UNIX_EPOCH)
    }

    /// The body of a frame.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub fn body(&self, entry: &Entry) -> anyhow::Result<Vec<u8>> {
        let length = usize::try_from(entry.head.stored)?;
        let mut stored = Vec::new();
        fill(&self.file, &mut stored, entry.at + FRAME_HEAD as u64, length)?;
        Ok(format::unpack(&entry.head, &stored, entry.at)?)
    }
}

/// Reads as many bytes as there are, up to `count`.
fn fill(file: &File, bytes: &mut Vec<u8>, at: u64, count: usize) -> io::Result<()> {
    bytes.resize(count, 0);
    let mut done = 0;
    while done < count {
        match file.read_at(bytes.get_mut(done..).unwrap_or_default(), at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(())
}
