//! `agent --once FILE`: one text of metrics, for the textfile collector of node_exporter. The file is there whole or as
//! it was before.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::Failure;
use crate::confine::Plan;

/// A file that can be written.
pub struct Target {
    file: PathBuf,
    temporary: PathBuf,
}

impl Target {
    /// Checks that the file's folder is there.
    ///
    /// # Errors
    /// [`Failure::bad_input`]: no folder, or no name of a file.
    pub fn new(file: &Path) -> Result<Target, Failure> {
        let refused = |why: &str| Failure::bad_input(format!("--once {}: {why}", file.display()));
        let name = file.file_name().filter(|_| !file.is_dir()).ok_or_else(|| refused("no name of a file"))?;
        let folder = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(refused(&format!("there is no folder {}; make it first", folder.display())));
        }
        // The confined agent sees it by this path alone, wherever it was started.
        let folder = folder.canonicalize().map_err(|error| refused(&error.to_string()))?;
        // Not *.prom, or a collector would read it half written; in the same folder, or it could not be renamed.
        let temporary = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        Ok(Target { file: folder.join(name), temporary })
    }

    /// What has to stay possible for it: the folder often belongs to the collector's user.
    pub fn plan(&self) -> Plan {
        let writable: Vec<PathBuf> = self.file.parent().map(Path::to_owned).into_iter().collect();
        let own = rustix::process::geteuid().as_raw();
        let overrides = writable.iter().any(|folder| fs::metadata(folder).is_ok_and(|it| it.uid() != own));
        Plan { writable, overrides }
    }

    /// Writes the text beside the file and renames it.
    ///
    /// # Errors
    /// [`Failure::cannot`]: the disk is full, the folder may not be written to.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        self.replace(text).map_err(|error| {
            // Where it was not made, it cannot be removed either.
            let _ = fs::remove_file(&self.temporary);
            Failure::cannot(format!("cannot write {}: {error}", self.file.display()))
        })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        // Whoever collects it is another user.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&self.temporary)?;
        file.write_all(text.as_bytes())?;
        drop(file);
        fs::rename(&self.temporary, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let folder = std::env::temp_dir().join(format!("loopscope-once-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("loopscope.prom");
        for text in ["a 1\n", "a 2\nb 3\n"] {
            Target::new(&file).unwrap().write(text).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let target = Target::new(&file).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let failure = target.write("a 4\n").unwrap_err();
        assert!(failure.code == 1 && failure.message.contains("loopscope.prom"), "{failure}");
    }

    #[test]
    fn a_file_that_cannot_be_is_refused_before_anything_is_started() {
        for file in ["/no/such/folder/a.prom", "/", "/tmp", "..", ""] {
            let failure = Target::new(Path::new(file)).err().unwrap_or_else(|| panic!("{file} is taken"));
            assert!(failure.code == 2 && failure.message.starts_with("--once "), "{failure}");
        }
        assert!(Target::new(Path::new("loopscope.prom")).is_ok(), "in the working directory");
    }
}
