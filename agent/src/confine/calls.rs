//! System calls that are refused with EPERM once the probes are attached, in a table.
//!
//! Refused by name rather than allowed by name: which harmless calls a C library or a runtime makes changes with its
//! version, while what must not happen is known. A call that only reads, or works on what is open, is not listed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use aya_obj::generated::bpf_cmd as Bpf;
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, apply_filter_all_threads,
};

/// Whether files may be opened for writing, made and removed, where mounts and permissions let them be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// As ever.
    Allowed,
    /// Not at all.
    Refused,
}

/// Whom the refusal is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The calling thread.
    Thread,
    /// All threads.
    Process,
}

/// Refused whatever the arguments are.
const CALLS: &[c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_setpriority,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_ioprio_set,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_kcmp,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    // The kernel and the host.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Ways past the other refusals.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_userfaultfd,
    libc::SYS_personality,
    // Ports: those that it listens on are bound.
    libc::SYS_bind,
    libc::SYS_listen,
];

/// Refused with [`Writes::Refused`], whatever the arguments are.
const WRITES: &[c_long] = &[
    // Its flags are behind a pointer; the C library does not use it.
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_fchmodat,
    libc::SYS_fchmod,
    libc::SYS_fchownat,
    libc::SYS_fchown,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

/// The same calls by the older numbers that x86-64 has beside.
#[cfg(target_arch = "x86_64")]
const OLDER_WRITES: &[c_long] = &[
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_WRITES: &[c_long] = &[libc::SYS_renameat];

/// Calls that open a file, and which argument has the flags.
#[cfg(target_arch = "x86_64")]
const OPENS: &[(c_long, u8)] = &[(libc::SYS_openat, 2), (libc::SYS_open, 1)];
#[cfg(not(target_arch = "x86_64"))]
const OPENS: &[(c_long, u8)] = &[(libc::SYS_openat, 2)];

/// Flags of which each makes an opened file one that is written or made.
const WRITING: [i32; 4] = [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC];

/// Commands of bpf(2): new programs and maps, those of others, and what would outlive the agent.
const BPF: [Bpf; 12] = [
    Bpf::BPF_PROG_LOAD,
    Bpf::BPF_MAP_CREATE,
    Bpf::BPF_BTF_LOAD,
    Bpf::BPF_OBJ_PIN,
    Bpf::BPF_OBJ_GET,
    Bpf::BPF_PROG_GET_FD_BY_ID,
    Bpf::BPF_MAP_GET_FD_BY_ID,
    Bpf::BPF_BTF_GET_FD_BY_ID,
    Bpf::BPF_LINK_GET_FD_BY_ID,
    Bpf::BPF_PROG_ATTACH,
    Bpf::BPF_TASK_FD_QUERY,
    Bpf::BPF_PROG_TEST_RUN,
];

/// Refuses the calls of the tables from now on, for good.
///
/// # Errors
/// The kernel has no seccomp filters, or this is an architecture for which they cannot be made.
pub fn refuse(writes: Writes, reach: Reach) -> Result<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| anyhow!("no seccomp filter can be made for {}", std::env::consts::ARCH))?;
    let eperm = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules(writes)?, SeccompAction::Allow, eperm, arch);
    let program = BpfProgram::try_from(filter.context("the seccomp filter cannot be made")?)
        .context("the seccomp filter cannot be made")?;
    match reach {
        Reach::Thread => apply_filter(&program),
        Reach::Process => apply_filter_all_threads(&program),
    }
    .context("the kernel takes no seccomp filter")
}

/// For each call, when it is refused; always, where there is no rule.
fn rules(writes: Writes) -> Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let own = u64::from(std::process::id());
    let equal = |value: u32| (SeccompCmpOp::Eq, u64::from(value));
    // Signals go to the own process, limits are of the own process, and sockets talk to the service manager alone.
    for (call, value) in [(libc::SYS_kill, own), (libc::SYS_tgkill, own)] {
        rules.insert(call, vec![rule(0, (SeccompCmpOp::Ne, value))?]);
    }
    rules.insert(libc::SYS_prlimit64, vec![rule(0, (SeccompCmpOp::Ne, 0))?]);
    rules.insert(libc::SYS_socket, vec![rule(0, (SeccompCmpOp::Ne, libc::AF_UNIX as u64))?]);
    let commands: Result<Vec<_>> = BPF.into_iter().map(|command| rule(0, equal(command as u32))).collect();
    rules.insert(libc::SYS_bpf, commands?);
    if writes == Writes::Refused {
        rules.extend(WRITES.iter().chain(OLDER_WRITES).map(|call| (*call, Vec::new())));
        for (call, argument) in OPENS {
            let flag = |flag: i32| {
                let flag = u64::from(flag.cast_unsigned());
                rule(*argument, (SeccompCmpOp::MaskedEq(flag), flag))
            };
            rules.insert(*call, WRITING.into_iter().map(flag).collect::<Result<_>>()?);
        }
    }
    Ok(with_x32(rules))
}

/// A rule that matches on one argument.
fn rule(argument: u8, (operator, value): (SeccompCmpOp, u64)) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, Dword, operator, value);
    let condition = condition.context("a condition of the seccomp filter cannot be made")?;
    SeccompRule::new(vec![condition]).context("a rule of the seccomp filter cannot be made")
}

/// The same by the numbers that the x32 ABI has for the same calls, where a kernel has it.
#[cfg(target_arch = "x86_64")]
fn with_x32(rules: BTreeMap<i64, Vec<SeccompRule>>) -> BTreeMap<i64, Vec<SeccompRule>> {
    const X32_BIT: i64 = 0x4000_0000;
    let more: Vec<_> = rules.iter().map(|(call, rules)| (*call | X32_BIT, rules.clone())).collect();
    rules.into_iter().chain(more).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn with_x32(rules: BTreeMap<i64, Vec<SeccompRule>>) -> BTreeMap<i64, Vec<SeccompRule>> {
    rules
}
