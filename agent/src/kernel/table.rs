//! Which probes there are, and which kernel fields and numbers they need: tables, per architecture where the
//! architectures differ. Nothing here loads or attaches.

use loopscope_probe::{CALL_NUMBERS, probe};

use Serves::{All, Backlog, Cgroups, Details, Interest, OneWalk, Requests, Rings};

/// One call or event that is observed.
#[derive(Debug)]
pub struct Probe {
    /// Its number in [`probe`], by which its runs are counted.
    pub index: usize,
    /// How it is observed.
    pub hook: Hook,
    /// What is not seen without it.
    pub lost_without: &'static str,
    /// Whether the main job is impossible without it.
    pub essential: bool,
}

impl Probe {
    /// The name that users see.
    pub fn name(&self) -> &'static str {
        probe::NAMES.get(self.index).copied().unwrap_or_default()
    }
}

/// How a probe is attached.
#[derive(Debug)]
pub enum Hook {
    /// A system call: per-syscall tracepoints `syscalls:NAME` with the programs that serve them, entry before exit: an
    /// exit without an entry would count as unpaired. The raw programs can stand in for each.
    Syscall(&'static [(&'static str, &'static str)]),
    /// A BTF tracepoint of that name and its program.
    Btf(&'static str, &'static str),
}

impl Hook {
    /// The name of the first way that is tried, as the reports have it.
    pub fn backend(&self) -> &'static str {
        match self {
            Hook::Syscall(_) => "tracepoint",
            Hook::Btf(..) => "tp_btf",
        }
    }
}

/// What it takes to know which descriptors of instances deliver events: the waits, and what makes an address or an entry
/// another's.
pub const OF_EVENTS: &[usize] = &[
    probe::TASK_EXIT,
    probe::TASK_EXEC,
    probe::EPOLL_CREATE,
    probe::EPOLL_CREATE1,
    probe::EPOLL_CTL,
    probe::EPOLL_WAIT,
    probe::EPOLL_PWAIT,
    probe::EPOLL_PWAIT2,
    probe::IO_URING_COMPLETE,
];

