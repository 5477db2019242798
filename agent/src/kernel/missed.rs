//! Runs of a program that the kernel skipped: `bpf_prog_info.recursion_misses` (include/uapi/linux/bpf.h), which aya
//! does not read; and the rest of what the kernel says of a program. Tracepoint programs are skipped while the CPU is
//! inside a map update of a process.

use std::{
    mem,
    os::fd::{AsRawFd, BorrowedFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

/// How often the kernel skipped the program behind `fd`; 0 where it does not say (before Linux 5.12; for tracepoints
/// before 6.7).
pub fn of(fd: BorrowedFd<'_>) -> u64 {
    info(fd).map_or(0, |info| info.recursion_misses)
}

/// What the kernel says of the program behind `fd`; None where it says nothing.
pub(super) fn info(fd: BorrowedFd<'_>) -> Option<bpf_prog_info> {
    // SAFETY: both structures are integers, for which zero is a value.
    let (mut info, mut attr): (bpf_prog_info, bpf_attr) = unsafe { (mem::zeroed(), mem::zeroed()) };
    attr.info.bpf_fd = fd.as_raw_fd().cast_unsigned();
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    // SAFETY: the command reads a bpf_attr of the given size and writes at most info_len bytes to `info`, which lives
    // through the call. With all array pointers in it null, it follows none.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as u32,
            &raw mut attr,
            size_of::<bpf_attr>(),
        )
    };
    (failed == 0).then_some(info)
}
