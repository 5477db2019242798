//! Writes an archive of the kind that Linux unpacks into memory at boot: cpio "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Must not read anything but what it is given.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
/// Numbers of a character device, and its mode.
const DEVICE: u32 = 0o020_600;

/// An archive that is being written.
pub struct Archive<W> {
    out: W,
    entries: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(out: W) -> Self {
        Archive { out, entries: 0, folders: BTreeSet::new() }
    }

    /// A file that may be executed, with the folders above it. `path` begins with a slash.
    pub fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.above(path)?;
        self.entry(path, PROGRAM, [0, 0], content)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.above(path)?;
        self.entry(path, LINK, [0, 0], target.as_bytes())
    }

    /// A character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.above(path)?;
        self.entry(path, DEVICE, [major, minor], &[])
    }

    /// A folder, with those above it.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        self.above(path)?;
        if self.folders.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, [0, 0], &[])?;
        }
        Ok(())
    }

    /// Writes the end.
    pub fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, [0, 0], &[])?;
        self.out.flush()
    }

    /// The folders above a path: the kernel makes none by itself.
    fn above(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => self.folder(parent),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: [u32; 2], content: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let too_large = |_| io::Error::other(format!("{path} is too large for an archive of this kind"));
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let length = u32::try_from(name.len() + 1).map_err(too_large)?;
        self.entries += 1;
        let [major, minor] = device;
        // Inode, mode, user, group, links, time, size, two pairs of device numbers, length of the name, check sum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, length, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend(name.as_bytes());
        header.push(0);
        for part in [header.as_slice(), content] {
            self.out.write_all(part)?;
            self.out.write_all([0; 3].get(..part.len().wrapping_neg() % 4).unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_begin_at_multiples_of_four_and_folders_come_first() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("/a/b/c", b"12345").unwrap();
        archive.file("/a/b/d", b"").unwrap();
        archive.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let starts: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 5, "a, a/b, a/b/c, a/b/d and the end: {text:?}");
        assert!(starts.iter().all(|at| at % 4 == 0) && text.len().is_multiple_of(4), "{starts:?}");
        let name = |at: &usize| text[at + 110..].split('\0').next().unwrap();
        assert_eq!(starts.iter().map(name).collect::<Vec<_>>(), ["a", "a/b", "a/b/c", "a/b/d", "TRAILER!!!"]);
        assert_eq!(&text[starts[2] + 6 + 6 * 8..starts[2] + 6 + 7 * 8], "00000005");
    }
}
