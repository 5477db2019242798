//! The result of `check` as data: these types are the JSON contract of `check --format json`
//! (docs/schema/check.schema.json describes the same).
//!
//! Nothing here probes the kernel or decides what is well: it only carries what was found.

use serde::{Deserialize, Serialize};

/// What this kernel lets loopscope do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDocument {
    /// [`super::document::SCHEMA`].
    pub schema: u32,
    /// Host name.
    pub host: String,
    /// Kernel release, as `uname -r` says it.
    pub kernel: String,
    /// Machine, as `uname -m` says it.
    pub arch: String,
    /// Version of loopscope.
    pub version: String,
    /// The main job can be done: waits, wait times and busy times of epoll loops.
    pub main_job: bool,
    /// What was found out about this kernel and this user.
    pub facts: Vec<Fact>,
    /// Each probe and the way it can be attached.
    pub probes: Vec<ProbeCheck>,
    /// What is not seen by these ways however well they work, in words.
    #[serde(default)]
    pub limits: Vec<String>,
    /// Each program that the kernel took.
    #[serde(default)]
    pub programs: Vec<ProgramCheck>,
}

/// A program that was loaded: of a probe, of several, or one that reads what the probes counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramCheck {
    /// Its name in the object.
    pub name: String,
    /// Instructions that the kernel's verifier went through, which is most of the time that a start takes; null before
    /// Linux 5.16, which does not say.
    pub verified_instructions: Option<u32>,
}

/// One thing that decides what can be attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is, such as `lockdown` or `BTF`.
    pub name: String,
    /// What was found, in words.
    pub value: String,
    /// It stands in the way of nothing.
    pub ok: bool,
}

/// One probe: the way that was chosen and why the others were not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeCheck {
    /// What it watches, such as `epoll_wait`.
    pub name: String,
    /// The way that works; null where none does.
    pub backend: Option<String>,
    /// It can be attached.
    pub ok: bool,
    /// The ways that did not work.
    pub tried: Vec<Tried>,
    /// What is not seen without this probe, in words.
    pub lost_without: String,
}

/// A way of attaching that did not work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The way, such as `fentry`.
    pub backend: String,
    /// Why it failed.
    pub error: String,
}
