//! Attaching: each probe by the best way that works. What is loaded is in `load` and `programs`.

use anyhow::{Context, Result, anyhow};
use aya::{
    Btf, Ebpf,
    maps::Array,
    programs::{BtfTracePoint, Program, TracePoint},
};

use super::{
    fentry::{self, Inherited},
    load::explain,
    programs::{self, Purpose, Verdicts},
    table::{Hook, Probe},
    tracefs,
};

/// Which ways of attaching to system calls may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// Programs on the functions of single calls; where it is the only way, also where the kernel may skip some runs.
    pub fentry: bool,
    /// Tracepoints of single calls.
    pub tracepoint: bool,
    /// Tracepoints of all calls, for what is left.
    pub raw: bool,
}

impl Ways {
    /// None: the base of those with a single way.
    pub const NONE: Ways = Ways { fentry: false, tracepoint: false, raw: false };
}

impl Default for Ways {
    fn default() -> Self {
        Ways { fentry: true, tracepoint: true, raw: true }
    }
}

/// One way that was tried to attach a probe.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The way, as `--backend` names it.
    pub backend: &'static str,
    /// Why it failed; None where it worked.
    pub error: Option<String>,
}

/// A probe and what became of it.
#[derive(Clone, Debug)]
pub struct ProbeState {
    /// The row of [`super::table::PROBES`].
    pub probe: &'static Probe,
    /// The ways that were tried, in order; the last one counts.
    pub attempts: Vec<Attempt>,
}

impl ProbeState {
    /// The way by which it is attached, or None.
    pub fn backend(&self) -> Option<&'static str> {
        self.attempts.last().filter(|attempt| attempt.error.is_none()).map(|attempt| attempt.backend)
    }

    fn note(&mut self, backend: &'static str, result: Result<()>) {
        let error = result.err().map(|error| format!("{error:#}"));
        self.attempts.push(Attempt { backend, error });
    }

    /// Whether it is a system call's and not attached.
    fn wants_raw(&self) -> bool {
        matches!(self.probe.hook, Hook::Syscall(_)) && self.backend().is_none()
    }

    /// Why it is not attached, or None.
    pub fn error(&self) -> Option<&str> {
        self.attempts.last().and_then(|attempt| attempt.error.as_deref())
    }
}

/// Attaches the programs of an object.
pub struct Attacher<'a> {
    pub ebpf: &'a mut Ebpf,
    pub btf: &'a Btf,
    pub ways: Ways,
    pub loaded: &'a mut Verdicts,
    /// Whether programs may be attached to functions, or why not.
    pub functions: Result<(), String>,
    /// What sees the ends of waits that were in a function already.
    pub inherited: Inherited,
}

impl Attacher<'_> {
    /// Attaches each of these probes by the best way that works.
    /// `lacking`: probes of which the kernel lacks fields, and which; they are not tried.
    pub fn all(
        mut self,
        probes: &[&'static Probe],
        lacking: &[(usize, String)],
    ) -> (Vec<ProbeState>, Inherited) {
        let mut all: Vec<ProbeState> =
            probes.iter().map(|probe| ProbeState { probe, attempts: Vec::new() }).collect();
        for (index, error) in lacking {
            for state in all.iter_mut().filter(|state| state.probe.index == *index) {
                state.note(state.probe.hook.backend(), Err(anyhow!(error.clone())));
            }
        }
        let mut states: Vec<&mut ProbeState> =
            all.iter_mut().filter(|state| state.attempts.is_empty()).collect();
        if self.ways.tracepoint || self.functions.is_ok() {
            let result = tracefs::with(|| {
                self.each(&mut states, None);
                Ok(())
            });
            if let Err(error) = result {
                self.each(&mut states, Some(&format!("{error:#}")));
            }
        } else {
            self.each(&mut states, None);
        }
        if self.ways.raw {
            let left: Vec<&mut ProbeState> = states.into_iter().filter(|state| state.wants_raw()).collect();
            if !left.is_empty() {
                let probes = left.iter().fold(0, |bits, state| bits | 1 << state.probe.index);
                let error = self.raw(probes).err().map(|error| format!("{error:#}"));
                for state in left {
                    state.attempts.push(Attempt { backend: "raw", error: error.clone() });
                }
            }
        }
        (all, self.inherited)
    }

    /// Attaches each probe but by the raw programs. `tracefs`: why there are no tracepoints of single calls.
    fn each(&mut self, states: &mut [&mut ProbeState], tracefs: Option<&str>) {
        if self.functions.is_ok() && tracefs.is_none() {
            // First of all: a wait that ends once its function has programs would be missed by both.
            self.inherited = Inherited::watch(self.ebpf, self.loaded);
        }
        for state in states {
            let points = match state.probe.hook {
                Hook::Btf(_, program) => {
                    let result = self.btf_tracepoint(program);
                    state.note("tp_btf", result);
                    continue;
                }
                Hook::Syscall(points) => points,
            };
            if self.ways.fentry {
                let result = match &self.functions {
                    Ok(()) => fentry::attach(self.ebpf, self.loaded, state.probe.index),
                    Err(error) => Err(anyhow!(error.clone())),
                };
                state.note("fentry", result);
            }
            if self.ways.tracepoint && state.backend().is_none() {
                let result = match tracefs {
                    None => self.tracepoints(points),
                    Some(error) => Err(anyhow!(error.to_owned())),
                };
                state.note("tracepoint", result);
            }
        }
    }

    /// Attaches the tracepoints of a call: only if all of its programs were loaded, since an entry alone counts nothing.
    fn tracepoints(&mut self, points: &[(&'static str, &'static str)]) -> Result<()> {
        if self.functions.is_ok() && points.iter().any(|(_, program)| self.loaded.lacks(program)) {
            // A function was to serve the call.
            let wanted: Vec<_> = points.iter().map(|(_, program)| (*program, Purpose::TracePoint)).collect();
            self.loaded.extend(programs::load(self.ebpf, self.btf, &wanted));
        }
        for (_, program) in points {
            self.loaded.of(program)?;
        }
        for (tracepoint, program) in points {
            let program: &mut TracePoint = find(self.ebpf, program)?.try_into()?;
            program
                .attach("syscalls", tracepoint)
                .map_err(|error| anyhow!("syscalls:{tracepoint}: {}", explain(&error)))?;
        }
        Ok(())
    }

    /// Attaches the raw programs in the place of others: bit i of `probes` is number i of [`loopscope_probe::probe`].
    fn raw(&mut self, probes: u64) -> Result<()> {
        let mut map: Array<_, u64> =
            self.ebpf.map_mut("RAW_PROBES").context("the probe object has no map RAW_PROBES")?.try_into()?;
        map.set(0, probes, 0).context("cannot tell the raw programs what to stand in for")?;
        let wanted: Vec<_> = programs::RAW.iter().map(|name| (*name, Purpose::Btf(name))).collect();
        self.loaded.extend(programs::load(self.ebpf, self.btf, &wanted));
        programs::RAW.iter().try_for_each(|name| self.btf_tracepoint(name))
    }

    fn btf_tracepoint(&mut self, name: &str) -> Result<()> {
        self.loaded.of(name)?;
        let program: &mut BtfTracePoint = find(self.ebpf, name)?.try_into()?;
        program.attach().map_err(|error| anyhow!(explain(&error)))?;
        Ok(())
    }
}

/// A program of the object.
pub fn find<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).with_context(|| format!("the probe object has no program {name}"))
}
