//! Attaches an empty program to the tracepoints that loopscope uses, for `cargo xtask bench`: the least that any tool
//! on these tracepoints can cost.
//!
//! Prints `attached N` and stays until stdin ends. Of loopscope it uses only the table of tracepoints; nothing of its
//! programs may run here.

use std::{
    fs, io,
    mem::zeroed,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    ptr,
};

use anyhow::{Context, Result, ensure};
use aya_obj::generated::{
    BPF_EXIT, BPF_JMP, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, PERF_FLAG_FD_CLOEXEC, bpf_attr,
    bpf_cmd, bpf_insn, bpf_prog_type, perf_event_attr, perf_type_id,
};
use loopscope::kernel::table::{Hook, PROBES};

const TRACEFS: &str = "/sys/kernel/tracing";

/// BPF_ALU64 | BPF_MOV | BPF_K: register = constant.
const MOVE_CONSTANT: u8 = 0xb7;

fn main() -> Result<()> {
    mount_privately()?;
    let program = load()?;
    let mut events = Vec::new();
    for probe in PROBES {
        if let Hook::Syscall(points) = &probe.hook {
            for (tracepoint, _) in *points {
                events.push(
                    attach(&program, tracepoint).with_context(|| format!("cannot attach to {tracepoint}"))?,
                );
            }
        }
    }
    println!("attached {}", events.len());
    // Nothing is said to it: its end is the word.
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

/// Mounts tracefs for this process alone, where it is not mounted.
fn mount_privately() -> Result<()> {
    if Path::new(TRACEFS).join("events").is_dir() {
        return Ok(());
    }
    // SAFETY: this process has one thread and keeps no path open; a mount namespace of its own changes nothing else.
    let failed = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    ensure!(failed == 0, "cannot get a mount namespace: {}", io::Error::last_os_error());
    // SAFETY: the strings end with NUL, and null is allowed for what is not used.
    let failed = unsafe {
        libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_SLAVE | libc::MS_REC, ptr::null())
    };
    ensure!(failed == 0, "cannot keep mounts to ourselves: {}", io::Error::last_os_error());
    let (name, place) = (c"tracefs".as_ptr(), c"/sys/kernel/tracing".as_ptr());
    // SAFETY: as above.
    let failed = unsafe { libc::mount(name, place, name, 0, ptr::null()) };
    ensure!(failed == 0, "cannot mount tracefs: {}", io::Error::last_os_error());
    Ok(())
}

/// Loads `r0 = 0; exit`.
fn load() -> Result<OwnedFd> {
    let instruction =
        |code| bpf_insn { code, _bitfield_align_1: [], _bitfield_1: Default::default(), off: 0, imm: 0 };
    let instructions = [instruction(MOVE_CONSTANT), instruction((BPF_JMP | BPF_EXIT) as u8)];
    // SAFETY: the union holds integers only, for which zero is a value.
    let mut attr: bpf_attr = unsafe { zeroed() };
    // SAFETY: every member of the union is integers, and it was zeroed in whole.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT as u32;
    load.insn_cnt = instructions.len() as u32;
    load.insns = instructions.as_ptr() as u64;
    load.license = c"GPL".as_ptr() as u64;
    // SAFETY: the command reads a bpf_attr of the given size and what it points to, which lives through the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_PROG_LOAD as u32, &raw mut attr, size_of::<bpf_attr>())
    };
    ensure!(fd >= 0, "cannot load an empty program: {}", io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches the program to a tracepoint of a system call, as libraries do: through a perf event, for all processes.
fn attach(program: &OwnedFd, tracepoint: &str) -> Result<OwnedFd> {
    let id = Path::new(TRACEFS).join("events/syscalls").join(tracepoint).join("id");
    let id = fs::read_to_string(&id).with_context(|| format!("cannot read {}", id.display()))?;
    // SAFETY: integers and unions of integers, for which zero is a value.
    let mut attr: perf_event_attr = unsafe { zeroed() };
    attr.type_ = perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.config = id.trim().parse().context("the id of a tracepoint is a number")?;
    // SAFETY: the call reads a perf_event_attr of the size that is in it; -1 and 0 are all processes, CPU 0.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC) };
    ensure!(fd >= 0, "perf_event_open: {}", io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for (request, argument) in [(PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()), (PERF_EVENT_IOC_ENABLE, 0)] {
        // SAFETY: both requests take an integer.
        let failed = unsafe { libc::ioctl(event.as_raw_fd(), request.into(), argument) };
        ensure!(failed == 0, "ioctl {request:#x}: {}", io::Error::last_os_error());
    }
    Ok(event)
}
