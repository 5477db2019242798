//! Whether a running agent has the readings that a view wants. Attaches nothing.

use super::{
    Kernel,
    args::{Readings, SocketPath},
};
use crate::{
    feed::Remote,
    report::{
        build::{Aside, Origin},
        text,
    },
};

/// The running agent, connected to. None where there is none, where it does not see what is asked for, or where probes are
/// asked for; what a person might wonder about is said on stderr.
pub fn of_agent(readings: &Readings, kernel: &Kernel) -> Option<Remote> {
    let SocketPath(Some(path)) = &readings.socket else { return None };
    if readings.standalone || !kernel.is_default() {
        return None;
    }
    let note = |why: &str| {
        let place = text::one_line(&path.display().to_string());
        eprintln!(
            "loopscope: note: the agent at {place} is not asked: {}; attaching probes",
            text::one_line(why)
        );
        None
    };
    match Remote::connect(path) {
        Ok(Some(remote)) if remote.head().narrowed => note("it watches some processes alone"),
        Ok(remote) => remote,
        // Who may not ask may not attach either, and hears of that.
        Err(error) if is_denied(&error) => None,
        Err(error) => note(&format!("{error:#}")),
    }
}

/// What documents say beside the figures of an agent's readings.
pub fn aside(remote: &Remote) -> (Origin, Aside) {
    let follower = &remote.follower;
    let aside = Aside {
        missed: follower.missed(),
        damaged: follower.damaged,
        interest: follower.no_interest.clone(),
        costs: follower.costs(),
    };
    let mut origin = remote.origin();
    origin.notes.push(note(remote));
    (origin, aside)
}

/// What documents say of where their figures come from.
fn note(remote: &Remote) -> String {
    format!(
        "the readings are those of the running agent, process {}; --standalone attaches probes instead",
        remote.head().pid
    )
}

fn is_denied(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
