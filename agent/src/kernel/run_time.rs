//! What the runs of the probes' programs take, as the kernel measures it while somebody asks it to: by a reading of the
//! clock before and after each run, of every program on the host. Which probe a program serves is not known here.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    programs::Program,
    sys::{Stats, enable_stats},
};
use serde::{Deserialize, Serialize};

use super::missed;

/// What the kernel measured of a program since it was loaded (`bpf_prog_info`, include/uapi/linux/bpf.h).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTime {
    /// The program.
    pub program: String,
    /// `run_time_ns`: time that its runs took.
    pub ns: u64,
    /// `run_cnt`: runs, those included that found nothing to count.
    pub runs: u64,
}

/// Has the kernel measure as long as the descriptor is open (BPF_ENABLE_STATS, since Linux 5.8).
///
/// # Errors
/// The kernel is older, or this process may not ask for it.
pub fn enable() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime).context(
        "the kernel does not measure what the probes' runs take (--probe-stats), which takes Linux 5.8 and CAP_SYS_ADMIN: run \
         as root, or as root: setcap cap_bpf,cap_perfmon,cap_sys_admin+ep \"$(command -v loopscope)\"",
    )
}

/// Reads it of every program but the iterators: those run within the agent's own calls and are part of its CPU time.
pub fn read(ebpf: &Ebpf) -> Vec<RunTime> {
    let attached = ebpf.programs().filter(|(_, program)| !matches!(program, Program::Iter(_)));
    let measured = attached.filter_map(|(name, program)| {
        let info = missed::info(program.fd().ok()?.as_fd())?;
        Some(RunTime { program: name.to_owned(), ns: info.run_time_ns, runs: info.run_cnt })
    });
    measured.collect()
}
