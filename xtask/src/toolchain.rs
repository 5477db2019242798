//! The compiler of the eBPF programs: finds one that is there, else installs one, and says which it is.
//!
//! Two providers: Debian's rustc-web with rust-web-src, and rustup's nightly with rust-src. Both are needed for
//! `-Z build-std=core` alone, since the standard library is not shipped for bpfel-unknown-none. Must not build
//! the programs, and must not touch the toolchain that builds the agent.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{debian, process};

/// The release of bpf-linker that is used and installed. 0.13 links bitcode of LLVM 21, 22 and 23.
const BPF_LINKER: &str = "0.13.0";
const BPF_LINKER_LLVM: [&str; 3] = ["21", "22", "23"];
/// The oldest compiler that takes the sources: `rust-version` of the workspace.
const OLDEST_RUSTC: (u32, u32) = (1, 95);

/// Where the compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Provider {
    Debian,
    /// Never tried by the project's own CI, which has no rustup that can download: mend it when you meet it.
    Nightly,
}

/// Everything that compiles the eBPF programs, with the versions that decide what comes out.
pub struct Toolchain {
    provider: Provider,
    /// The compiler as it names itself: "1.96.0 (ac68faa20 2026-05-25)".
    pub rustc: String,
    /// The LLVM that the compiler was built with: "22.1.8".
    pub rustc_llvm: String,
    /// The LLVM of llvm-strip, and on Debian that of bpf-linker too: "22.1.8".
    pub llvm: String,
    /// The linker's version: "0.13.0".
    pub bpf_linker: String,
    /// Where the compiler finds the standard library's sources.
    pub rust_src: PathBuf,
    /// llvm-strip of the compiler's LLVM.
    pub llvm_strip: PathBuf,
    linker: PathBuf,
}

impl Toolchain {
    /// Finds or installs everything, and prints what is used.
    pub fn find_or_install() -> Result<Toolchain> {
        let provider = Provider::find_or_install()?;
        let about = process::capture(provider.command("rustc").arg("-vV"))?;
        let rustc = about.lines().next().and_then(|line| line.strip_prefix("rustc "));
        let rustc = rustc.context("read the version in `rustc -vV`")?.to_owned();
        // Debian adds how it was built in brackets of its own; the version proper ends before them.
        let rustc = rustc.split(" (built").next().unwrap_or_default().to_owned();
        let rustc_llvm = llvm_version(&about).context("read the LLVM version in `rustc -vV`")?.to_owned();
        let major = rustc_llvm.split('.').next().unwrap_or_default().to_owned();
        let llvm_strip = provider.llvm_strip(&major)?;
        let llvm = process::capture(Command::new(&llvm_strip).arg("--version"))?;
        let llvm = llvm_version(&llvm).context("read the LLVM version of llvm-strip")?.to_owned();
        let (linker, bpf_linker) = find_or_install_linker(&major)?;
        let rust_src = provider.rust_src()?;
        println!("  compiler: {} rustc {rustc}, LLVM {rustc_llvm}", provider.name());
        println!("  linker:   {} {bpf_linker}", linker.display());
        println!("  strip:    {} {llvm}", llvm_strip.display());
        Ok(Toolchain { provider, rustc, rustc_llvm, llvm, bpf_linker, rust_src, llvm_strip, linker })
    }

    /// This toolchain's cargo, with the linker on its PATH and nothing left of the cargo that runs us.
    pub fn cargo(&self) -> Result<Command> {
        let mut command = self.provider.command("cargo");
        let linker_dir = self.linker.parent().context("find the folder of bpf-linker")?;
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(linker_dir.to_owned()).chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(dirs).context("put bpf-linker on PATH")?);
        Ok(command)
    }
}

/// Whether a compiler is there or can be installed without asking anyone.
pub fn can_be_had() -> bool {
    debian::can_install() || process::find("rustup").is_some() || Provider::Debian.is_there()
}

