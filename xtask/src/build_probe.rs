//! `cargo xtask build-probe [--check]`: compiles the eBPF programs, or proves that the committed object is theirs.
//!
//! Must give the same bytes wherever it runs: no path, time or setting of this machine may reach the object.
//! Must not write into the source tree with `--check`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::provenance::{self, Provenance};
use crate::toolchain::Toolchain;

const OBJECT: &str = "probe-ebpf/prebuilt/loopscope-probe.o";
const RECORD: &str = "probe-ebpf/prebuilt/build.json";
const TARGET_DIR: &str = "target/probe";
const REBUILT: &str = "target/probe/rebuilt.o";
const LINKED: &str = "target/probe/bpfel-unknown-none/probe/loopscope-probe";

const CARGO_ARGS: [&str; 10] = [
    "--package=loopscope-probe",
    "--bin=loopscope-probe",
    "--features=programs",
    "--profile=probe",
    "--target=bpfel-unknown-none",
    "-Z",
    "build-std=core",
    "--target-dir",
    TARGET_DIR,
    "--locked",
];
/// `bpf_target_arch` chooses the register layout of aya-ebpf; `v3` is the instruction set of kernels since 5.1.
const RUSTFLAGS: [&str; 4] =
    ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];

/// What `--check` could prove.
#[derive(PartialEq, Eq, Debug)]
pub enum Checked {
    /// The rebuilt object and the committed one are equal byte for byte.
    Identical,
    /// Other tools are at hand than the recorded ones: test this rebuilt object.
    Rebuilt(PathBuf),
}

/// Builds the object and its record into the source tree.
pub fn build() -> Result<()> {
    let root = process::workspace_root()?;
    let (object, record) = compile(&root)?;
    let prebuilt = root.join("probe-ebpf/prebuilt");
    fs::create_dir_all(&prebuilt).with_context(|| format!("create {}", prebuilt.display()))?;
    write(&root.join(OBJECT), &object)?;
    record.write(&root.join(RECORD))?;
    println!("wrote {OBJECT}: {} bytes, sha256 {}", record.object_bytes, record.object_sha256);
    println!("wrote {RECORD}: commit both with the sources");
    Ok(())
}

/// Proves that the committed object is what the sources give, as far as the tools at hand can prove it.
pub fn check() -> Result<Checked> {
    let root = process::workspace_root()?;
    let recorded = check_recorded(&root)?;
    let (object, here) = compile(&root)?;
    write(&root.join(REBUILT), &object)?;
    let other = here.other_tools(&recorded);
    if other.is_empty() {
        check_bytes(&here, &recorded)?;
        println!("build-probe --check: compared byte for byte: {OBJECT} is what the sources give");
        return Ok(Checked::Identical);
    }
    println!("build-probe --check: NOT compared byte for byte, since the tools differ:");
    other.iter().for_each(|line| println!("  {line}"));
    println!("  the sources are those of the record; tests are to run against the rebuilt object instead:");
    println!("  LOOPSCOPE_PROBE_OBJECT={REBUILT}");
    Ok(Checked::Rebuilt(root.join(REBUILT)))
}

const MEND: &str = "run `cargo xtask build-probe` and commit probe-ebpf/prebuilt/";

/// What can be told without a compiler: that record, object and sources belong together.
pub fn check_recorded(root: &Path) -> Result<Provenance> {
    let recorded = Provenance::read(&root.join(RECORD)).context(MEND)?;
    let committed = root.join(OBJECT);
    let committed =
        fs::read(&committed).with_context(|| format!("read {}", committed.display())).context(MEND)?;
    check_record(&recorded, &provenance::sources_sha256(root)?, &committed)?;
    Ok(recorded)
}

fn check_record(recorded: &Provenance, sources_sha256: &str, committed: &[u8]) -> Result<()> {
    if recorded.sources_sha256 != sources_sha256 {
        let then = &recorded.sources_sha256;
        bail!(
            "the sources of the programs changed since {OBJECT} was built: {sources_sha256} now, {then} recorded; {MEND}"
        );
    }
    let object = provenance::sha256(committed);
    if recorded.object_sha256 != object || recorded.object_bytes != committed.len() {
        bail!(
            "{OBJECT} is not the object of {RECORD}: {object}, recorded {}; {MEND}",
            recorded.object_sha256
        );
    }
    Ok(())
}

fn check_bytes(here: &Provenance, recorded: &Provenance) -> Result<()> {
    if here.flags != recorded.flags {
        bail!("the flags of the build changed since {OBJECT} was built; {MEND}");
    }
    if here.object_sha256 != recorded.object_sha256 {
        bail!(
            "{OBJECT} is not what the sources give with the recorded tools: sha256 {} committed, {} rebuilt ({REBUILT}); {MEND}",
            recorded.object_sha256,
            here.object_sha256
        );
    }
    Ok(())
}

