//! `loopscope check`: what this kernel allows, found out by trying.

use std::time::Duration;

use super::{CheckArgs, Failure, Kernel, output, report};
use crate::{
    confine,
    kernel::{ProbeState, Watched, facts},
    reactor::{Reactor, Watch},
    report::{
        self as view, build,
        check::{CheckDocument, Fact, ProbeCheck, ProgramCheck, Tried},
        document::SCHEMA,
        host::Host,
        units,
    },
};

/// Runs the command.
///
/// # Errors
/// The main job cannot be done here (1), after the findings are printed.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let mut facts = facts::facts(args.kernel.btf.as_deref());
    let (states, programs, refused) = match attach(&args.kernel) {
        Ok((states, programs, took)) => {
            facts.push(facts::Fact {
                name: "load and attach",
                value: units::seconds(took.as_secs_f64()),
                ok: true,
            });
            let refused = report::missing(&states);
            (states, programs, refused)
        }
        Err(failure) => {
            facts.push(facts::Fact { name: "start", value: failure.message.clone(), ok: false });
            (Vec::new(), Vec::new(), Some(failure))
        }
    };
    facts.push(confinement());
    let host = Host::this();
    let document = CheckDocument {
        schema: SCHEMA,
        host: host.name,
        kernel: host.kernel,
        arch: host.arch,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        main_job: refused.is_none(),
        facts: facts
            .into_iter()
            .map(|fact| Fact { name: fact.name.to_owned(), value: fact.value, ok: fact.ok })
            .collect(),
        probes: states.iter().map(probe).collect(),
        limits: build::limits(&states).into_iter().collect(),
        programs,
    };
    output::write(|out| view::write_check(&document, args.format, report::terminal_width(), out))?;
    refused.map_or(Ok(()), Err)
}

/// Loads and attaches everything once, and says how long that took; all of it is gone again on return.
fn attach(kernel: &Kernel) -> Result<(Vec<ProbeState>, Vec<ProgramCheck>, Duration), Failure> {
    let reactor = Reactor::new()?;
    let options = report::options(kernel, &Watched::default())?;
    let watch = Watch::start(&options, &reactor).map_err(|error| report::refused(kernel, error))?;
    let programs = watch.verified().into_iter();
    let programs =
        programs.map(|(name, verified_instructions)| ProgramCheck { name, verified_instructions }).collect();
    Ok((watch.probes().to_vec(), programs, watch.start_time()))
}

/// What the agent could give up here once it watches.
fn confinement() -> facts::Fact {
    let trial = confine::trial();
    let names: Vec<&str> =
        trial.parts().filter(|(_, is_in_force)| *is_in_force).map(|(part, _)| part).collect();
    let value = match (names.join(", "), trial.notes()) {
        (works, failed) if failed.is_empty() => works,
        (works, failed) => format!("{works}; {}", failed.join("; ")),
    };
    facts::Fact { name: "confinement", value, ok: true }
}

/// A row of the findings.
fn probe(state: &ProbeState) -> ProbeCheck {
    let tried = state.attempts.iter().filter_map(|attempt| {
        let error = attempt.error.clone()?;
        Some(Tried { backend: attempt.backend.to_owned(), error })
    });
    ProbeCheck {
        name: state.probe.name().to_owned(),
        backend: state.backend().map(str::to_owned),
        ok: state.backend().is_some(),
        tried: tried.collect(),
        lost_without: state.probe.lost_without.to_owned(),
    }
}