/// Every probe, in the order of attachment. The ends of threads come first of all, so that no record is left behind, and
/// creation before the waits, so that no wait sees an address whose reuse was missed.
pub const PROBES: &[Probe] = &[
    Probe {
        index: probe::TASK_EXIT,
        hook: Hook::Btf("sched_process_exit", "task_exit"),
        lost_without: "what a thread did since the last sample, when it ends",
        essential: true,
    },
    Probe {
        index: probe::TASK_EXEC,
        hook: Hook::Btf("sched_process_exec", "task_exec"),
        lost_without: "which program a thread's waits belong to, when it executes another",
        essential: true,
    },
    Probe {
        index: probe::SIGNAL_DELIVER,
        hook: Hook::Btf("signal_deliver", "signal_deliver"),
        lost_without: "telling a poll or select that a signal handler ended from one that goes on",
        essential: false,
    },
    #[cfg(target_arch = "x86_64")]
    Probe {
        index: probe::EPOLL_CREATE,
        hook: Hook::Syscall(&[("sys_exit_epoll_create", "exit_epoll_create")]),
        lost_without: "telling an instance from an earlier one at the same kernel address",
        essential: false,
    },
    Probe {
        index: probe::EPOLL_CREATE1,
        hook: Hook::Syscall(&[("sys_exit_epoll_create1", "exit_epoll_create")]),
        lost_without: "telling an instance from an earlier one at the same kernel address",
        essential: false,
    },
    Probe {
        index: probe::EPOLL_CTL,
        hook: Hook::Syscall(&[("sys_exit_epoll_ctl", "exit_epoll_ctl")]),
        lost_without: "adds, mods and deletes of watched fds, and their errors",
        essential: false,
    },
    #[cfg(target_arch = "x86_64")]
    Probe {
        index: probe::EPOLL_WAIT,
        hook: Hook::Syscall(&[("sys_enter_epoll_wait", "enter_epoll"), ("sys_exit_epoll_wait", "exit_wait")]),
        lost_without: "loops that wait by epoll_wait (most of them on x86-64)",
        essential: true,
    },
    Probe {
        index: probe::EPOLL_PWAIT,
        hook: Hook::Syscall(&[
            ("sys_enter_epoll_pwait", "enter_epoll"),
            ("sys_exit_epoll_pwait", "exit_wait"),
        ]),
        lost_without: "loops that wait by epoll_pwait (Go, libuv, and all on arm64)",
        essential: true,
    },
    Probe {
        index: probe::EPOLL_PWAIT2,
        hook: Hook::Syscall(&[
            ("sys_enter_epoll_pwait2", "enter_epoll"),
            ("sys_exit_epoll_pwait2", "exit_wait"),
        ]),
        lost_without: "loops that wait by epoll_pwait2 (Linux 5.11 and later)",
        essential: false,
    },
    #[cfg(target_arch = "x86_64")]
    Probe {
        index: probe::POLL,
        hook: Hook::Syscall(&[("sys_enter_poll", "enter_poll"), ("sys_exit_poll", "exit_wait")]),
        lost_without: "threads that wait by poll (most that do on x86-64)",
        essential: false,
    },
    Probe {
        index: probe::PPOLL,
        hook: Hook::Syscall(&[("sys_enter_ppoll", "enter_poll"), ("sys_exit_ppoll", "exit_wait")]),
        lost_without: "threads that wait by ppoll (all that poll on arm64)",
        essential: false,
    },
    #[cfg(target_arch = "x86_64")]
    Probe {
        index: probe::SELECT,
        hook: Hook::Syscall(&[("sys_enter_select", "enter_select"), ("sys_exit_select", "exit_wait")]),
        lost_without: "threads that wait by select itself, which glibc does not use",
        essential: false,
    },
    Probe {
        index: probe::PSELECT6,
        hook: Hook::Syscall(&[("sys_enter_pselect6", "enter_select"), ("sys_exit_pselect6", "exit_wait")]),
        lost_without: "threads that wait by select or pselect of glibc",
        essential: false,
    },
    Probe {
        index: probe::RESTART_SYSCALL,
        hook: Hook::Syscall(&[("sys_exit_restart_syscall", "exit_restart")]),
        lost_without: "the end of a poll that was stopped and went on",
        essential: false,
    },
    Probe {
        index: probe::IO_URING_SETUP,
        hook: Hook::Syscall(&[("sys_exit_io_uring_setup", "exit_epoll_create")]),
        lost_without: "telling a ring from an earlier one at the same kernel address",
        essential: false,
    },
    Probe {
        index: probe::IO_URING_ENTER,
        hook: Hook::Syscall(&[
            ("sys_enter_io_uring_enter", "enter_io_uring"),
            ("sys_exit_io_uring_enter", "exit_io_uring"),
        ]),
        lost_without: "loops that wait for a ring's completions, and what they submit",
        essential: false,
    },
    Probe {
        index: probe::IO_URING_COMPLETE,
        hook: Hook::Btf("io_uring_complete", "io_uring_complete"),
        lost_without: "adds, mods, deletes and waits that programs ask a ring for (libuv since 1.50)",
        essential: false,
    },
    Probe {
        index: probe::IO_URING_CQE_OVERFLOW,
        hook: Hook::Btf("io_uring_cqe_overflow", "io_uring_cqe_overflow"),
        lost_without: "completions for which a ring had no room",
        essential: false,
    },
    Probe {
        index: probe::IO_GETEVENTS,
        hook: Hook::Syscall(&[
            ("sys_enter_io_getevents", "enter_aio"),
            ("sys_exit_io_getevents", "exit_aio"),
        ]),
        lost_without: "threads that wait for AIO by io_getevents",
        essential: false,
    },
    Probe {
        index: probe::IO_PGETEVENTS,
        hook: Hook::Syscall(&[
            ("sys_enter_io_pgetevents", "enter_aio"),
            ("sys_exit_io_pgetevents", "exit_aio"),
        ]),
        lost_without: "threads that wait for AIO by io_pgetevents",
        essential: false,
    },
];

/// Probes that are useless without some offsets.
pub const NEEDS: &[(usize, Serves)] = &[(probe::IO_URING_ENTER, Rings), (probe::IO_URING_COMPLETE, Requests)];

/// A field of a kernel structure whose offset a program needs.
#[derive(Debug)]
pub struct Offset {
    /// The global of the object that takes it.
    pub global: &'static str,
    /// The structure.
    pub structure: &'static str,
    /// Its path, and the paths that other kernels have for it.
    pub paths: &'static [&'static str],
    /// What does not work without it.
    pub serves: Serves,
}

/// What an offset is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Everything.
    All,
    /// A filter by cgroup.
    Cgroups,
    /// The length of ready lists.
    Backlog,
    /// Interest sets.
    Interest,
    /// Reading them by one walk in the place of two.
    OneWalk,
    /// Waits on rings.
    Rings,
    /// Requests of rings that act on epoll instances.
    Requests,
    /// A figure that is left out without it.
    Details,
}

/// One row of the table below.
const fn offset(
    global: &'static str,
    structure: &'static str,
    paths: &'static [&'static str],
    serves: Serves,
) -> Offset {
    Offset { global, structure, paths, serves }
}

