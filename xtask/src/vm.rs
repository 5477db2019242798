//! `cargo xtask vm`: the agent on kernels that are not this machine's, in QEMU.
//!
//! Debian's kernels, booted with an archive in memory that holds the agent, the workload and the tests. Must not
//! change the host: packages are unpacked into the user's cache, and nothing is mounted or configured here.

mod build;
mod cpio;
mod document;
mod findings;
mod image;
mod machine;
mod packages;
mod plan;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};

use crate::{debian, process, programs::Built};
use findings::Findings;
use image::{Image, Plan, Step};
use machine::{Boot, Machine};
use packages::Archive;
use plan::{BACKENDS, Job, KINDS, Kind};

/// The series of kernels that are booted.
const SERIES: [&str; 2] = ["6.12", "6.1"];
/// Most machines at once: each has 2 GB.
const MACHINES_MOST: usize = 4;
/// Archives and consoles, below the workspace.
const MACHINES: &str = "target/vm/machines";
/// Time for what `--run` runs.
const RUN: Duration = Duration::from_secs(600);

/// Options of the command.
#[derive(Args, Default)]
pub struct VmArgs {
    /// Only this series of kernels, such as 6.12; repeatable
    #[arg(long, value_name = "SERIES", value_parser = SERIES)]
    kernel: Vec<String>,
    /// Only this architecture; repeatable
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// Only this boot, by its name in --list; repeatable
    #[arg(long, value_name = "NAME", value_parser = KINDS.map(|kind| kind.name))]
    boot: Vec<String>,
    /// Only this backend in the suite; repeatable
    #[arg(long, value_parser = BACKENDS)]
    backend: Vec<String>,
    /// Only this program of tests in the suite, such as exact_sums; repeatable
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
    /// Say what would be booted, and end
    #[arg(long)]
    list: bool,
    /// Write what was seen into docs/kernels.md and docs/kernels.json; what was not booted stays there as it is
    #[arg(long)]
    write: bool,
    /// Boot and run this by a shell instead; `loopscope`, `workload` and a test's name are commands there
    #[arg(long, value_name = "CMD", conflicts_with_all = ["boot", "backend", "test", "write", "list"])]
    run: Option<String>,
    /// With --run: build the tests too, which takes longer
    #[arg(long, requires = "run")]
    tests: bool,
    /// With --run: parameters of the kernel, such as `preempt=full`
    #[arg(long, requires = "run", value_name = "TEXT", default_value = "")]
    parameters: String,
    /// Print what the machines print
    #[arg(long)]
    console: bool,
}

impl VmArgs {
    /// What every run of the tests does: all boots on amd64, and the tests that fit beside all else. 5 minutes.
    pub fn short() -> VmArgs {
        VmArgs {
            arch: vec![Arch::Amd64],
            test: plan::SHORT_TESTS.map(str::to_owned).to_vec(),
            ..VmArgs::default()
        }
    }
}

/// What a machine is built of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Arch {
    /// x86-64
    Amd64,
    /// 64-bit Arm
    Arm64,
}

impl Arch {
    /// As Debian calls it.
    pub fn debian(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// As Rust calls it.
    pub fn triple(self) -> &'static str {
        match self {
            Arch::Amd64 => "x86_64-unknown-linux-gnu",
            Arch::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Whether this machine is of it.
    pub fn is_here(self) -> bool {
        self.triple().starts_with(std::env::consts::ARCH)
    }

    fn qemu(self) -> &'static str {
        match self {
            Arch::Amd64 => "qemu-system-x86_64",
            Arch::Arm64 => "qemu-system-aarch64",
        }
    }

    fn qemu_package(self) -> &'static str {
        match self {
            Arch::Amd64 => "qemu-system-x86",
            Arch::Arm64 => "qemu-system-arm",
        }
    }

    fn qemu_arguments(self) -> &'static [&'static str] {
        match self {
            Arch::Amd64 => &["-cpu", "max"],
            // A server's processor without pointer authentication, whose hash QEMU reckons at every return of a function.
            Arch::Arm64 => &["-machine", "virt", "-cpu", "neoverse-n1"],
        }
    }

    fn console(self) -> &'static str {
        match self {
            Arch::Amd64 => "ttyS0",
            Arch::Arm64 => "ttyAMA0",
        }
    }
}

