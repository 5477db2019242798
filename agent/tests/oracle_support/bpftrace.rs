//! bpftrace on the entries and exits of the epoll system calls: the arguments from the entry, the rest at the exit.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::{Map, Value};

use super::{
    count::{Counted, Ctl, Waits},
    process::{Output, Process, Signal},
};

/// The calls that wait with a timeout in milliseconds. Only x86-64 of the two architectures has the first.
const MILLISECOND_CALLS: &[&str] =
    if cfg!(target_arch = "x86_64") { &["epoll_wait", "epoll_pwait"] } else { &["epoll_pwait"] };
const CREATE_CALLS: &[&str] =
    if cfg!(target_arch = "x86_64") { &["epoll_create", "epoll_create1"] } else { &["epoll_create1"] };

/// tracefs in a mount namespace of its own: the host is left as it was.
const RUN: &str = "mount -t tracefs tracefs /sys/kernel/tracing && exec bpftrace -f json -B none -e \"$0\"";

/// Bits of `struct epoll_event`'s events.
const EXCLUSIVE: u32 = 1 << 28;
const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;

/// Whom to count.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// All threads of a process.
    Process(u32),
    /// Threads of a name.
    Comm(&'static str),
}

/// A bpftrace that counts.
pub struct Bpftrace(Process);

impl Bpftrace {
    /// Starts it, and waits until everything is attached.
    pub fn start(who: Who) -> Self {
        let mut command = Command::new("unshare");
        // 0.17 cannot raise the limit itself in every place, and says so on stderr: no matter.
        command.args(["-m", "sh", "-c", RUN, &script(who)]).env("BPFTRACE_MAP_KEYS_MAX", "65536");
        let mut process = Process::start(&mut command);
        // Printed by BEGIN, which runs first, but read only when all probes are attached.
        process.wait_for_line(Output::Out, "all attached");
        Bpftrace(process)
    }

    /// Ends it; what it counted of these processes.
    pub fn stop(self, pids: &BTreeSet<u32>) -> Counted {
        self.0.signal(Signal::INT);
        let printed = self.0.finish();
        let mut maps = Map::new();
        for line in printed.lines().filter(|line| line.starts_with('{')) {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            if line["type"] == "map" {
                maps.append(&mut line["data"].as_object().unwrap().clone());
            }
        }
        counted(&maps, pids)
    }
}

/// The program. Every map is a sum per CPU, so that no two updates meet.
fn script(who: Who) -> String {
    let filter = match who {
        Who::Process(pid) => format!("/pid == {pid}/"),
        Who::Comm(comm) => format!("/comm == {comm:?}/"),
    };
    let mut script = "BEGIN { printf(\"all attached\\n\"); }\n".to_owned();
    for call in MILLISECOND_CALLS {
        script += &wait_probes(call, &filter, "(int32)args->timeout");
    }
    let zero = "*(uint64 *)uptr(args->timeout) + *(uint64 *)uptr((uint64)args->timeout + 8) == 0 ? 0 : 1";
    let timespec = format!("(uint64)args->timeout == 0 ? -1 : ({zero})");
    script += &wait_probes("epoll_pwait2", &filter, &timespec);
    for call in CREATE_CALLS {
        script += &format!(
            "tracepoint:syscalls:sys_exit_{call} {filter} {{ if (args->ret >= 0) {{ @made[pid] = count(); }} }}\n"
        );
    }
    script
        + &format!(
            "tracepoint:syscalls:sys_enter_epoll_ctl {filter} {{
            @ctl_fd[tid] = args->epfd; @op[tid] = args->op; @bits[tid] = *(uint32 *)uptr(args->event);
        }}
        tracepoint:syscalls:sys_exit_epoll_ctl {filter} {{
            @ctl[pid, @ctl_fd[tid], @op[tid], args->ret < 0 ? 1 : 0, @bits[tid]] = count();
        }}
        END {{ clear(@fd); clear(@asked); clear(@room); clear(@ctl_fd); clear(@op); clear(@bits); }}\n"
        )
}

