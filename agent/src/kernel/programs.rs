//! Loading programs: each is verified by the kernel, which is most of a start, so they are loaded side by side (the
//! kernel takes no lock over verification for a privileged caller). Attaching is in `load`.

use std::{
    collections::HashMap,
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Result, anyhow, bail};
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, FExit, Iter, Program, ProgramError, TracePoint},
};

use super::{
    fentry::FUNCTIONS,
    load::explain,
    table::{Hook, Probe},
};

/// Threads at most: 19 programs are loaded, and the dearest takes a sixth of the time of all.
const THREADS: usize = 6;

/// What a program is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An iterator over tasks.
    Tasks,
    /// A tracepoint that is attached by its number.
    TracePoint,
    /// A tracepoint of this name that is attached by its type.
    Btf(&'static str),
    /// The entry of the function that has the first of these names that there is.
    Entry(&'static [&'static str]),
    /// As above, its exit.
    Exit(&'static [&'static str]),
}

/// The iterators: without them there is nothing to show.
pub const ITERATORS: &[&str] = &["sample", "seed"];
/// The iterator over interest sets: without it they are not shown.
pub const INTEREST: &str = "interest";
/// The programs of the raw backend, and their tracepoints.
pub const RAW: &[&str] = &["sys_enter", "sys_exit"];

/// The program that sees the ends of waits that were in a function when programs were attached to it.
pub const INHERITED: &str = "exit_inherited";

/// The way of a program of system calls that serves no probe alone.
pub fn way(program: &str) -> &'static str {
    if RAW.contains(&program) { "raw" } else { "tracepoint" }
}

/// What the kernel said of each program that was loaded: None where it took it, else why not.
pub struct Verdicts(HashMap<String, Option<String>>);

impl Verdicts {
    /// # Errors
    /// The kernel refused this program, or it was not to be loaded.
    pub fn of(&self, program: &str) -> Result<()> {
        match self.0.get(program) {
            Some(None) => Ok(()),
            Some(Some(error)) => bail!("{error}"),
            None => bail!("the probe object has no program {program}"),
        }
    }

    /// Whether nothing was said of this program: it was not loaded yet.
    pub fn lacks(&self, program: &str) -> bool {
        !self.0.contains_key(program)
    }

    /// Adds what was said of further programs.
    pub fn extend(&mut self, others: Verdicts) {
        self.0.extend(others.0);
    }
}

/// The programs of probes that are no system call's.
pub fn of_events(probes: &[&'static Probe]) -> Vec<(&'static str, Purpose)> {
    let events = probes.iter().filter_map(|probe| match probe.hook {
        Hook::Btf(tracepoint, program) => Some((program, Purpose::Btf(tracepoint))),
        Hook::Syscall(_) => None,
    });
    events.collect()
}

/// The programs on the tracepoints of single calls.
pub fn of_syscalls(probes: &[&'static Probe]) -> Vec<(&'static str, Purpose)> {
    let points = probes.iter().filter_map(|probe| match probe.hook {
        Hook::Syscall(points) => Some(points),
        Hook::Btf(..) => None,
    });
    points.flatten().map(|(_, program)| (*program, Purpose::TracePoint)).collect()
}

/// The programs on the functions of single calls, and what goes with them.
pub fn of_functions(probes: &[&'static Probe]) -> Vec<(&'static str, Purpose)> {
    let mut programs = vec![(INHERITED, Purpose::TracePoint)];
    let functions = FUNCTIONS.iter();
    for function in functions.filter(|function| probes.iter().any(|probe| probe.index == function.probe)) {
        programs.extend(function.entry.map(|entry| (entry, Purpose::Entry(function.names))));
        programs.push((function.exit, Purpose::Exit(function.names)));
    }
    programs
}

/// Loads these programs of the object. The first are begun first.
pub fn load(ebpf: &mut Ebpf, btf: &Btf, wanted: &[(&'static str, Purpose)]) -> Verdicts {
    let rank = |name: &str| wanted.iter().position(|(wanted, _)| *wanted == name);
    let mut queue: Vec<(usize, &str, &mut Program)> =
        ebpf.programs_mut().filter_map(|(name, program)| Some((rank(name)?, name, program))).collect();
    // The last is taken first.
    queue.sort_by_key(|(rank, ..)| std::cmp::Reverse(*rank));
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS).min(queue.len());
    let queue = Mutex::new(queue);
    let verdicts = Mutex::new(HashMap::new());
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((rank, name, program)) = next else {
                return;
            };
            let purpose = wanted.get(rank).map_or(Purpose::TracePoint, |(_, purpose)| *purpose);
            let error = one(program, purpose, btf).err().map(|error| format!("{error:#}"));
            verdicts.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), error);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    Verdicts(verdicts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Loads one program.
fn one(program: &mut Program, purpose: Purpose, btf: &Btf) -> Result<()> {
    let result =
        match purpose {
            Purpose::Tasks => <&mut Iter>::try_from(program).and_then(|program| program.load("task", btf)),
            Purpose::TracePoint => <&mut TracePoint>::try_from(program).and_then(TracePoint::load),
            Purpose::Btf(tracepoint) => {
                <&mut BtfTracePoint>::try_from(program).and_then(|program| program.load(tracepoint, btf))
            }
            Purpose::Entry(names) => <&mut FEntry>::try_from(program)
                .and_then(|program| first(names, |name| program.load(name, btf))),
            Purpose::Exit(names) => <&mut FExit>::try_from(program)
                .and_then(|program| first(names, |name| program.load(name, btf))),
        };
    match result {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(error) => Err(anyhow!(explain(&error))),
    }
}

/// Loads by the first name that there is.
fn first(names: &[&str], mut load: impl FnMut(&str) -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let Some((last, others)) = names.split_last() else {
        return Ok(());
    };
    for name in others {
        match load(name) {
            Err(ProgramError::Btf(_)) => {}
            result => return result,
        }
    }
    load(last)
}