/// Every offset that the programs need.
pub const OFFSETS: &[Offset] = &[
    offset("TASK_FILES", "task_struct", &["files"], All),
    offset("TASK_PID", "task_struct", &["pid"], All),
    offset("TASK_TGID", "task_struct", &["tgid"], All),
    offset("TASK_COMM", "task_struct", &["comm"], All),
    offset("TASK_GROUP_LEADER", "task_struct", &["group_leader"], All),
    offset("TASK_REAL_PARENT", "task_struct", &["real_parent"], All),
    offset("FILES_STRUCT_FDT", "files_struct", &["fdt"], All),
    offset("FDTABLE_MAX_FDS", "fdtable", &["max_fds"], All),
    offset("FDTABLE_FD", "fdtable", &["fd"], All),
    offset("FILE_F_OP", "file", &["f_op"], All),
    // ancestors is there since Linux 6.1.
    offset("TASK_CGROUPS", "task_struct", &["cgroups"], Cgroups),
    offset("CSS_SET_DFL_CGRP", "css_set", &["dfl_cgrp"], Cgroups),
    offset("CGROUP_LEVEL", "cgroup", &["level"], Cgroups),
    offset("CGROUP_ANCESTORS", "cgroup", &["ancestors"], Cgroups),
    offset("CGROUP_KN", "cgroup", &["kn"], Cgroups),
    offset("KERNFS_NODE_ID", "kernfs_node", &["id"], Cgroups),
    offset("REGS_NUMBER", "pt_regs", registers::NUMBER, All),
    offset("REGS_ARG0", "pt_regs", registers::ARGUMENTS[0], All),
    offset("REGS_ARG1", "pt_regs", registers::ARGUMENTS[1], All),
    offset("REGS_ARG2", "pt_regs", registers::ARGUMENTS[2], All),
    offset("REGS_ARG3", "pt_regs", registers::ARGUMENTS[3], All),
    offset("REGS_ARG4", "pt_regs", registers::ARGUMENTS[4], All),
    offset("REGS_RETURN", "pt_regs", registers::RETURN, All),
    offset("TASK_COMPAT", "task_struct", registers::COMPAT, All),
    offset("FILE_PRIVATE_DATA", "file", &["private_data"], Backlog),
    offset("EVENTPOLL_RDLLIST", "eventpoll", &["rdllist"], Backlog),
    offset("EPITEM_RDLLINK", "epitem", &["rdllink"], Backlog),
    offset("EPITEM_EVENT", "epitem", &["event"], Backlog),
    offset("EPITEM_RBN", "epitem", &["rbn"], Interest),
    offset("EPITEM_FILE", "epitem", &["ffd.file"], Interest),
    offset("EPITEM_FD", "epitem", &["ffd.fd"], Interest),
    offset("EPITEM_DATA", "epitem", &["event.data"], Interest),
    offset("EVENTPOLL_RBR", "eventpoll", &["rbr.rb_root.rb_node"], Interest),
    offset("EVENTPOLL_USER", "eventpoll", &["user"], Interest),
    // Since Linux 6.4.
    offset("EVENTPOLL_REFCOUNT", "eventpoll", &["refcount.refs.counter"], OneWalk),
    offset("USER_STRUCT_UID", "user_struct", &["uid"], Interest),
    offset("RB_NODE_LEFT", "rb_node", &["rb_left"], Interest),
    offset("RB_NODE_RIGHT", "rb_node", &["rb_right"], Interest),
    offset("TASK_IO_URING", "task_struct", &["io_uring"], Rings),
    offset("REGISTERED_RINGS", "io_uring_task", &["registered_rings"], Rings),
    offset("RING_RINGS", "io_ring_ctx", &["rings"], Rings),
    offset("RING_ENTRIES", "io_ring_ctx", &["cq_entries"], Rings),
    offset("RINGS_HEAD", "io_rings", &["cq.head"], Rings),
    offset("RINGS_TAIL", "io_rings", &["cq.tail"], Rings),
    // Since Linux 6.13.
    offset("RING_WAIT_ARG", "io_ring_ctx", &["cq_wait_arg"], Details),
    offset("REQUEST_FILE", "io_kiocb", &["file"], Requests),
    offset("REQUEST_OPCODE", "io_kiocb", &["opcode"], Requests),
    offset("REQUEST_RESULT", "io_kiocb", &["cqe.res"], Requests),
    offset("REQUEST_EPFD", "io_epoll", &["epfd"], Requests),
    offset("REQUEST_OP", "io_epoll", &["op"], Requests),
    offset("REQUEST_EVENT", "io_epoll", &["event"], Requests),
    // Since Linux 6.15.
    offset("REQUEST_MAXEVENTS", "io_epoll_wait", &["maxevents"], Details),
    offset("SIGACTION_HANDLER", "k_sigaction", &["sa.sa_handler"], All),
];

