//! A view of the file system in which nothing can be written but some folders: for this process alone, in a mount
//! namespace of its own. Changes nothing that others see.

use std::{ffi::CString, io, mem, os::unix::ffi::OsStrExt, path::Path};

use anyhow::{Context, Result};
use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    mount::{MountPropagationFlags, mount_bind_recursive, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Makes every mount read-only for the calling thread and those that it starts from now on, but for what is in these
/// folders, of which each is an absolute path without links.
///
/// # Errors
/// No CAP_SYS_ADMIN, or a kernel before Linux 5.12.
pub fn read_only_but(writable: &[impl AsRef<Path>]) -> Result<()> {
    // SAFETY: what unshare can break is code that relies on shared file descriptors or a shared working directory
    // with other threads; NEWNS takes this thread's root and working directory apart, which nothing changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .context("cannot get a mount namespace; it takes CAP_SYS_ADMIN")?;
    // What the host mounts later is still seen; what is mounted here is seen by no one else.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("cannot keep mounts to ourselves")?;
    for folder in writable.iter().map(AsRef::as_ref) {
        mount_bind_recursive(folder, folder)
            .with_context(|| format!("cannot keep {} writable", folder.display()))?;
    }
    let read_only = libc::MOUNT_ATTR_RDONLY;
    set("/", read_only, 0)
        .context("cannot make mounts read-only; it takes Linux 5.12 and a root that is a mount")?;
    for folder in writable.iter().map(AsRef::as_ref) {
        set(folder, 0, read_only).with_context(|| format!("cannot keep {} writable", folder.display()))?;
    }
    Ok(())
}

/// Whether the root is read-only already, as a service manager or a container's runtime leaves it.
pub fn is_read_only() -> bool {
    statvfs("/").is_ok_and(|root| root.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// mount_setattr(2) on a mount and those below it.
fn set(path: impl AsRef<Path>, set: u64, clear: u64) -> io::Result<()> {
    let path = CString::new(path.as_ref().as_os_str().as_bytes())?;
    // SAFETY: the structure is of integers, for which zero is a value.
    let mut attributes: libc::mount_attr = unsafe { mem::zeroed() };
    attributes.attr_set = set;
    attributes.attr_clr = clear;
    // SAFETY: the call reads a path that ends with a NUL and a structure of the given size; both live through it.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
