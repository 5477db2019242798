//! Which probes there are, and which kernel fields and numbers they need: tables, per architecture where the
//! architectures differ. Nothing here loads or attaches.

use loopscope_probe::program;

/// One call or event that is observed.
#[derive(Debug)]
pub struct Probe {
    /// The name that users see.
    pub name: &'static str,
    /// How it is observed.
    pub hook: Hook,
    /// What is not seen without it.
    pub lost_without: &'static str,
    /// Whether the main job is impossible without it.
    pub essential: bool,
}

/// How a probe is attached.
#[derive(Debug)]
pub enum Hook {
    /// A system call: per-syscall tracepoints `syscalls:NAME` with the programs (indices into [`program::NAMES`]) that serve
    /// them, entry before exit: an exit without an entry would count as unpaired. The raw programs
    /// can stand in for each.
    Syscall(&'static [(&'static str, usize)]),
    /// A BTF tracepoint of that name and its program.
    Btf(&'static str, usize),
}

impl Hook {
    /// The name of the first way that is tried, as the reports have it.
    pub fn backend(&self) -> &'static str {
        match self {
            Hook::Syscall(_) => "tracepoint",
            Hook::Btf(..) => "tp_btf",
        }
    }

    /// The programs of this hook, as indices into [`program::NAMES`].
    pub fn programs(&self) -> Vec<usize> {
        match self {
            Hook::Syscall(points) => points.iter().map(|(_, program)| *program).collect(),
            Hook::Btf(_, program) => vec![*program],
        }
    }

}

/// Every probe, in the order of attachment. Creation comes before the waits, so that no wait sees an address
/// whose reuse was missed, and the ends of threads come first of all, so that no record is left behind.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "task_exit",
        hook: Hook::Btf("sched_process_exit", program::TASK_EXIT),
        lost_without: "what a thread did since the last sample, when it ends",
        essential: true,
    },
    Probe {
        name: "task_exec",
        hook: Hook::Btf("sched_process_exec", program::TASK_EXEC),
        lost_without: "which program a thread's waits belong to, when it executes another",
        essential: true,
    },
    #[cfg(target_arch = "x86_64")]
    Probe {
        name: "epoll_create",
        hook: Hook::Syscall(&[("sys_exit_epoll_create", program::EXIT_EPOLL_CREATE)]),
        lost_without: "telling an instance from an earlier one at the same kernel address",
        essential: false,
    },
    Probe {
        name: "epoll_create1",
        hook: Hook::Syscall(&[("sys_exit_epoll_create1", program::EXIT_EPOLL_CREATE1)]),
        lost_without: "telling an instance from an earlier one at the same kernel address",
        essential: false,
    },
    Probe {
        name: "epoll_ctl",
        hook: Hook::Syscall(&[("sys_exit_epoll_ctl", program::EXIT_EPOLL_CTL)]),
        lost_without: "adds, mods and deletes of watched fds, and their errors",
        essential: false,
    },
    #[cfg(target_arch = "x86_64")]
    Probe {
        name: "epoll_wait",
        hook: Hook::Syscall(&[
            ("sys_enter_epoll_wait", program::ENTER_EPOLL_WAIT),
            ("sys_exit_epoll_wait", program::EXIT_EPOLL_WAIT),
        ]),
        lost_without: "loops that wait by epoll_wait (most of them on x86-64)",
        essential: true,
    },
    Probe {
        name: "epoll_pwait",
        hook: Hook::Syscall(&[
            ("sys_enter_epoll_pwait", program::ENTER_EPOLL_PWAIT),
            ("sys_exit_epoll_pwait", program::EXIT_EPOLL_PWAIT),
        ]),
        lost_without: "loops that wait by epoll_pwait (Go, libuv, and all on arm64)",
        essential: true,
    },
    Probe {
        name: "epoll_pwait2",
        hook: Hook::Syscall(&[
            ("sys_enter_epoll_pwait2", program::ENTER_EPOLL_PWAIT2),
            ("sys_exit_epoll_pwait2", program::EXIT_EPOLL_PWAIT2),
        ]),
        lost_without: "loops that wait by epoll_pwait2 (Linux 5.11 and later)",
        essential: false,
    },
    #[cfg(target_arch = "x86_64")]
    Probe {
        name: "poll",
        hook: Hook::Syscall(&[
            ("sys_enter_poll", program::ENTER_POLL),
            ("sys_exit_poll", program::EXIT_POLL),
        ]),
        lost_without: "threads that wait by poll (most that do on x86-64)",
        essential: false,
    },
    Probe {
        name: "ppoll",
        hook: Hook::Syscall(&[
            ("sys_enter_ppoll", program::ENTER_PPOLL),
            ("sys_exit_ppoll", program::EXIT_PPOLL),
        ]),
        lost_without: "threads that wait by ppoll (all that poll on arm64)",
        essential: false,
    },
    #[cfg(target_arch = "x86_64")]
    Probe {
        name: "select",
        hook: Hook::Syscall(&[
            ("sys_enter_select", program::ENTER_SELECT),
            ("sys_exit_select", program::EXIT_SELECT),
        ]),
        lost_without: "threads that wait by select itself, which glibc does not use",
        essential: false,
    },
    Probe {
        name: "pselect6",
        hook: Hook::Syscall(&[
            ("sys_enter_pselect6", program::ENTER_PSELECT6),
            ("sys_exit_pselect6", program::EXIT_PSELECT6),
        ]),
        lost_without: "threads that wait by select or pselect of glibc",
        essential: false,
    },
    Probe {
        name: "restart_syscall",
        hook: Hook::Syscall(&[("sys_exit_restart_syscall", program::EXIT_RESTART)]),
        lost_without: "the end of a poll that was stopped and went on",
        essential: false,
    },
    Probe {
        name: "signal_deliver",
        hook: Hook::Btf("signal_deliver", program::SIGNAL),
        lost_without: "telling a poll or select that a signal handler ended from one that goes on",
        essential: false,
    },
];

