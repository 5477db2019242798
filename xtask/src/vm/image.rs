//! What a machine has in its memory: programs at the paths that they have here, since the tests name them so, a shell,
//! and the plan of one boot. Must not take anything of the host but what was built for the machine, and its libraries.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::programs::Built;

use super::cpio::Archive;

/// What the first process does: `agent/examples/vm_init` reads the same.
#[derive(Clone, Default, Serialize)]
pub struct Plan {
    /// File systems that are not mounted.
    pub unmounted: Vec<String>,
    /// Folders over which an empty one is mounted.
    pub hidden: Vec<String>,
    /// Text for files of /proc and /sys.
    pub settings: BTreeMap<String, String>,
    /// One after the other.
    pub steps: Vec<Step>,
}

/// One program to run.
#[derive(Clone, Default, Serialize)]
pub struct Step {
    /// What its lines on the console are known by; no spaces.
    pub name: String,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// Variables beside PATH and HOME.
    pub environment: BTreeMap<String, String>,
    /// Time after which it is ended, seconds.
    pub seconds: u64,
    /// Capabilities that it does not have, by number.
    pub without: Vec<u32>,
    /// Its user; None: root.
    pub user: Option<u32>,
}

/// The part that all boots of an architecture share, as a file.
pub struct Image {
    base: PathBuf,
}

impl Image {
    /// Writes it. `busybox` is a program of the machine's architecture.
    pub fn make(
        built: &[Built],
        libraries: &BTreeSet<PathBuf>,
        busybox: &Path,
        base: PathBuf,
    ) -> Result<Image> {
        let file = File::create(&base).with_context(|| format!("write {}", base.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        let mut add = |path: &str, from: &Path| -> Result<()> {
            let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
            archive.file(path, &content).with_context(|| format!("write {}", base.display()))
        };
        add("/bin/busybox", busybox)?;
        for library in libraries {
            add(&library.to_string_lossy(), library)?;
        }
        for program in built {
            let path = match program.name.as_str() {
                "vm_init" => "/init",
                _ => &program.file.to_string_lossy(),
            };
            add(path, &program.file)?;
        }
        for name in ["sh", "cat", "ls", "mount", "umount", "dmesg", "sleep", "chmod", "uname", "grep"] {
            archive.link(&format!("/bin/{name}"), "busybox")?;
        }
        for program in built.iter().filter(|program| !program.is_test && program.name != "vm_init") {
            archive.link(&format!("/bin/{}", program.name), &program.file.to_string_lossy())?;
        }
        for folder in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/vm"] {
            archive.folder(folder)?;
        }
        archive.device("/dev/console", 5, 1)?;
        archive.finish()?;
        Ok(Image { base })
    }

    /// The same with a plan, as the kernel unpacks it: one archive behind the other, in a file of this boot's own.
    pub fn with(&self, plan: &Plan, boot: &str) -> Result<PathBuf> {
        let file = self.base.with_file_name(format!("{boot}.cpio"));
        fs::copy(&self.base, &file).with_context(|| format!("write {}", file.display()))?;
        let out = File::options().append(true).open(&file)?;
        let mut archive = Archive::new(BufWriter::new(&out));
        archive.file("/vm/plan.json", &serde_json::to_vec(plan)?)?;
        archive.finish()?;
        (&out).flush()?;
        Ok(file)
    }
}
