//! What is booted and what runs there: tables. Nothing here boots or judges.

use std::collections::BTreeMap;

use crate::programs::Built;

use super::{
    Arch, SERIES,
    image::{Plan, Step},
};

/// A boot of each kernel that it names.
pub struct Kind {
    /// What it is called in the table and on the command line.
    pub name: &'static str,
    /// Parameters of the kernel.
    pub parameters: &'static str,
    /// File systems that are not mounted.
    unmounted: &'static [&'static str],
    /// Folders that are hidden.
    hidden: &'static [&'static str],
    /// Text for files.
    settings: &'static [(&'static str, &'static str)],
    /// What runs there.
    pub job: Job,
    /// Why it is there.
    pub about: &'static str,
}

/// What a boot is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The exactness suite on every backend.
    Exact,
    /// Whether the main job can be done, and one test if so.
    Short,
    /// Whether it can be done with less than root has.
    Privileges,
}

const fn short(name: &'static str, parameters: &'static str, about: &'static str) -> Kind {
    Kind { name, parameters, unmounted: &[], hidden: &[], settings: &[], job: Job::Short, about }
}

/// Every boot. The first is of every kernel and architecture, the others of the newest kernel on amd64.
pub const KINDS: [Kind; 8] = [
    Kind { job: Job::Exact, ..short("exact", "", "the exactness suite") },
    short("preempt-full", "preempt=full", "programs of fentry would lose runs there"),
    short("lockdown-integrity", "lsm=lockdown,capability lockdown=integrity", "the kernel is kept from root"),
    short(
        "lockdown-confidentiality",
        "lsm=lockdown,capability lockdown=confidentiality",
        "its memory is as well",
    ),
    Kind { hidden: &["/sys/kernel/btf"], ..short("no-btf", "", "a kernel without CONFIG_DEBUG_INFO_BTF") },
    Kind { unmounted: &["tracefs", "debugfs"], ..short("no-tracefs", "", "nobody mounted tracefs") },
    Kind {
        settings: &[("/proc/sys/net/core/bpf_jit_enable", "0")],
        ..short("no-jit", "", "programs are interpreted")
    },
    Kind { job: Job::Privileges, ..short("privileges", "", "less than root has") },
];

/// The ways of attaching that the suite runs on.
pub const BACKENDS: [&str; 3] = ["tracepoint", "raw", "fentry"];

/// Whether the suite runs by this way: where emulated calls come through functions that take programs.
pub fn has(arch: Arch, backend: &str) -> bool {
    backend != "fentry" || arch == Arch::Amd64
}
/// The programs of tests that run on every kernel by every backend; the newest kernel on amd64 runs all of them by the
/// first backend. Emulation is ten times slower: all by all would take an hour.
pub const CORE: [&str; 5] = ["exact", "exact_backlog", "exact_calls", "exact_lives", "exact_sets"];

/// The programs of tests that `cargo xtask test` runs on each kernel by every backend; it boots everything.
pub const SHORT_TESTS: [&str; 1] = ["exact"];

/// Whether all programs of tests run, or [`CORE`] alone.
pub fn runs_all(arch: Arch, series: &str, backend: &str) -> bool {
    (arch, series, backend) == (Arch::Amd64, SERIES[0], BACKENDS[0])
}

/// The test of short boots: every result and time-out of epoll waits, for equality.
const ONE_TEST: (&str, &str) = ("exact", "every_result_and_timeout_is_counted_for_every_call");

/// Capabilities by number (include/uapi/linux/capability.h).
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];
/// What the agent says that it needs where root has been taken apart.
const NEEDED: [&str; 3] = ["CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"];

/// A test that does not run in a machine, and why.
pub struct LeftOut {
    pub test: &'static str,
    pub why: &'static str,
}

const fn left_out(test: &'static str, why: &'static str) -> LeftOut {
    LeftOut { test, why }
}

/// Of those that compare with strace.
const NO_STRACE: &str = "strace is not in the machine, and what the agent calls is the same on every kernel";

/// All of them: they stand in docs/kernels.md.
pub const LEFT_OUT: [LeftOut; 7] = [
    left_out(
        "a_path_of_a_v1_hierarchy_is_applied_afterwards_and_the_report_says_so",
        "the machine has cgroup v2 alone",
    ),
    left_out("a_report_changes_no_map_while_it_watches", NO_STRACE),
    left_out("an_exporter_changes_no_map_while_it_is_scraped", NO_STRACE),
    left_out(
        "each_wait_lies_in_its_bracket_and_half_of_them_within_20_us_of_it",
        "an emulated system call takes longer than the 20 us",
    ),
    left_out(
        "waits_and_busy_times_add_up_to_a_loops_whole_span",
        "the edges of a span take longer when emulated than is tolerated",
    ),
    left_out(
        "waits_and_busy_times_of_a_rings_loop_add_up_to_its_whole_span",
        "the edges of a span take longer when emulated than is tolerated",
    ),
    left_out(
        "a_set_that_moves_is_read_all_the_same",
        "an emulated process does not reach 100,000 epoll_ctl a second",
    ),
];