/// Runs the command.
pub fn run(args: &VmArgs) -> Result<()> {
    let root = process::workspace_root()?;
    if args.list {
        for boot in boots(args) {
            println!("{}: {}", boot.key(), boot.kind.about);
        }
        return Ok(());
    }
    if let Some(command) = &args.run {
        let arches = if args.arch.is_empty() { &[Arch::Amd64][..] } else { &args.arch };
        for arch in arches {
            let prepared = Prepared::new(&root, *arch, args.tests)?;
            let series = args.kernel.iter().map(String::as_str);
            let series: Vec<&str> = if args.kernel.is_empty() { vec![SERIES[0]] } else { series.collect() };
            series.into_iter().try_for_each(|series| prepared.command(series, command, args))?;
        }
        return Ok(());
    }
    let started = Instant::now();
    let (findings, failed) = matrix(&root, args)?;
    println!("vm: all boots took {:.0} s", started.elapsed().as_secs_f64());
    let mut known = document::committed(&root)?;
    let mut wrong = failed;
    if args.write {
        known.merge(findings);
        document::write(&root, &known)?;
    } else {
        wrong.extend(findings.stopped(&known));
    }
    for line in &wrong {
        println!("  FAILED {line}");
    }
    if !wrong.is_empty() {
        bail!("{} things do not work that should; the consoles are in {MACHINES}", wrong.len());
    }
    Ok(())
}

/// One boot of the matrix.
struct Planned {
    arch: Arch,
    series: &'static str,
    kind: &'static Kind,
}

impl Planned {
    /// By which the table knows it.
    fn key(&self) -> String {
        let kernel = format!("{} {}", self.arch.debian(), self.series);
        if self.kind.job == Job::Exact { kernel } else { format!("{kernel} {}", self.kind.name) }
    }
}

/// The boots that the options leave.
fn boots(args: &VmArgs) -> Vec<Planned> {
    let mut planned = Vec::new();
    for arch in [Arch::Amd64, Arch::Arm64] {
        for series in SERIES {
            for kind in &KINDS {
                // Circumstances are the same on every kernel: one of them is enough.
                if kind.job == Job::Exact || (arch == Arch::Amd64 && series == SERIES[0]) {
                    planned.push(Planned { arch, series, kind });
                }
            }
        }
    }
    let asked = |list: &[String], name: &str| list.is_empty() || list.iter().any(|asked| asked == name);
    planned.retain(|boot| {
        asked(&args.kernel, boot.series)
            && asked(&args.boot, boot.kind.name)
            && (args.arch.is_empty() || args.arch.contains(&boot.arch))
    });
    planned
}

/// Boots what is asked for; what was seen, and what failed.
fn matrix(root: &Path, args: &VmArgs) -> Result<(Findings, Vec<String>)> {
    let (mut findings, mut failed) = (Findings::default(), Vec::new());
    let planned = boots(args);
    for arch in [Arch::Amd64, Arch::Arm64] {
        let planned: Vec<&Planned> = planned.iter().filter(|boot| boot.arch == arch).collect();
        if planned.is_empty() {
            continue;
        }
        let prepared = Prepared::new(root, arch, true)?;
        for (boot, done) in prepared.boot_all(&planned, args)? {
            let key = boot.key();
            match done {
                Ok((release, done)) if boot.kind.job == Job::Exact => {
                    match findings.add_suite(&key, &release, &done) {
                        Ok(wrong) => failed.extend(wrong),
                        Err(error) => failed.push(format!("{key}: {error:#}")),
                    }
                }
                Ok((_, done)) => failed.extend(findings.add_short(&key, &done)),
                Err(error) => failed.push(format!("{key}: {error:#}")),
            }
        }
    }
    Ok((findings, failed))
}

/// A release and the file of its kernel.
type Kernel = (String, PathBuf);
/// A kernel's release and what ran there, or why the boot came to no end.
type Booted = Result<(String, Boot)>;

/// What all boots of an architecture need.
struct Prepared {
    arch: Arch,
    archive: Archive,
    image: Image,
    built: Vec<Built>,
    /// For logs and archives.
    folder: PathBuf,
}

impl Prepared {
    fn new(root: &Path, arch: Arch, tests: bool) -> Result<Prepared> {
        println!("vm: {}", arch.debian());
        if process::find(arch.qemu()).is_none() {
            debian::install(&[arch.qemu_package()], "the kernels are booted in it")?;
        }
        let archive = Archive::open(arch, &cache()?)?;
        let built = build::build(root, arch, &archive, tests)?;
        let folder = root.join(MACHINES);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let busybox = archive.unpacked("busybox-static")?.join("bin/busybox");
        let libraries = build::libraries(arch, &built)?;
        let image =
            Image::make(&built, &libraries, &busybox, folder.join(format!("{}.cpio", arch.debian())))?;
        Ok(Prepared { arch, archive, image, built, folder })
    }