/// Compiles, links and strips; returns the object and its record.
fn compile(root: &Path) -> Result<(Vec<u8>, Provenance)> {
    println!("build-probe: the eBPF programs, with");
    let tools = Toolchain::find_or_install()?;
    forget_other_linkers(root, &tools)?;
    let local = local_paths(root, &tools.rust_src)?;
    let flags = RUSTFLAGS.map(str::to_owned).into_iter().chain(local.iter().map(LocalPath::flag));
    let flags = flags.collect::<Vec<_>>().join("\u{1f}");
    let mut cargo = tools.cargo()?;
    cargo.current_dir(root).env("CARGO_ENCODED_RUSTFLAGS", flags).arg("build").args(CARGO_ARGS);
    process::run(&mut cargo)?;
    let stripped = root.join(TARGET_DIR).join("stripped.o");
    let mut strip = Command::new(&tools.llvm_strip);
    // -g takes the debug sections (68 KB become 11) and leaves .BTF and .BTF.ext.
    process::run(strip.arg("-g").arg(root.join(LINKED)).arg("-o").arg(&stripped))?;
    let object = fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))?;
    for path in &local {
        path.check_absent(&object)?;
    }
    let record = Provenance {
        rustc: tools.rustc,
        rustc_llvm: tools.rustc_llvm,
        llvm: tools.llvm,
        bpf_linker: tools.bpf_linker,
        flags: CARGO_ARGS.iter().chain(&RUSTFLAGS).map(|&flag| flag.to_owned()).collect(),
        sources_sha256: provenance::sources_sha256(root)?,
        object_sha256: provenance::sha256(&object),
        object_bytes: object.len(),
    };
    Ok((object, record))
}

/// cargo knows when the compiler changed, but not when the linker did: then what it kept is thrown away.
fn forget_other_linkers(root: &Path, tools: &Toolchain) -> Result<()> {
    let dir = root.join(TARGET_DIR);
    let stamp = dir.join("linker");
    let now = format!("bpf-linker {}, LLVM {}\n", tools.bpf_linker, tools.llvm);
    if fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    write(&stamp, now.as_bytes())
}

/// A folder of this machine, and what stands for it in the object.
struct LocalPath {
    path: PathBuf,
    stands_as: &'static str,
}

impl LocalPath {
    fn flag(&self) -> String {
        format!("--remap-path-prefix={}={}", self.path.display(), self.stands_as)
    }

    fn check_absent(&self, object: &[u8]) -> Result<()> {
        // A machine whose folder has the very name that stands for it is like any other.
        if self.path != Path::new(self.stands_as) && contains_path(object, &self.path) {
            bail!(
                "the object holds the path {} of this machine: it would differ elsewhere",
                self.path.display()
            );
        }
        Ok(())
    }
}

/// The folders that reach debug information, the shortest first: of two that match rustc takes the last.
fn local_paths(root: &Path, rust_src: &Path) -> Result<Vec<LocalPath>> {
    let home = process::home();
    let cargo_home =
        env::var_os("CARGO_HOME").map(PathBuf::from).or(home.as_ref().map(|home| home.join(".cargo")));
    let cargo_home = cargo_home.context("find cargo's folder: neither CARGO_HOME nor HOME is set")?;
    let rust_real = rust_src.canonicalize().with_context(|| format!("resolve {}", rust_src.display()))?;
    let mut paths = vec![
        LocalPath { path: root.to_owned(), stands_as: "." },
        LocalPath { path: cargo_home, stands_as: "/cargo" },
        LocalPath { path: rust_src.to_owned(), stands_as: "/rust" },
        LocalPath { path: rust_real, stands_as: "/rust" },
    ];
    paths.extend(home.map(|path| LocalPath { path, stands_as: "/home" }));
    paths.sort_by_key(|local| local.path.as_os_str().len());
    Ok(paths)
}

/// Whether the path, or something below it, stands in the bytes: as a path, not as the middle of another one.
fn contains_path(bytes: &[u8], path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = path.as_os_str().as_bytes();
    // "/" and "/x" say too little to be looked for.
    if path.len() < 3 {
        return false;
    }
    let in_name =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    bytes.windows(path.len()).enumerate().filter(|(_, part)| *part == path).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        !in_name(before) && !in_name(bytes.get(at + path.len()))
    })
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_as_whole_components() {
        let path = Path::new("/srv/build");
        assert!(contains_path(b"\0/srv/build/src/main.rs\0", path));
        assert!(contains_path(b"\0/srv/build", path));
        assert!(!contains_path(b"\0/srv/buildings/x\0", path));
        assert!(!contains_path(b"\0./probe/srv/build/main.rs\0", path));
        assert!(!contains_path(b"\0/cargo/registry\0", Path::new("/")));
    }

    fn record() -> Provenance {
        Provenance {
            rustc: "1".into(),
            rustc_llvm: "1".into(),
            llvm: "1".into(),
            bpf_linker: "1".into(),
            flags: vec![],
            sources_sha256: "s".into(),
            object_sha256: provenance::sha256(b"object"),
            object_bytes: 6,
        }
    }

    #[test]
    fn a_changed_source_or_object_is_refused_with_what_to_do() {
        assert!(check_record(&record(), "s", b"object").is_ok());
        for refused in [check_record(&record(), "t", b"object"), check_record(&record(), "s", b"edited")] {
            let said = refused.expect_err("must be refused").to_string();
            assert!(said.contains("cargo xtask build-probe"), "{said}");
        }
    }

    #[test]
    fn differing_bytes_are_refused_with_both_hashes() {
        let rebuilt = Provenance { object_sha256: "abc".into(), ..record() };
        let said = check_bytes(&rebuilt, &record()).expect_err("must be refused").to_string();
        assert!(said.contains("abc") && said.contains(&record().object_sha256), "{said}");
        assert!(check_bytes(&record(), &record()).is_ok());
    }
}