/// A field of a kernel structure whose offset a program needs.
#[derive(Debug)]
pub struct Offset {
    /// The global of the object that takes it.
    pub global: &'static str,
    /// The structure.
    pub structure: &'static str,
    /// Its path, and the paths that other kernels have for it.
    pub paths: &'static [&'static str],
    /// Whether nothing works without it.
    pub essential: bool,
}

/// One row of the table below.
const fn offset(
    global: &'static str,
    structure: &'static str,
    paths: &'static [&'static str],
    essential: bool,
) -> Offset {
    Offset { global, structure, paths, essential }
}

/// Every offset that the programs need.
pub const OFFSETS: &[Offset] = &[
    offset("TASK_FILES", "task_struct", &["files"], true),
    offset("TASK_PID", "task_struct", &["pid"], true),
    offset("TASK_TGID", "task_struct", &["tgid"], true),
    offset("TASK_COMM", "task_struct", &["comm"], true),
    offset("TASK_GROUP_LEADER", "task_struct", &["group_leader"], true),
    offset("TASK_REAL_PARENT", "task_struct", &["real_parent"], true),
    offset("FILES_STRUCT_FDT", "files_struct", &["fdt"], true),
    offset("FDTABLE_MAX_FDS", "fdtable", &["max_fds"], true),
    offset("FDTABLE_FD", "fdtable", &["fd"], true),
    offset("FILE_F_OP", "file", &["f_op"], true),
    // The next six serve --cgroup alone; ancestors is there since Linux 6.1.
    offset("TASK_CGROUPS", "task_struct", &["cgroups"], false),
    offset("CSS_SET_DFL_CGRP", "css_set", &["dfl_cgrp"], false),
    offset("CGROUP_LEVEL", "cgroup", &["level"], false),
    offset("CGROUP_ANCESTORS", "cgroup", &["ancestors"], false),
    offset("CGROUP_KN", "cgroup", &["kn"], false),
    offset("KERNFS_NODE_ID", "kernfs_node", &["id"], false),
    offset("REGS_NUMBER", "pt_regs", registers::NUMBER, true),
    offset("REGS_ARG0", "pt_regs", registers::ARGUMENTS[0], true),
    offset("REGS_ARG1", "pt_regs", registers::ARGUMENTS[1], true),
    offset("REGS_ARG2", "pt_regs", registers::ARGUMENTS[2], true),
    offset("REGS_ARG3", "pt_regs", registers::ARGUMENTS[3], true),
    offset("REGS_ARG4", "pt_regs", registers::ARGUMENTS[4], true),
    offset("REGS_RETURN", "pt_regs", registers::RETURN, true),
    offset("TASK_COMPAT", "task_struct", registers::COMPAT, true),
    offset("SIGACTION_HANDLER", "k_sigaction", &["sa.sa_handler"], true),
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
    pub const ARGUMENTS: [&[&str]; 5] = [&["orig_x0"], &["regs[1]"], &["regs[2]"], &["regs[3]"], &["regs[4]"]];
    pub const RETURN: &[&str] = &["regs[0]"];
    /// TIF_32BIT is bit 22 of it.
    pub const COMPAT: &[&str] = &["thread_info.flags"];
}

/// Numbers that the programs need and that depend on the architecture: (global, value). A call that the
/// architecture lacks has a number that no call has.
#[cfg(target_arch = "x86_64")]
pub const NUMBERS: &[(&str, u32)] = &[
    ("NR_EPOLL_CREATE", 213),
    ("NR_EPOLL_CREATE1", 291),
    ("NR_EPOLL_CTL", 233),
    ("NR_RESTART", 219),
    ("TASK_COMPAT_BIT", 1),
    ("COMPAT_ARM", 0),
    ("NR_POLL", 7),
    ("NR_SELECT", 23),
    ("NR_PSELECT6", 270),
    ("NR_PPOLL", 271),
    ("NR_EPOLL_WAIT", 232),
    ("NR_EPOLL_PWAIT", 281),
    ("NR_EPOLL_PWAIT2", 441),
    ("REGS_ENOSYS", 1),
    ("WEAK_MEMORY", 0),
];

/// As above (include/uapi/asm-generic/unistd.h).
#[cfg(target_arch = "aarch64")]
pub const NUMBERS: &[(&str, u32)] = &[
    ("NR_EPOLL_CREATE", u32::MAX),
    ("NR_EPOLL_CREATE1", 20),
    ("NR_EPOLL_CTL", 21),
    ("NR_RESTART", 128),
    ("TASK_COMPAT_BIT", 22),
    ("COMPAT_ARM", 1),
    ("NR_POLL", u32::MAX),
    ("NR_SELECT", u32::MAX),
    ("NR_PSELECT6", 72),
    ("NR_PPOLL", 73),
    ("NR_EPOLL_WAIT", u32::MAX),
    ("NR_EPOLL_PWAIT", 22),
    ("NR_EPOLL_PWAIT2", 441),
    ("REGS_ENOSYS", 0),
    ("WEAK_MEMORY", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_serves_exactly_one_probe() {
        let mut served: Vec<usize> = PROBES.iter().flat_map(|probe| probe.hook.programs()).collect();
        served.sort_unstable();
        served.dedup();
        assert_eq!(served.len(), PROBES.iter().map(|probe| probe.hook.programs().len()).sum::<usize>());
    }

    #[test]
    fn probe_names_are_unique() {
        let mut names: Vec<_> = PROBES.iter().map(|probe| probe.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
    }
}