/// Where a system call's number and arguments lie (arch/x86/include/asm/syscall.h).
#[cfg(target_arch = "x86_64")]
mod registers {
    pub const NUMBER: &[&str] = &["orig_ax"];
    pub const ARGUMENTS: [&[&str]; 5] = [&["di"], &["si"], &["dx"], &["r10"], &["r8"]];
    pub const RETURN: &[&str] = &["ax"];
    /// TS_COMPAT is bit 1 of it.
    pub const COMPAT: &[&str] = &["thread_info.status"];
}

/// Where a system call's number and arguments lie (arch/arm64/include/asm/syscall.h).
#[cfg(target_arch = "aarch64")]
mod registers {
    pub const NUMBER: &[&str] = &["syscallno"];
    pub const ARGUMENTS: [&[&str]; 5] =
        [&["orig_x0"], &["regs[1]"], &["regs[2]"], &["regs[3]"], &["regs[4]"]];
    pub const RETURN: &[&str] = &["regs[0]"];
    /// TIF_32BIT is bit 22 of it.
    pub const COMPAT: &[&str] = &["thread_info.flags"];
}

/// Constants of the architecture that the programs need: (global, value).
#[cfg(target_arch = "x86_64")]
pub const NUMBERS: &[(&str, u32)] =
    &[("TASK_COMPAT_BIT", 1), ("COMPAT_ARM", 0), ("REGS_ENOSYS", 1), ("WEAK_MEMORY", 0), ("EVENT_BYTES", 12)];

/// As above.
#[cfg(target_arch = "aarch64")]
pub const NUMBERS: &[(&str, u32)] = &[
    ("TASK_COMPAT_BIT", 22),
    ("COMPAT_ARM", 1),
    ("REGS_ENOSYS", 0),
    ("WEAK_MEMORY", 1),
    ("EVENT_BYTES", 16),
];

/// The system calls that are observed: (number, [`probe`]); arch/x86/entry/syscalls/syscall_64.tbl.
#[cfg(target_arch = "x86_64")]
const CALLS: &[(usize, usize)] = &[
    (7, probe::POLL),
    (208, probe::IO_GETEVENTS),
    (23, probe::SELECT),
    (213, probe::EPOLL_CREATE),
    (219, probe::RESTART_SYSCALL),
    (232, probe::EPOLL_WAIT),
    (233, probe::EPOLL_CTL),
    (270, probe::PSELECT6),
    (271, probe::PPOLL),
    (281, probe::EPOLL_PWAIT),
    (291, probe::EPOLL_CREATE1),
    (333, probe::IO_PGETEVENTS),
    (425, probe::IO_URING_SETUP),
    (426, probe::IO_URING_ENTER),
    (441, probe::EPOLL_PWAIT2),
];

/// As above; include/uapi/asm-generic/unistd.h.
#[cfg(target_arch = "aarch64")]
const CALLS: &[(usize, usize)] = &[
    (4, probe::IO_GETEVENTS),
    (20, probe::EPOLL_CREATE1),
    (21, probe::EPOLL_CTL),
    (22, probe::EPOLL_PWAIT),
    (72, probe::PSELECT6),
    (73, probe::PPOLL),
    (128, probe::RESTART_SYSCALL),
    (292, probe::IO_PGETEVENTS),
    (425, probe::IO_URING_SETUP),
    (426, probe::IO_URING_ENTER),
    (441, probe::EPOLL_PWAIT2),
];

/// From a call's number to its probe, as the programs look it up.
pub fn probe_of_call() -> [u8; CALL_NUMBERS] {
    let mut table = [probe::NONE as u8; CALL_NUMBERS];
    for (number, probe) in CALLS {
        if let Some(entry) = table.get_mut(*number) {
            *entry = *probe as u8;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_at_most_one_probe_and_every_call_is_in_the_table() {
        let mut indices: Vec<usize> = PROBES.iter().map(|probe| probe.index).collect();
        indices.sort_unstable();
        #[cfg(target_arch = "x86_64")]
        assert_eq!(indices, (1..probe::NAMES.len()).collect::<Vec<_>>());
        indices.dedup();
        assert_eq!(indices.len(), PROBES.len());
        let table = probe_of_call();
        for probe in PROBES.iter().filter(|probe| matches!(probe.hook, Hook::Syscall(_))) {
            assert_eq!(
                table.iter().filter(|index| usize::from(**index) == probe.index).count(),
                1,
                "{}",
                probe.name()
            );
        }
    }

    #[test]
    fn a_tracepoint_is_named_as_its_call() {
        for probe in PROBES {
            if let Hook::Syscall(points) = probe.hook {
                let suffix = format!("_{}", probe.name());
                assert!(points.iter().all(|(point, _)| point.ends_with(&suffix)), "{probe:?}");
            }
        }
    }
}