impl Provider {
    fn find_or_install() -> Result<Provider> {
        if let Some(found) = [Provider::Debian, Provider::Nightly].into_iter().find(|p| p.is_there()) {
            return Ok(found);
        }
        if debian::can_install() {
            let why = "a Rust compiler with its library's sources, to build the eBPF programs";
            debian::install(&["rustc-web", "cargo-web", "rust-web-src"], why)?;
            if Provider::Debian.is_there() {
                return Ok(Provider::Debian);
            }
            bail!("the rustc-web of this Debian is too old: {}.{} is needed", OLDEST_RUSTC.0, OLDEST_RUSTC.1);
        }
        if process::find("rustup").is_some() {
            println!(
                "  installing with rustup: nightly with rust-src and llvm-tools (to build the eBPF programs)"
            );
            let components = ["--profile", "minimal", "--component", "rust-src", "--component", "llvm-tools"];
            let mut install = Command::new("rustup");
            process::isolate(&mut install).args(["toolchain", "install", "nightly"]).args(components);
            process::run(&mut install)?;
            return Ok(Provider::Nightly);
        }
        bail!(
            "no compiler for the eBPF programs: either (Debian, as root) apt-get install rustc-web cargo-web \
             rust-web-src, or rustup toolchain install nightly --component rust-src --component llvm-tools"
        )
    }

    fn name(self) -> &'static str {
        match self {
            Provider::Debian => "Debian's",
            Provider::Nightly => "rustup's nightly",
        }
    }

    /// A tool of this provider, free of the environment of the cargo that runs us.
    fn command(self, tool: &str) -> Command {
        let mut command = match self {
            Provider::Debian => Command::new(format!("/usr/bin/{tool}")),
            Provider::Nightly => Command::new("rustup"),
        };
        process::isolate(&mut command);
        match self {
            // A release compiler: the variable lets it take -Z build-std.
            Provider::Debian => command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1"),
            Provider::Nightly => command.args(["run", "nightly", tool]),
        };
        command
    }

    /// Whether it can build: a compiler that is new enough, its cargo, and the library's sources.
    fn is_there(self) -> bool {
        let runs = |tool: &str| process::capture(self.command(tool).arg("-vV"));
        let (Ok(rustc), Ok(_)) = (runs("rustc"), runs("cargo")) else { return false };
        release(&rustc).is_some_and(|found| found >= OLDEST_RUSTC) && self.rust_src().is_ok()
    }

    fn sysroot(self) -> Result<PathBuf> {
        let out = process::capture(self.command("rustc").args(["--print", "sysroot"]))?;
        Ok(PathBuf::from(out.trim()))
    }

    fn rust_src(self) -> Result<PathBuf> {
        let dir = self.sysroot()?.join("lib/rustlib/src/rust");
        if !dir.join("library/core/Cargo.toml").exists() {
            bail!("{} has no sources of the standard library in it", dir.display());
        }
        Ok(dir)
    }

    fn llvm_strip(self, major: &str) -> Result<PathBuf> {
        if self == Provider::Nightly {
            let rustlib = self.sysroot()?.join("lib/rustlib");
            let host = process::capture(self.command("rustc").args(["--print", "host-tuple"]))?;
            let file = rustlib.join(host.trim()).join("bin/llvm-strip");
            if process::is_executable(&file) {
                return Ok(file);
            }
        }
        let file = llvm_prefix(major).join("bin/llvm-strip");
        if !process::is_executable(&file) {
            let package = format!("llvm-{major}");
            debian::install(&[&package], "llvm-strip of the LLVM that the compiler uses")?;
        }
        Ok(file)
    }
}

/// Where LLVM is: LLVM_PREFIX, which bpf-linker's build reads too, else the folder of Debian's packages.
fn llvm_prefix(major: &str) -> PathBuf {
    env::var_os("LLVM_PREFIX").map_or_else(|| format!("/usr/lib/llvm-{major}").into(), PathBuf::from)
}

