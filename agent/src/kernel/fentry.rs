//! Programs on the functions that system calls enter by: which they are, whether the kernel takes such programs, and the
//! ends of waits that began before them. Names of functions stand here alone.

use std::{
    any::Any,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use aya::{
    Btf, Ebpf,
    programs::{FEntry, FExit, TracePoint},
};
use loopscope_probe::probe;

use super::{
    attach::{Ways, find},
    load::explain,
    preempt::Preemption,
    programs::{self, Purpose, Verdicts},
};

/// The function that a system call enters by: `long NAME(const struct pt_regs *regs)`.
#[derive(Debug)]
pub struct Function {
    /// The number of its probe.
    pub probe: usize,
    /// The names that it may have in BTF.
    pub names: &'static [&'static str],
    /// The program at its entry, for calls that wait.
    pub entry: Option<&'static str>,
    /// The program at its exit.
    pub exit: &'static str,
    /// The tracepoint of its exit.
    point: &'static str,
}

/// The name of a call's function (arch/x86/include/asm/syscall_wrapper.h).
#[cfg(target_arch = "x86_64")]
macro_rules! function {
    ($call:literal) => {
        concat!("__x64_sys_", $call)
    };
}

/// As above (arch/arm64/include/asm/syscall_wrapper.h).
#[cfg(target_arch = "aarch64")]
macro_rules! function {
    ($call:literal) => {
        concat!("__arm64_sys_", $call)
    };
}

/// A call of which the exit alone is of interest.
macro_rules! exit {
    ($probe:ident, $call:literal) => {
        Function {
            probe: probe::$probe,
            names: &[function!($call)],
            entry: None,
            exit: concat!("fexit_", $call),
            point: concat!("sys_exit_", $call),
        }
    };
}

/// A call that waits.
macro_rules! wait {
    ($probe:ident, $call:literal) => {
        Function { entry: Some(concat!("fentry_", $call)), ..exit!($probe, $call) }
    };
}

/// Of every call that is observed. The compiler cannot put copies of them into callers, which are a table or a switch in
/// another file.
pub const FUNCTIONS: &[Function] = &[
    #[cfg(target_arch = "x86_64")]
    exit!(EPOLL_CREATE, "epoll_create"),
    exit!(EPOLL_CREATE1, "epoll_create1"),
    exit!(EPOLL_CTL, "epoll_ctl"),
    exit!(IO_URING_SETUP, "io_uring_setup"),
    #[cfg(target_arch = "x86_64")]
    wait!(EPOLL_WAIT, "epoll_wait"),
    wait!(EPOLL_PWAIT, "epoll_pwait"),
    wait!(EPOLL_PWAIT2, "epoll_pwait2"),
    #[cfg(target_arch = "x86_64")]
    wait!(POLL, "poll"),
    wait!(PPOLL, "ppoll"),
    #[cfg(target_arch = "x86_64")]
    wait!(SELECT, "select"),
    wait!(PSELECT6, "pselect6"),
    wait!(IO_URING_ENTER, "io_uring_enter"),
    wait!(IO_GETEVENTS, "io_getevents"),
    wait!(IO_PGETEVENTS, "io_pgetevents"),
    Function {
        // Of a call without arguments the architecture's name is an alias, which BTF does not have.
        names: &[function!("restart_syscall"), "__do_sys_restart_syscall"],
        ..exit!(RESTART_SYSCALL, "restart_syscall")
    },
];

/// Which of them is tried first: its program is among the smallest, and every kernel has it.
const TRIAL: usize = probe::EPOLL_CREATE1;

/// How long the ends of earlier waits are looked for: meanwhile every call of the host pays for it.
const INHERITED_FOR: Duration = Duration::from_secs(60);

/// The function of a probe.
///
/// # Errors
/// There is none.
fn of(probe: usize) -> Result<&'static Function> {
    let function = FUNCTIONS.iter().find(|function| function.probe == probe);
    function.context("no function of the kernel stands for this call")
}