/// Entry and exit of a call that waits. The key is whose wait it was, how it ended (the number of events at most 1,
/// or the errno), the timeout (-1, 0, 1) and whether all the room was used.
fn wait_probes(call: &str, filter: &str, timeout: &str) -> String {
    format!(
        "tracepoint:syscalls:sys_enter_{call} {filter} {{
            $timeout = {timeout};
            @fd[tid] = args->epfd; @asked[tid] = $timeout < 0 ? -1 : ($timeout > 0 ? 1 : 0);
            @room[tid] = args->maxevents;
        }}
        tracepoint:syscalls:sys_exit_{call} {filter} {{
            $ended = args->ret > 0 ? 1 : args->ret;
            $full = args->ret == @room[tid] ? 1 : 0;
            @waits[pid, tid, @fd[tid], $ended, @asked[tid], $full] = count();
            @events[pid, tid, @fd[tid]] = sum(args->ret > 0 ? args->ret : 0);
        }}\n"
    )
}

/// The entries of a map, their keys split; none where the map has not been used.
fn entries<const N: usize>(maps: &Map<String, Value>, name: &str) -> BTreeMap<[i64; N], u64> {
    let Some(map) = maps.get(name) else {
        return BTreeMap::new();
    };
    let entry = |(key, value): (&String, &Value)| {
        let numbers: Vec<i64> = key.split(',').map(|number| number.trim().parse().unwrap()).collect();
        (numbers.try_into().unwrap(), value.as_u64().unwrap())
    };
    map.as_object().unwrap().iter().map(entry).collect()
}

/// From bpftrace's maps to what is compared.
fn counted(maps: &Map<String, Value>, pids: &BTreeSet<u32>) -> Counted {
    let ours = |pid: i64| pids.contains(&(pid as u32));
    let mut counted = Counted::default();
    for ([pid, tid, fd, ended, asked, full], count) in entries(maps, "@waits") {
        if ours(pid) {
            let waits = counted.waits.entry((pid as u32, tid as u32, fd as i32)).or_default();
            add_wait(waits, ended, asked, full == 1, count);
        }
    }
    for ([pid, tid, fd], events) in entries(maps, "@events") {
        if let Some(waits) = counted.waits.get_mut(&(pid as u32, tid as u32, fd as i32)) {
            waits.events += events;
        }
    }
    for ([pid, fd, op, failed, bits], count) in entries(maps, "@ctl") {
        if ours(pid) {
            let ctl = counted.ctl.entry((pid as u32, fd as i32)).or_default();
            add_ctl(ctl, op, failed == 1, bits as u32, count);
        }
    }
    counted.instances = entries(maps, "@made").iter().filter(|([pid], _)| ours(*pid)).map(|(_, n)| n).sum();
    counted
}

fn add_wait(waits: &mut Waits, ended: i64, asked: i64, full: bool, count: u64) {
    match ended {
        1 => waits.ready += count,
        0 if asked == 0 => waits.empty += count,
        0 => waits.timeout += count,
        -4 => waits.interrupted += count,
        _ => waits.error += count,
    }
    match asked {
        -1 => waits.infinite += count,
        0 => waits.zero += count,
        _ => waits.finite += count,
    }
    if ended == 1 && full {
        waits.saturated += count;
    }
}

fn add_ctl(ctl: &mut Ctl, op: i64, failed: bool, bits: u32, count: u64) {
    match op {
        _ if failed => ctl.errors += count,
        1 => ctl.add += count,
        2 => ctl.del += count,
        3 => ctl.modify += count,
        other => panic!("epoll_ctl with operation {other} succeeded"),
    }
    if !failed && op != 2 {
        let flags = [(&mut ctl.edge, EDGE), (&mut ctl.oneshot, ONESHOT), (&mut ctl.exclusive, EXCLUSIVE)];
        flags.into_iter().filter(|(_, bit)| bits & bit != 0).for_each(|(sum, _)| *sum += count);
    }
}
