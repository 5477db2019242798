//! Loading: from the embedded object to probes that run; attaching is in `attach`.

use std::{
    mem,
    os::fd::{AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, HashMap, RingBuf},
};
use aya_log::EbpfLogger;
use loopscope_probe::object::object;

use super::{
    Kernel,
    attach::{Attacher, Ways},
    direct,
    fentry::{self, Inherited},
    hot,
    offsets::{self, Globals, KERNEL_BTF},
    probelog::Stderr,
    programs::{self, Purpose},
    read_iterator, run_time,
    table::{NEEDS, PROBES, Probe, Serves, probe_of_call},
    whole::Whole,
};

/// Bytes of the log's ring buffer while the log is off: the smallest that the kernel takes.
const LOG_OFF_BYTES: u32 = 4096;

/// What to watch; empty lists mean everything.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Process ids, as the host counts; at most [`Watched::MAX_PIDS`].
    pub pids: Vec<u32>,
    /// Cgroups of the v2 hierarchy: (kernfs id, depth below the root); at most [`Watched::MAX_CGROUPS`].
    pub cgroups: Vec<(u64, u64)>,
    /// Only the descendants of this process.
    pub descendants: bool,
}

impl Watched {
    /// Process ids at most.
    pub const MAX_PIDS: usize = 1024;
    /// Cgroups at most.
    pub const MAX_CGROUPS: usize = 16;

    /// Nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.pids.is_empty() && self.cgroups.is_empty() && !self.descendants
    }
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Another BTF file than the kernel's own.
    pub btf: Option<PathBuf>,
    /// Level of the probes' log: 0 off, 1 error to 5 trace.
    pub log_level: u8,
    /// What to watch.
    pub watched: Watched,
    /// The ways that may be tried.
    pub ways: Ways,
    /// Whether the lengths of ready lists are measured.
    pub backlog: bool,
    /// The process whose instances' events are counted by the entries that deliver them.
    pub hot: Option<u32>,
    /// Whether the kernel measures what the runs of the programs take.
    pub run_times: bool,
    /// The probes to attach, by their numbers in [`loopscope_probe::probe`]; None: all.
    pub only: Option<&'static [usize]>,
}

impl Options {
    /// The probes to attach.
    fn probes(&self) -> impl Iterator<Item = &'static Probe> {
        PROBES.iter().filter(|probe| self.only.is_none_or(|only| only.contains(&probe.index)))
    }
}

impl Kernel {
    /// Loads and attaches every probe. `epoll` is an epoll descriptor of this process, from which the probes
    /// learn how to tell an epoll file; waits that are in progress are noted before the first probe runs.
    ///
    /// A probe that does not attach is no error: see [`Kernel::probes`].
    ///
    /// # Errors
    /// No BTF, a kernel field that nothing works without is missing, or the programs that read the records or end
    /// them are refused.
    pub fn start(options: &Options, epoll: BorrowedFd<'_>) -> Result<Kernel> {
        let started = Instant::now();
        let path = options.btf.as_deref().unwrap_or(Path::new(KERNEL_BTF));
        let (globals, btf, loader) = read_types(path)?;
        if !options.watched.cgroups.is_empty()
            && let Some(lacks) = globals.lacks(Serves::Cgroups)
        {
            bail!("cannot filter by cgroup on this kernel: {lacks}");
        }
        let backlog = options.backlog && globals.lacks(Serves::Backlog).is_none();
        let mut ebpf = load_object(loader, options, &globals, backlog, &btf, epoll)?;
        fill_filters(&mut ebpf, &options.watched)?;
        let mut wanted: Vec<_> = programs::ITERATORS.iter().map(|name| (*name, Purpose::Tasks)).collect();
        wanted.push((programs::INTEREST, Purpose::Tasks));
        let rows: Vec<&Probe> = options.probes().collect();
        wanted.extend(programs::of_events(&rows));
        let functions = fentry::allowed(&mut ebpf, &btf, options.ways);
        match &functions {
            Ok(()) => wanted.extend(programs::of_functions(&rows)),
            Err(_) if options.ways.tracepoint => wanted.extend(programs::of_syscalls(&rows)),
            Err(_) => {}
        }
        let mut loaded = programs::load(&mut ebpf, &btf, &wanted);
        for name in programs::ITERATORS {
            loaded.of(name).with_context(|| format!("the kernel refuses the iterator {name}"))?;
        }
        read_iterator(&mut ebpf, "seed", &mut Vec::new()).context("cannot list the waits in progress")?;
        let interest = match globals.lacks(Serves::Interest) {
            None => loaded.of(programs::INTEREST).map_err(|error| format!("{error:#}")),
            Some(lacks) => Err(lacks),
        };
        let entries = ebpf.take_map("ENTRIES").context("the probe object has no map ENTRIES")?;
        let mut entries = RingBuf::try_from(entries)?;
        if let (Some(process), Ok(())) = (options.hot, &interest) {
            hot::note_instances(&mut ebpf, &mut entries, process)?;
        }
        // Before the first run.
        let stats = options.run_times.then(run_time::enable).transpose()?;
        let needs = NEEDS.iter().filter_map(|(probe, what)| Some((*probe, globals.lacks(*what)?)));
        let lacking: Vec<(usize, String)> = needs.collect();
        let attacher = Attacher {
            ebpf: &mut ebpf,
            btf: &btf,
            ways: options.ways,
            loaded: &mut loaded,
            functions,
            inherited: Inherited::default(),
        };
        let (probes, inherited) = attacher.all(&rows, &lacking);
        let whole = Whole::of(&ebpf)?;
        let events = ebpf.take_map("EVENTS").context("the probe object has no map EVENTS")?;
        let events = RingBuf::try_from(events)?;
        let log = match options.log_level {
            0 => None,
            _ => {
                Some(EbpfLogger::init_with_logger(&mut ebpf, Stderr).context("cannot read the probes' log")?)
            }
        };
        let start_time = started.elapsed();
        drop(btf);
        release_memory();
        Ok(Kernel {
            ebpf,
            whole,
            inherited,
            events,
            entries,
            log,
            stats,
            probes,
            backlog,
            interest,
            start_time,
        })
    }
}

