//! build.json: what the committed eBPF object was made from, and with what.
//!
//! Pure but for reading the sources. Must hold nothing that differs between two machines that build the same:
//! no path, no time, no user.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::lockfile;

/// The record beside the object. With all versions equal, the same sources give the same bytes.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Provenance {
    /// The compiler: "1.96.0 (ac68faa20 2026-05-25)".
    pub rustc: String,
    /// The LLVM that the compiler was built with.
    pub rustc_llvm: String,
    /// The LLVM at hand for linking and stripping.
    pub llvm: String,
    /// bpf-linker's version.
    pub bpf_linker: String,
    /// The arguments of cargo and the flags of rustc; paths are left out.
    pub flags: Vec<String>,
    /// Hash of the programs' sources and of what else decides the object.
    pub sources_sha256: String,
    /// Hash of the stripped object.
    pub object_sha256: String,
    /// Its length in bytes.
    pub object_bytes: usize,
}

impl Provenance {
    /// Reads build.json.
    pub fn read(file: &Path) -> Result<Provenance> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))
    }

    /// Writes build.json.
    pub fn write(&self, file: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("turn the record into JSON")?;
        text.push('\n');
        fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    /// Which tools are not those of `recorded`, one line each; empty when bytes can be compared.
    pub fn other_tools(&self, recorded: &Provenance) -> Vec<String> {
        let pairs = [
            ("rustc", &self.rustc, &recorded.rustc),
            ("LLVM of rustc", &self.rustc_llvm, &recorded.rustc_llvm),
            ("LLVM", &self.llvm, &recorded.llvm),
            ("bpf-linker", &self.bpf_linker, &recorded.bpf_linker),
        ];
        let other = pairs.into_iter().filter(|(_, here, then)| here != then);
        other.map(|(name, here, then)| format!("{name}: {here} here, {then} recorded")).collect()
    }
}

/// Lower-case hex of the SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hash over everything in the repository that decides the object: the programs' sources and manifest, the
/// profile and the locked versions of what they are built on.
pub fn sources_sha256(root: &Path) -> Result<String> {
    let mut parts = Vec::new();
    let mut files = vec![root.join("probe-ebpf/Cargo.toml")];
    rust_files(&root.join("probe-ebpf/src"), &mut files)?;
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        parts.push((name, read(&file)?));
    }
    let manifest = read_text(&root.join("Cargo.toml"))?;
    parts.push((
        "Cargo.toml, what counts".to_owned(),
        lockfile::build_sections(&manifest).join("\n").into_bytes(),
    ));
    let lock = read_text(&root.join("Cargo.lock"))?;
    parts.push((
        "Cargo.lock, what counts".to_owned(),
        lockfile::probe_dependencies(&lock).join("\n").into_bytes(),
    ));
    Ok(hash_parts(parts))
}

/// Independent of the order in which the parts were found; lengths keep neighbours apart.
fn hash_parts(mut parts: Vec<(String, Vec<u8>)>) -> String {
    parts.sort();
    let mut hash = Sha256::new();
    for (name, content) in &parts {
        hash.update(format!("{} {name} {} ", name.len(), content.len()));
        hash.update(content);
    }
    hex(&hash.finalize())
}

/// Adds the .rs files below the folder. Editors' temporary files are not sources.
pub fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

fn read_text(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, content: &str) -> (String, Vec<u8>) {
        (name.to_owned(), content.as_bytes().to_owned())
    }

    #[test]
    fn the_hash_is_independent_of_the_order_of_the_files() {
        let one = hash_parts(vec![part("a.rs", "1"), part("b.rs", "2")]);
        let other = hash_parts(vec![part("b.rs", "2"), part("a.rs", "1")]);
        assert_eq!(one, other);
        // Pinned: a change of the scheme would make every recorded hash wrong.
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(one, sha256(b"4 a.rs 1 14 b.rs 1 2"));
    }

    #[test]
    fn the_hash_tells_names_from_contents() {
        assert_ne!(hash_parts(vec![part("ab", "c")]), hash_parts(vec![part("a", "bc")]));
        assert_ne!(
            hash_parts(vec![part("a", "1"), part("b", "")]),
            hash_parts(vec![part("a", ""), part("b", "1")])
        );
    }

    #[test]
    fn a_record_names_each_tool_that_differs() {
        let recorded = Provenance {
            rustc: "1.96.0".into(),
            rustc_llvm: "22.1.8".into(),
            llvm: "22.1.8".into(),
            bpf_linker: "0.13.0".into(),
            flags: vec![],
            sources_sha256: String::new(),
            object_sha256: String::new(),
            object_bytes: 0,
        };
        assert!(recorded.clone().other_tools(&recorded).is_empty());
        let here = Provenance { rustc: "1.97.0".into(), ..recorded.clone() };
        assert_eq!(here.other_tools(&recorded), ["rustc: 1.97.0 here, 1.96.0 recorded"]);
    }
}