impl Kind {
    /// The steps of this boot.
    pub fn plan(
        &self,
        arch: Arch,
        series: &str,
        backends: &[&str],
        tests: &[String],
        built: &[Built],
    ) -> Plan {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        let settings = self.settings.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
        let steps = match self.job {
            Job::Exact => {
                let backends = backends.iter().filter(|backend| has(arch, backend));
                backends.flat_map(|backend| exact(arch, series, backend, tests, built)).collect()
            }
            Job::Short => vec![check("auto", "auto"), one_test(built)],
            Job::Privileges => privileges(),
        };
        Plan {
            unmounted: strings(self.unmounted),
            hidden: strings(self.hidden),
            settings: settings.collect(),
            steps,
        }
    }
}

/// A step of this name.
fn step(name: &str, seconds: u64, arguments: &[&str]) -> Step {
    let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    Step { name: name.to_owned(), seconds, arguments, ..Step::default() }
}

/// What a kernel allows by one backend.
fn check(name: &str, backend: &str) -> Step {
    step(&format!("check:{name}"), 60, &["loopscope", "check", "--backend", backend, "--format", "json"])
}

/// The suite by one backend: a step for each test program, of those that are asked for if any are.
fn exact(arch: Arch, series: &str, backend: &str, asked: &[String], built: &[Built]) -> Vec<Step> {
    let mut steps = vec![check(backend, backend)];
    let runs = |name: &str| match asked {
        [] => runs_all(arch, series, backend) || CORE.contains(&name),
        asked => asked.iter().any(|asked| asked == name),
    };
    for test in built.iter().filter(|program| program.is_test && runs(&program.name)) {
        let mut words = vec![test.file.to_string_lossy().into_owned(), "--test-threads=1".to_owned()];
        for left_out in &LEFT_OUT {
            words.extend(["--skip".to_owned(), left_out.test.to_owned()]);
        }
        let mut environment = environment(built);
        environment.insert("LOOPSCOPE_TEST_BACKEND".to_owned(), backend.to_owned());
        let name = format!("test:{backend}:{}", test.name);
        steps.push(Step { name, arguments: words, environment, seconds: 240, ..Step::default() });
    }
    steps
}

/// The test of short boots.
fn one_test(built: &[Built]) -> Step {
    let file = built.iter().find(|program| program.is_test && program.name == ONE_TEST.0);
    let file = file.map(|program| program.file.to_string_lossy().into_owned()).unwrap_or_default();
    let words = [file.as_str(), "--test-threads=1", "--exact", ONE_TEST.1];
    Step { environment: environment(built), ..step(&format!("test:auto:{}", ONE_TEST.0), 60, &words) }
}

/// The agent as a plain user, as root without each capability, and with the few alone that it needs.
fn privileges() -> Vec<Step> {
    let run = |name: &str, without: Vec<u32>, user: Option<u32>| {
        let words = ["loopscope", "report", "--duration", "100ms", "--format", "json"];
        Step { without, user, ..step(&format!("run:{name}"), 60, &words) }
    };
    let numbers = (0..).zip(CAPABILITIES);
    let mut steps = vec![run("user", Vec::new(), Some(1000))];
    steps.extend(numbers.clone().map(|(number, name)| run(&format!("without-{name}"), vec![number], None)));
    let but =
        |kept: &[&str]| numbers.clone().filter(|(_, name)| !kept.contains(name)).map(|(n, _)| n).collect();
    steps.push(run("only-needed", but(&NEEDED), None));
    for name in NEEDED {
        let kept: Vec<&str> = NEEDED.into_iter().filter(|kept| *kept != name).collect();
        steps.push(run(&format!("only-needed-without-{name}"), but(&kept), None));
    }
    steps
}

/// What the tests read: the machine has no cargo to build the workload with.
pub fn environment(built: &[Built]) -> BTreeMap<String, String> {
    let workload = built.iter().find(|program| program.name == "workload");
    let workload = workload.map(|workload| workload.file.to_string_lossy().into_owned());
    let mut environment = BTreeMap::from([("LOOPSCOPE_REQUIRE_BPF".to_owned(), "1".to_owned())]);
    environment.extend(workload.map(|workload| ("LOOPSCOPE_TEST_WORKLOAD".to_owned(), workload)));
    environment
}