/// bpf-linker from PATH, else from the cache, else built into the cache; with its version.
fn find_or_install_linker(major: &str) -> Result<(PathBuf, String)> {
    let version_of = |file: &Path| {
        let out = process::capture(Command::new(file).arg("--version")).ok()?;
        linker_version(&out).map(str::to_owned)
    };
    let series = |version: &String| version.starts_with("0.13.");
    if let Some(file) = process::find("bpf-linker")
        && let Some(version) = version_of(&file).filter(series)
    {
        return Ok((file, version));
    }
    let root = cache_dir()?.join(format!("loopscope/bpf-linker-{BPF_LINKER}-llvm-{major}"));
    let file = root.join("bin/bpf-linker");
    if let Some(version) = version_of(&file) {
        return Ok((file, version));
    }
    install_linker(major, &root)?;
    let version = version_of(&file).with_context(|| format!("run {} --version", file.display()))?;
    Ok((file, version))
}

fn install_linker(major: &str, root: &Path) -> Result<()> {
    if !BPF_LINKER_LLVM.contains(&major) {
        let known = BPF_LINKER_LLVM.join(", ");
        bail!(
            "the compiler uses LLVM {major}, bpf-linker {BPF_LINKER} knows {known}: take another of either"
        );
    }
    let prefix = llvm_prefix(major);
    // llvm-config comes with the tools, the library to link against with the headers: both are needed.
    if !prefix.join("bin/llvm-config").exists() || !prefix.join("lib/libLLVM.so").exists() {
        let (tools, headers) = (format!("llvm-{major}"), format!("llvm-{major}-dev"));
        debian::install(&[&tools, &headers], "to build bpf-linker against the compiler's LLVM")?;
    }
    let root = root.display();
    println!(
        "  installing with cargo: bpf-linker {BPF_LINKER} into {root} (it links the eBPF programs; 1-2 minutes)"
    );
    let mut install = Command::new("cargo");
    process::isolate(&mut install).env("LLVM_PREFIX", &prefix);
    install.args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--no-default-features"]);
    install.args(["--features", &format!("llvm-{major}"), "--root", &root.to_string()]);
    process::run(&mut install)
}

/// Where tools are kept that were built once.
///
/// # Errors
/// There is neither XDG_CACHE_HOME nor HOME.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir);
    }
    Ok(process::home()
        .context("find a place for tools: neither XDG_CACHE_HOME nor HOME is set")?
        .join(".cache"))
}

/// "22.1.8" from a line with "LLVM version: 22.1.8" (rustc) or "LLVM version 22.1.8" (the tools).
fn llvm_version(text: &str) -> Option<&str> {
    let rest = text.lines().find_map(|line| line.split_once("LLVM version"))?.1;
    rest.trim_start_matches(':').split_whitespace().next()
}

/// (1, 96) from the line "release: 1.96.0" or "release: 1.97.0-nightly".
fn release(about: &str) -> Option<(u32, u32)> {
    let release = about.lines().find_map(|line| line.strip_prefix("release: "))?;
    let mut numbers = release.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// "0.13.0" from "bpf-linker 0.13.0".
fn linker_version(text: &str) -> Option<&str> {
    text.strip_prefix("bpf-linker ")?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                          host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn versions_are_read_from_what_the_tools_print() {
        assert_eq!(release(DEBIAN), Some((1, 96)));
        assert_eq!(release("release: 1.97.0-nightly\n"), Some((1, 97)));
        assert_eq!(release("no release"), None);
        assert_eq!(llvm_version(DEBIAN), Some("22.1.8"));
        assert_eq!(
            llvm_version("llvm-strip, compatible with GNU strip\nDebian LLVM version 22.1.8\n"),
            Some("22.1.8")
        );
        assert_eq!(llvm_version("LLVM"), None);
        assert_eq!(linker_version("bpf-linker 0.13.0\n"), Some("0.13.0"));
        assert_eq!(linker_version("ld 2.40"), None);
    }

    #[test]
    fn old_compilers_are_told_from_new_ones_by_number() {
        assert!(release("release: 1.100.0").is_some_and(|found| found >= OLDEST_RUSTC));
        assert!(release("release: 1.85.0").is_some_and(|found| found < OLDEST_RUSTC));
    }
}
