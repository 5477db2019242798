//! Access to tracefs without touching the host: where it is not mounted, it is mounted in a mount namespace that
//! only one thread sees.

use std::{path::Path, thread};

use anyhow::{Context, Result, anyhow};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

/// The two places where a host may have it.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where tracefs is mounted for all to see, if it is.
pub fn mounted() -> Option<&'static str> {
    PLACES.into_iter().find(|place| Path::new(place).join("events").is_dir())
}

/// Runs `work` where tracefs can be read: here if it is mounted, else in a thread with a mount of its own, which
/// goes with the thread.
///
/// # Errors
/// What `work` gives, or why tracefs could not be mounted.
pub fn with<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if mounted().is_some() {
        return work();
    }
    thread::scope(|scope| {
        let helper = scope.spawn(|| {
            mount_privately()?;
            work()
        });
        helper.join().unwrap_or_else(|_| Err(anyhow!("the thread that attaches the probes ended early")))
    })
}

/// Gives the calling thread a mount namespace of its own with tracefs in it.
fn mount_privately() -> Result<()> {
    // SAFETY: what unshare can break is code that relies on shared file descriptors or a shared working directory
    // with other threads; NEWNS takes this thread's root and working directory apart, which it does not change.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .context("cannot get a mount namespace for tracefs: run as root (CAP_SYS_ADMIN), or mount it: mount -t tracefs tracefs /sys/kernel/tracing")?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("cannot keep the mount of tracefs to ourselves")?;
    mount("tracefs", PLACES[0], "tracefs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .with_context(|| {
            format!("cannot mount tracefs on {}: does the kernel have CONFIG_FTRACE_SYSCALLS?", PLACES[0])
        })
}