/// Whether programs on functions are to be used: by how the kernel preempts, where there are other ways, and by one
/// program, so that a kernel that takes none costs next to nothing.
///
/// # Errors
/// Why not, in one line.
pub fn allowed(ebpf: &mut Ebpf, btf: &Btf, ways: Ways) -> Result<(), String> {
    if !ways.fentry {
        return Err("it was not to be tried".to_owned());
    }
    if let Some(reason) = Preemption::here().skips().filter(|_| ways.tracepoint || ways.raw) {
        return Err(reason.to_owned());
    }
    try_one(ebpf, btf).map_err(|error| format!("the kernel takes no programs on its functions: {error:#}"))
}

/// Loads and attaches one program, and lets go of it.
fn try_one(ebpf: &mut Ebpf, btf: &Btf) -> Result<()> {
    let function = of(TRIAL)?;
    programs::load(ebpf, btf, &[(function.exit, Purpose::Exit(function.names))]).of(function.exit)?;
    let program: &mut FExit = find(ebpf, function.exit)?.try_into()?;
    let attached = program.attach().and_then(|link| program.detach(link));
    attached.map_err(|error| anyhow!(explain(&error)))
}

/// Attaches the programs of a probe, the entry first: an exit's runs only where the entry's did.
///
/// # Errors
/// The kernel refuses one of them.
pub fn attach(ebpf: &mut Ebpf, loaded: &Verdicts, probe: usize) -> Result<()> {
    let function = of(probe)?;
    let failed = |error: &dyn std::error::Error| anyhow!("{}: {}", function.names.join(", "), explain(error));
    for program in function.entry.into_iter().chain([function.exit]) {
        loaded.of(program)?;
    }
    if let Some(entry) = function.entry {
        let program: &mut FEntry = find(ebpf, entry)?.try_into()?;
        program.attach().map_err(|error| failed(&error))?;
    }
    let program: &mut FExit = find(ebpf, function.exit)?.try_into()?;
    program.attach().map_err(|error| failed(&error))?;
    Ok(())
}

/// Tracepoints that see the ends of waits that were in a function when programs were attached to it: at its exit only such
/// calls are seen as entered after. A wait that outlasts them, or where they cannot be had, is over for us when its thread
/// waits again; it enters no count in any case.
#[derive(Default)]
pub struct Inherited(Option<(Instant, Vec<Box<dyn Any + Send>>)>);

impl Inherited {
    /// Begins to look for them.
    pub fn watch(ebpf: &mut Ebpf, loaded: &Verdicts) -> Inherited {
        if loaded.of(programs::INHERITED).is_err() {
            return Inherited(None);
        }
        let waits = FUNCTIONS.iter().filter(|function| function.entry.is_some());
        let links = waits.filter_map(|function| {
            let program: &mut TracePoint = find(ebpf, programs::INHERITED).ok()?.try_into().ok()?;
            let link = program.attach("syscalls", function.point).ok()?;
            Some(Box::new(program.take_link(link).ok()?) as Box<dyn Any + Send>)
        });
        Inherited(Some((Instant::now(), links.collect())))
    }

    /// Ends that when it has lasted long enough. In a thread: the kernel waits for all CPUs once for each tracepoint.
    pub fn leave_in_time(&mut self) {
        if let Some((_, links)) = self.0.take_if(|(since, _)| since.elapsed() >= INHERITED_FOR) {
            thread::spawn(move || drop(links));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::table::{Hook, PROBES};

    #[test]
    fn every_probe_of_a_system_call_has_one_function_with_an_entry_where_its_tracepoints_have_one() {
        for probe in PROBES {
            let functions: Vec<_> =
                FUNCTIONS.iter().filter(|function| function.probe == probe.index).collect();
            let Hook::Syscall(points) = probe.hook else {
                assert!(functions.is_empty());
                continue;
            };
            let [function] = functions[..] else { panic!("{}", probe.name()) };
            assert!(function.names.iter().all(|name| name.ends_with(probe.name())), "{function:?}");
            assert_eq!(function.point, points.last().unwrap().0);
            assert_eq!(function.entry.is_some(), points.len() == 2, "{function:?}");
        }
        assert!(of(TRIAL).is_ok());
    }
}