    /// The newest kernel of a series: its release and its file.
    fn kernel(&self, series: &str) -> Result<Kernel> {
        let suffix = format!("-cloud-{}", self.arch.debian());
        let package = self.archive.newest(&format!("linux-image-{series}."), &suffix)?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let file = self.archive.unpacked(&package)?.join(format!("boot/vmlinuz-{release}"));
        Ok((release, file))
    }

    /// Boots of the matrix, as many at once as there are processors: one test runs at a time in each, and mostly waits.
    fn boot_all<'a>(&self, planned: &[&'a Planned], args: &VmArgs) -> Result<Vec<(&'a Planned, Booted)>> {
        let mut kernels = BTreeMap::new();
        for boot in planned {
            kernels.insert(boot.series, self.kernel(boot.series)?);
        }
        let next = AtomicUsize::new(0);
        let (sender, done) = mpsc::channel();
        let at_once = thread::available_parallelism().map_or(1, usize::from).min(MACHINES_MOST);
        thread::scope(|scope| {
            for sender in vec![sender; at_once] {
                scope.spawn(|| {
                    let sender = sender;
                    while let Some(boot) = planned.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let booted = match kernels.get(boot.series) {
                            Some(kernel) => self.boot(boot, kernel, args),
                            None => Err(anyhow!("no kernel of series {}", boot.series)),
                        };
                        // The other end is there as long as this scope.
                        let _ = sender.send((*boot, booted));
                    }
                });
            }
        });
        Ok(done.into_iter().collect())
    }

    /// One boot of the matrix.
    fn boot(&self, boot: &Planned, (release, kernel): &Kernel, args: &VmArgs) -> Booted {
        let backends: Vec<&str> = match args.backend.as_slice() {
            [] => BACKENDS.to_vec(),
            asked => asked.iter().map(String::as_str).collect(),
        };
        let plan = boot.kind.plan(self.arch, boot.series, &backends, &args.test, &self.built);
        let (key, name) = (boot.key(), boot.key().replace(' ', "-"));
        let memory = self.image.with(&plan, &name)?;
        println!("  booting {release}: {}", boot.kind.name);
        let machine = Machine {
            arch: self.arch,
            kernel,
            memory: &memory,
            parameters: boot.kind.parameters,
            log: &self.folder.join(format!("{name}.log")),
            shown: args.console,
        };
        let done = machine.run(Duration::from_secs(plan.steps.iter().map(|step| step.seconds).sum()))?;
        fs::remove_file(&memory).with_context(|| format!("remove {}", memory.display()))?;
        for step in &done.steps {
            println!("    {key}: {:<40} {:>6.1} s  {}", step.name, step.seconds, step.status);
        }
        println!("  {release}: {}: {:.1} s", boot.kind.name, done.took.as_secs_f64());
        Ok((release.clone(), done))
    }

    /// Boots for one command of the user's.
    fn command(&self, series: &str, command: &str, args: &VmArgs) -> Result<()> {
        let (release, kernel) = self.kernel(series)?;
        // Tests are known by their names, and take the workload from beside them.
        let tests = self.built.iter().filter(|program| program.is_test);
        let names = tests.map(|test| format!("{}() {{ {} \"$@\"; }}\n", test.name, test.file.display()));
        let script = names.collect::<String>() + command;
        let step = Step {
            name: "run".to_owned(),
            arguments: vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
            environment: plan::environment(&self.built),
            seconds: RUN.as_secs(),
            ..Step::default()
        };
        let name = format!("{}-{series}-run", self.arch.debian());
        let memory = self.image.with(&Plan { steps: vec![step], ..Plan::default() }, &name)?;
        println!("  booting {release}");
        let log = self.folder.join(format!("{name}.log"));
        let machine = Machine {
            arch: self.arch,
            kernel: &kernel,
            memory: &memory,
            parameters: &args.parameters,
            log: &log,
            shown: true,
        };
        let boot = machine.run(RUN)?;
        println!("  {release}: {:.1} s", boot.took.as_secs_f64());
        match boot.steps.iter().find(|step| !step.succeeded()) {
            Some(step) => bail!("the command ended with {}", step.status),
            None => Ok(()),
        }
    }
}

/// A cargo that builds static programs of another architecture, with Debian's compiler.
pub fn cross(arch: Arch) -> Result<std::process::Command> {
    build::cross(&Archive::open(arch, &cache()?)?)
}

/// Where packages are kept.
fn cache() -> Result<PathBuf> {
    let dir = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let dir = dir.or_else(|| Some(process::home()?.join(".cache")));
    Ok(dir.context("find a place for kernels: neither XDG_CACHE_HOME nor HOME is set")?.join("loopscope/vm"))
}
