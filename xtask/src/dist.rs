//! `cargo xtask dist`: what users install, in target/dist: static programs, a Debian package and a tar of each.
//!
//! For each architecture the same files ([`layout`]), so that the package and the tar cannot differ. Must not need
//! anything of the machine that it is installed on: no library, no script.

mod install;
mod layout;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    process, programs,
    vm::{Arch, cross},
};
use layout::Files;

/// Where everything goes, below the workspace.
const DIST: &str = "target/dist";

/// Options of the command.
#[derive(Args)]
pub struct DistArgs {
    /// Only this architecture; repeatable
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// Do not install, run and remove the Debian package in a folder of its own, which takes root
    #[arg(long)]
    no_trial: bool,
}

/// Builds and packs for each architecture, and tries the package of this one.
pub fn run(args: &DistArgs) -> Result<()> {
    let root = process::workspace_root()?;
    let all = [Arch::Amd64, Arch::Arm64];
    let wanted: Vec<Arch> =
        all.into_iter().filter(|arch| args.arch.is_empty() || args.arch.contains(arch)).collect();
    // Its own program is run, to make the man page and the completions of all.
    let own = all.into_iter().find(|arch| arch.is_here()).context("this is neither x86-64 nor arm64")?;
    println!("building a static program for {}", own.triple());
    let own_program = build(&root, own)?;
    let dist = root.join(DIST);
    let files = Files::made_by(&root, &own_program, &dist.join("shared"))?;
    for arch in wanted {
        let program = if arch == own {
            own_program.clone()
        } else {
            println!("building a static program for {}", arch.triple());
            build(&root, arch)?
        };
        pack(&dist, arch, &program, &files)?;
    }
    let package = dist.join(package_name(own));
    if process::is_root() && !args.no_trial && package.exists() {
        install::trial(&package, &dist.join("trial"))?;
    } else {
        println!("no package was tried: that takes root, one for this architecture, and not --no-trial");
    }
    sums(&dist)
}

/// A static program.
fn build(root: &Path, arch: Arch) -> Result<PathBuf> {
    let mut cargo = if arch.is_here() {
        let mut cargo = Command::new("cargo");
        cargo.env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
        cargo
    } else {
        cross(arch)?
    };
    cargo.current_dir(root).args([
        "build",
        "--release",
        "--locked",
        "--package",
        "loopscope",
        "--bin",
        "loopscope",
    ]);
    // With --target, so that the flags are not those of build scripts; in a folder of its own, so that other builds keep theirs.
    cargo.args(["--target", arch.triple(), "--target-dir", "target/static"]);
    let built = programs::build(&mut cargo)?;
    let program =
        built.into_iter().find(|built| built.name == "loopscope").context("cargo built no program")?;
    let about = process::capture(Command::new("readelf").args(["-lW"]).arg(&program.file))?;
    if about.contains("INTERP") {
        bail!("{} needs a loader, so it is not static", program.file.display());
    }
    Ok(program.file)
}

/// The package's file name.
fn package_name(arch: Arch) -> String {
    format!("loopscope_{}_{}.deb", env!("CARGO_PKG_VERSION"), arch.debian())
}

/// The plain program, the package and the tar.
fn pack(dist: &Path, arch: Arch, program: &Path, files: &Files) -> Result<()> {
    let machine = arch.triple().split('-').next().unwrap_or_default();
    let plain = dist.join(machine);
    fs::create_dir_all(&plain)?;
    fs::copy(program, plain.join("loopscope")).with_context(|| format!("copy {}", program.display()))?;
    let tree = fresh(&dist.join("tree"))?;
    files.as_package(program, &tree, arch)?;
    readable(&tree)?;
    let mut deb = Command::new("dpkg-deb");
    process::run(
        deb.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(dist.join(package_name(arch))),
    )?;
    let name = format!("loopscope-{}-{machine}-linux", env!("CARGO_PKG_VERSION"));
    let tree = fresh(&dist.join("tree"))?;
    files.as_folder(program, &tree.join(&name))?;
    readable(&tree)?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&tree).args(["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "-czf"]);
    process::run(tar.arg(dist.join(format!("{name}.tar.gz"))).arg(&name))?;
    fs::remove_dir_all(&tree).context("remove the folder that was packed")
}

/// Lets everybody read a tree and nobody but its owner write it: a builder's umask must not show in a package.
fn readable(tree: &Path) -> Result<()> {
    process::capture(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(tree)).map(drop)
}

/// An empty folder.
fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// Writes SHA256SUMS over the files to hand out, as sha256sum -c reads them, and says what there is.
fn sums(dist: &Path) -> Result<()> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(dist)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".deb") || name.ends_with(".tar.gz") {
            names.push(name);
        }
    }
    names.sort_unstable();
    let text = process::capture(Command::new("sha256sum").current_dir(dist).args(&names))?;
    fs::write(dist.join("SHA256SUMS"), &text)?;
    print!("{text}");
    println!("wrote {}", dist.display());
    Ok(())
}
