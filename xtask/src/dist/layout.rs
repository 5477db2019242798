//! Which files a user gets, and where they go in a Debian package and in a tar: one table for both.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{process, vm::Arch};

/// A file: where it comes from (below the workspace, or made), its place below / in a package, and in the tar.
struct File {
    from: PathBuf,
    package: &'static str,
    folder: &'static str,
}

/// Files of the sources: (below the workspace, in a package, in the tar).
const COPIED: [(&str, &str, &str); 6] = [
    ("packaging/systemd/loopscope.service", "usr/lib/systemd/system/loopscope.service", "loopscope.service"),
    ("packaging/systemd/agent.toml", "etc/loopscope/agent.toml", "agent.toml"),
    ("README.md", "usr/share/doc/loopscope/README.md", "README.md"),
    ("CHANGELOG.md", "usr/share/doc/loopscope/CHANGELOG.md", "CHANGELOG.md"),
    ("LICENSE-MIT", "usr/share/doc/loopscope/LICENSE-MIT", "LICENSE-MIT"),
    ("LICENSE-APACHE", "usr/share/doc/loopscope/LICENSE-APACHE", "LICENSE-APACHE"),
];

/// The manual page, before it is compressed.
const MANUAL: &str = "usr/share/man/man8/loopscope.8";

/// What the program writes itself: (its arguments, file, in a package, in the tar).
const MADE: [(&[&str], &str, &str, &str); 4] = [
    (&["man"], "loopscope.8", MANUAL, "man/loopscope.8"),
    (
        &["completions", "bash"],
        "loopscope.bash",
        "usr/share/bash-completion/completions/loopscope",
        "completions/loopscope.bash",
    ),
    (
        &["completions", "zsh"],
        "_loopscope",
        "usr/share/zsh/vendor-completions/_loopscope",
        "completions/_loopscope",
    ),
    (
        &["completions", "fish"],
        "loopscope.fish",
        "usr/share/fish/vendor_completions.d/loopscope.fish",
        "completions/loopscope.fish",
    ),
];

/// Everything but the program.
pub struct Files(Vec<File>);

impl Files {
    /// Those of the sources, and those that `program`, which runs here, writes into `made`.
    pub fn made_by(root: &Path, program: &Path, made: &Path) -> Result<Files> {
        fs::create_dir_all(made).with_context(|| format!("make {}", made.display()))?;
        let mut files: Vec<File> = COPIED
            .iter()
            .map(|(from, package, folder)| File { from: root.join(from), package, folder })
            .collect();
        for (arguments, name, package, folder) in MADE {
            let text = process::capture(Command::new(program).args(arguments))?;
            let from = made.join(name);
            fs::write(&from, text).with_context(|| format!("write {}", from.display()))?;
            files.push(File { from, package, folder });
        }
        Ok(Files(files))
    }

    /// The tree that `dpkg-deb --build` packs.
    pub fn as_package(&self, program: &Path, tree: &Path, arch: Arch) -> Result<()> {
        put(program, &tree.join("usr/bin/loopscope"), 0o755)?;
        for file in &self.0 {
            put(&file.from, &tree.join(file.package), 0o644)?;
        }
        process::capture(Command::new("gzip").args(["-9n"]).arg(tree.join(MANUAL)))?;
        let control = tree.join("DEBIAN");
        fs::create_dir_all(&control)?;
        fs::write(control.join("control"), control_text(arch))?;
        // What the administrator changes there stays through an upgrade.
        fs::write(control.join("conffiles"), "/etc/loopscope/agent.toml\n")?;
        Ok(())
    }

    /// The folder that the tar holds.
    pub fn as_folder(&self, program: &Path, folder: &Path) -> Result<()> {
        put(program, &folder.join("loopscope"), 0o755)?;
        self.0.iter().try_for_each(|file| put(&file.from, &folder.join(file.folder), 0o644))
    }

    /// Where a package puts files, below /.
    pub fn places() -> impl Iterator<Item = String> {
        let places =
            COPIED.iter().map(|(_, place, _)| place).chain(MADE.iter().map(|(_, _, place, _)| place));
        places
            .map(|place| if *place == MANUAL { format!("{place}.gz") } else { (*place).to_owned() })
            .chain(["usr/bin/loopscope".to_owned()])
    }
}

/// Copies a file with these permissions.
fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let parent = to.parent().context("find the folder of a file")?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("permit {}", to.display()))
}

/// DEBIAN/control (deb-control(5)). Nothing is depended on: the program is static, and the unit starts only where an
/// administrator enables it.
fn control_text(arch: Arch) -> String {
    format!(
        "Package: loopscope\nVersion: {}\nArchitecture: {}\nSection: admin\nPriority: optional\n\
         Maintainer: the loopscope contributors <loopscope@localhost>\n\
         Description: sees, from the kernel, what every event loop of this host does\n \
         Waits, busy times, ready lists and watched descriptors of every loop on epoll, poll,\n \
         select, io_uring and AIO: as a live view, as reports and as metrics for Prometheus.\n \
         .\n To have the metrics always: systemctl enable --now loopscope\n",
        env!("CARGO_PKG_VERSION"),
        arch.debian()
    )
}