/// Gives the memory that loading took, some 40 MB for BTF and the object, back to the kernel: the agent stays for long.
fn release_memory() {
    // SAFETY: malloc_trim touches no memory that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Reads the kernel's types: for the offsets, for aya's programs, and a third time because aya's loader does so by
/// itself when it is made. Side by side, since each takes about 10 ms.
fn read_types(path: &Path) -> Result<(Globals, Btf, EbpfLoader<'static>)> {
    let (globals, btf, loader) = thread::scope(|scope| {
        let globals = scope.spawn(|| offsets::globals(path));
        let loader = scope.spawn(EbpfLoader::new);
        let btf = Btf::parse_file(path, aya::Endianness::default());
        (globals.join(), btf, loader.join())
    });
    let ended = |_| anyhow!("a thread that reads the kernel's types ended early");
    let globals = globals.map_err(ended)??;
    let btf = btf.with_context(|| format!("cannot use {}", path.display()))?;
    Ok((globals, btf, loader.map_err(ended)?))
}

/// Parses the object, creates its maps and injects the globals.
fn load_object(
    loader: EbpfLoader<'static>,
    options: &Options,
    globals: &Globals,
    backlog: bool,
    btf: &Btf,
    epoll: BorrowedFd<'_>,
) -> Result<Ebpf> {
    let cpus =
        u32::try_from(aya::util::nr_cpus().map_err(|(path, error)| anyhow!("cannot read {path}: {error}"))?)?;
    let pids = u32::try_from(options.watched.pids.len())?;
    let cgroups = u32::try_from(options.watched.cgroups.len())?;
    let epoll = u32::try_from(epoll.as_raw_fd())?;
    let mut values = globals.values.clone();
    values.extend([
        ("CPUS", cpus),
        ("AGENT_EPFD", epoll),
        ("FILTER_PIDS", pids),
        ("FILTER_CGROUPS", cgroups),
    ]);
    values.extend([("FILTER_TREE", options.watched.descendants.into()), ("BACKLOG", backlog.into())]);
    values.push(("HOT", options.hot.unwrap_or(0)));
    let mut loader: EbpfLoader<'_> = loader;
    loader.btf(Some(btf)).allow_unsupported_maps();
    for (global, value) in &values {
        loader.override_global(global, value, true);
    }
    let calls = probe_of_call();
    let read_type = globals.direct.map_or(0, |direct| direct.structure);
    loader.override_global("PROBE_OF_CALL", &calls, true);
    loader.override_global(aya_log::LEVEL, &options.log_level, true);
    if options.log_level == 0 {
        loader.map_max_entries("AYA_LOGS", LOG_OFF_BYTES);
    }
    if options.hot.is_none() {
        hot::shrink(&mut loader);
    }
    loader.override_global("READ_TYPE", &read_type, true);
    let mut object = replacement()?.unwrap_or_else(|| object().to_vec());
    direct::link(&mut object, globals.direct);
    loader.load(&object).map_err(|error| anyhow!(explain(&error)))
}

/// Another object than the embedded one, for tests of a rebuilt one: named by LOOPSCOPE_PROBE_OBJECT.
fn replacement() -> Result<Option<Vec<u8>>> {
    let Some(path) = std::env::var_os("LOOPSCOPE_PROBE_OBJECT").map(PathBuf::from) else {
        return Ok(None);
    };
    eprintln!("loopscope: using the probes in {} (LOOPSCOPE_PROBE_OBJECT)", path.display());
    std::fs::read(&path).map(Some).with_context(|| format!("cannot read the probe object {}", path.display()))
}

/// Writes the filters; before anything is attached, so that no update disturbs a probe.
fn fill_filters(ebpf: &mut Ebpf, watched: &Watched) -> Result<()> {
    let mut pids: HashMap<_, u32, u32> =
        ebpf.map_mut("PIDS").context("the probe object has no map PIDS")?.try_into()?;
    for pid in &watched.pids {
        pids.insert(pid, 1, 0).context("cannot tell the probes which processes to watch")?;
    }
    let mut cgroups: Array<_, [u64; 2]> =
        ebpf.map_mut("CGROUPS").context("the probe object has no map CGROUPS")?.try_into()?;
    for (i, (id, level)) in (0..).zip(&watched.cgroups) {
        cgroups.set(i, [*id, *level], 0).context("cannot tell the probes which cgroups to watch")?;
    }
    Ok(())
}

/// One line for an error of aya: its chain of causes, and of a verifier's log the last two lines, where the
/// reason is.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    if let Some((head, log)) = text.split_once("Verifier output:") {
        let last: Vec<&str> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(4).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
        // A kernel that takes no such program says nothing of its own.
        let head = if last.is_empty() { head.trim_end_matches(['.', ' ', '\n']) } else { head };
        text = if last.is_empty() { head.to_owned() } else { format!("{head}the verifier says: {last}") };
    }
    mem::take(&mut text).split_whitespace().collect::<Vec<_>>().join(" ")
}
