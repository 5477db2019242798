//! The capabilities that stay, and no way back to the others. Of the calling thread: threads that it starts inherit them.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Capabilities that stay, with their names, what needs them, and so what is lost without.
pub const KEPT: [(CapabilitySet, &str, &str); 4] = [
    (CapabilitySet::BPF, "CAP_BPF", "every reading runs an iterator, which is bpf(2)"),
    (CapabilitySet::PERFMON, "CAP_PERFMON", "the same: programs that look into the kernel"),
    (
        CapabilitySet::SYS_PTRACE,
        "CAP_SYS_PTRACE",
        "/proc/PID/exe and /proc/PID/fd of others; without it: no executables, no listeners, no descriptors in inspect",
    ),
    (
        CapabilitySet::DAC_READ_SEARCH,
        "CAP_DAC_READ_SEARCH",
        "/proc/PID/fd of other users' processes, and configuration and keys that belong to another user, at SIGHUP",
    ),
];

/// Bits of a capability set.
const BITS: u32 = 64;

/// What became of the sets.
pub struct Kept {
    /// The bounding set: what could ever come back.
    pub bounding: io::Result<()>,
    /// Effective, permitted, inheritable and ambient.
    pub effective: io::Result<()>,
}

/// Gives up every capability but [`KEPT`], in all sets. `overrides`: CAP_DAC_OVERRIDE stays too.
pub fn limit(overrides: bool) -> Kept {
    let held = match capabilities(None) {
        Ok(sets) => sets.permitted,
        Err(error) => return Kept { bounding: Err(error.into()), effective: Err(error.into()) },
    };
    let mut keep: CapabilitySet = KEPT.iter().map(|(bit, ..)| *bit).collect();
    keep.set(CapabilitySet::DAC_OVERRIDE, overrides);
    // Where a runtime knows no CAP_BPF yet, this is what the probes were loaded with.
    keep.set(CapabilitySet::SYS_ADMIN, !held.contains(CapabilitySet::BPF | CapabilitySet::PERFMON));
    only(keep & held)
}

/// Gives up every capability.
pub fn none() -> Kept {
    only(CapabilitySet::empty())
}

fn only(keep: CapabilitySet) -> Kept {
    // First, since it takes a capability itself.
    let bounding = bound(keep);
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    // Where the kernel has no ambient set, there is nothing in it.
    let _ = clear_ambient_capability_set();
    Kept { bounding, effective: set_capabilities(None, sets).map_err(io::Error::from) }
}

/// Takes what is not kept out of the bounding set.
fn bound(keep: CapabilitySet) -> io::Result<()> {
    for bit in 0..BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel knows no more of them.
        let Ok(is_in) = capability_is_in_bounding_set(capability) else { break };
        if is_in && !keep.contains(capability) {
            remove_capability_from_bounding_set(capability).map_err(|error| {
                io::Error::other(format!(
                    "{error}; it takes CAP_SETPCAP, or whoever starts the agent does it"
                ))
            })?;
        }
    }
    Ok(())
}

/// No program that this thread runs from now on gets more rights than it has.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}
