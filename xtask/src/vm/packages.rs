//! Debian's packages for the machines that are booted: found and fetched by apt with lists of its own, unpacked into
//! the user's cache. Needs no root, installs nothing, and leaves the host's lists, architectures and packages as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::process;

use super::Arch;

/// Age at which the lists are fetched again.
const LISTS_AGE: Duration = Duration::from_secs(24 * 3600);
/// Written once the lists are there.
const FETCHED: &str = "fetched";

/// The archive, for one architecture.
pub struct Archive {
    arch: Arch,
    folder: PathBuf,
}

impl Archive {
    /// With lists that are at most a day old; older ones serve where new ones cannot be had.
    pub fn open(arch: Arch, cache: &Path) -> Result<Archive> {
        if process::find("apt-get").is_none() || process::find("dpkg-deb").is_none() {
            bail!("the kernels are Debian's and come by apt-get and dpkg-deb, which are not on PATH");
        }
        let archive = Archive { arch, folder: cache.join(arch.debian()) };
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = archive.folder.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let stamp = archive.folder.join(FETCHED);
        let age = fs::metadata(&stamp).and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age > LISTS_AGE) {
            println!("  fetching the package lists of {}", arch.debian());
            match process::capture(archive.apt("apt-get").args(["-q", "update"])) {
                Ok(_) => fs::write(&stamp, "").with_context(|| format!("write {}", stamp.display()))?,
                Err(error) if age.is_some() => println!("  going on with older package lists: {error:#}"),
                Err(error) => return Err(error),
            }
        }
        Ok(archive)
    }

    /// The newest package whose name is `prefix`, anything, `suffix`; by the numbers in its name.
    pub fn newest(&self, prefix: &str, suffix: &str) -> Result<String> {
        let names = process::capture(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        // `unsigned` is the same kernel without the signature.
        let fits = names.lines().filter(|name| name.ends_with(suffix) && !name.contains("unsigned"));
        let newest = fits.max_by_key(|name| numbers(name));
        Ok(newest
            .with_context(|| format!("find a package {prefix}*{suffix} in Debian's archive"))?
            .to_owned())
    }

    /// Where the package's files are; fetched and unpacked if they are not.
    pub fn unpacked(&self, package: &str) -> Result<PathBuf> {
        let version = self.version(package)?;
        let folder = self.folder.join(format!("{package}_{}", version.replace(':', "%3a")));
        if folder.is_dir() {
            return Ok(folder);
        }
        println!("  fetching {package} {version} ({})", self.arch.debian());
        let fetched = self.folder.join("fetched-packages");
        fs::create_dir_all(&fetched).with_context(|| format!("create {}", fetched.display()))?;
        let mut download = self.apt("apt-get");
        process::capture(download.current_dir(&fetched).args(["-q", "download", package]))?;
        let file = fs::read_dir(&fetched)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| is_package(&name.to_string_lossy(), package)))
            .with_context(|| format!("find what apt-get download {package} wrote"))?;
        let partial = folder.with_extension("partial");
        process::capture(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&partial))?;
        fs::rename(&partial, &folder).with_context(|| format!("name {}", folder.display()))?;
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        Ok(folder)
    }

    fn version(&self, package: &str) -> Result<String> {
        let policy = process::capture(self.apt("apt-cache").args(["policy", package]))?;
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        Ok(candidate
            .with_context(|| format!("find the package {package} of {}", self.arch.debian()))?
            .to_owned())
    }

    /// A program of apt that sees this architecture alone, and lists of ours.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let arch = self.arch.debian();
        let folder = self.folder.display();
        for option in [
            format!("APT::Architecture={arch}"),
            format!("APT::Architectures={arch}"),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            "Dir::State::status=/dev/null".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        // As root apt fetches as another user, who cannot write into the cache of this one.
        if process::is_root() {
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        command
    }
}

/// Whether a file that apt-get wrote is of this package.
fn is_package(file: &str, package: &str) -> bool {
    file.ends_with(".deb") && file.split('_').next() == Some(package)
}

/// The numbers in a name, in their order.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_found_by_number() {
        let names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
        assert_eq!(names.into_iter().max_by_key(|name| numbers(name)), Some(names[1]));
        assert_eq!(numbers("linux-image-6.12.117+deb12-cloud-arm64"), [6, 12, 117, 12, 64]);
    }

    #[test]
    fn a_fetched_file_is_told_from_others() {
        assert!(is_package("busybox-static_1%3a1.35.0-4_arm64.deb", "busybox-static"));
        assert!(!is_package("busybox_1%3a1.35.0-4_arm64.deb", "busybox-static"));
        assert!(!is_package("busybox-static_1.deb.partial", "busybox-static"));
    }
}
