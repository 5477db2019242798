//! Where a recording's frames go: a file, or whoever follows what is recorded. Knows nothing of what is in them.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where frames go.
pub enum Output {
    /// A file, and the bytes in it.
    File {
        /// Its path.
        path: PathBuf,
        /// Open for writing.
        file: File,
        /// Bytes in it.
        written: u64,
    },
    /// Frames that wait to be fetched.
    Feed(Vec<Arc<[u8]>>),
}

impl Output {
    /// A file, readable for its owner alone, since what programs run is nobody else's business.
    pub fn create(path: &Path) -> io::Result<Output> {
        Ok(Output::File { path: path.to_owned(), file: open(path)?, written: 0 })
    }

    /// Writes a frame by one call. What a full disk took half of is cut off again.
    pub fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            Output::Feed(frames) => frames.push(bytes.into()),
            Output::File { file, written, .. } => {
                let result = file.write_all(&bytes);
                if result.is_err() {
                    let _ = file.set_len(*written);
                }
                result?;
                *written += bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Bytes in the current file.
    pub fn written(&self) -> u64 {
        if let Output::File { written, .. } = self { *written } else { 0 }
    }

    /// Keeps the file as FILE.1, and begins it anew.
    pub fn rotate(&mut self) -> io::Result<()> {
        if let Output::File { path, file, written } = self {
            let mut kept = path.clone().into_os_string();
            kept.push(".1");
            std::fs::rename(&*path, &kept)?;
            (*file, *written) = (open(path)?, 0);
        }
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        if let Output::File { file, .. } = self { file.sync_all() } else { Ok(()) }
    }

    /// Its name.
    pub fn name(&self) -> String {
        if let Output::File { path, .. } = self { path.display().to_string() } else { "the feed".to_owned() }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
