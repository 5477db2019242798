//! Runs that the kernel skips: that they are read as the kernel counts them, and that they bound what is missing.
//!
//! A tracepoint's programs are skipped where another process is in the middle of a map update on that CPU, which takes
//! a kernel that preempts. Where it does not, nothing can be missing, and nothing is.
#![cfg(test)]

mod common;

#[cfg(target_arch = "x86_64")]
use std::{
    ffi::CStr,
    fs::{self, File},
    io::Read,
    os::fd::AsFd,
};
use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type};
#[cfg(target_arch = "x86_64")]
use aya_obj::generated::{bpf_insn, bpf_prog_type};
use common::{
    Report, Workload,
    compare::{assert_nothing_lost, count, number, row},
    require_bpf,
};
#[cfg(target_arch = "x86_64")]
use loopscope::kernel::missed;

/// bpf(2), for commands that return a descriptor or nothing.
fn bpf(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> Result<i32, std::io::Error> {
    // SAFETY: the structure is numbers, for which zero is a value.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    fill(&mut attr);
    // SAFETY: the attributes live through the call, as does what they point to; see the callers.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut attr, size_of::<bpf_attr>()) };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(std::io::Error::last_os_error)
}

/// As [`bpf`], for those that return a descriptor.
fn descriptor(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> OwnedFd {
    let fd = bpf(command, fill).unwrap_or_else(|error| panic!("{}: {error}", command as u32));
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Threads that update and delete the elements of a map as fast as they can, one on each CPU, until dropped.
struct Updates {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<u64>>,
}

impl Updates {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cpus = thread::available_parallelism().unwrap().get();
        let threads = (0..cpus).map(|cpu| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || Self::run(cpu, &stop))
        });
        Updates { threads: threads.collect(), stop }
    }

    /// How many there were.
    fn run(cpu: usize, stop: &AtomicBool) -> u64 {
        // SAFETY: the set is numbers, for which zero is a value, and lives through the call.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        }
        let map = descriptor(bpf_cmd::BPF_MAP_CREATE, |attr| {
            attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
            attr.__bindgen_anon_1.key_size = 4;
            attr.__bindgen_anon_1.value_size = 1024;
            attr.__bindgen_anon_1.max_entries = 1000;
        });
        let value = [0_u8; 1024];
        let mut updates = 0;
        while !stop.load(Ordering::Relaxed) {
            for key in 0_u32..1000 {
                // `key` and `value` outlive the calls.
                let element = |attr: &mut bpf_attr| {
                    attr.__bindgen_anon_2.map_fd = map.as_raw_fd().cast_unsigned();
                    attr.__bindgen_anon_2.key = (&raw const key) as u64;
                };
                let update = |attr: &mut bpf_attr| {
                    element(attr);
                    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
                };
                bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, update).unwrap();
                bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, element).unwrap();
                updates += 2;
            }
        }
        updates
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

#[test]
fn what_is_missing_beside_map_updates_of_others_was_counted_as_missed() {
    if !require_bpf() {
        return;
    }
    let report = Report::start(&[]);
    let updates = Updates::start();
    let workloads = ["plain 100000", "plain 100000"].map(Workload::start);
    let said = workloads.each_ref().map(Workload::said);
    let updates = updates.stop();
    let report = report.stop();
    let (mut made, mut seen) = (0, 0);
    for said in &said {
        let done = &said["rows"][0];
        let row = row(&report, done);
        assert!(count(&row["waits"]) <= count(&done["waits"]), "{row}\nagainst {done}");
        assert!(number(&row["wait_seconds"]["max"]) <= number(&done["bracket_sum"]), "{row}");
        made += count(&done["waits"]);
        seen += count(&row["waits"]);
    }
    let [missed, unpaired] = ["missed", "unpaired"].map(|reason| count(&report["lost"][reason]));
    println!(
        "{updates} updates: {seen} of {made} waits, {missed} runs missed, {unpaired} exits without an entry"
    );
    // A kernel that does not preempt skips nothing: no waiting call can come in the middle of an update. Elsewhere each
    // wait that is missing lacks its entry or its exit.
    assert!(made - seen <= missed, "{} waits are missing, with {missed} runs missed", made - seen);
    assert!(unpaired <= missed, "{unpaired} exits without an entry, with {missed} runs missed");
    if missed == 0 {
        assert_nothing_lost(&report);
    }
    workloads.into_iter().for_each(Workload::finish);
}

/// A program that the kernel has to skip: at each page fault in the kernel it reads from an address that is not mapped,
/// which is such a fault.
#[cfg(target_arch = "x86_64")]
fn skipped_program() -> OwnedFd {
    const LICENSE: &CStr = c"GPL";
    let step = |code: u8, to: u8, from: u8, off: i16, imm: i32| {
        // SAFETY: the structure is numbers, for which zero is a value.
        let mut step: bpf_insn = unsafe { std::mem::zeroed() };
        (step.code, step.off, step.imm) = (code, off, imm);
        step.set_dst_reg(to);
        step.set_src_reg(from);
        step
    };
    let steps = [
        // r1 = r10 - 8; r2 = 8; r3 = 8; bpf_probe_read_user(r1, r2, r3); return 0
        step(0xbf, 1, 10, 0, 0),
        step(0x07, 1, 0, 0, -8),
        step(0xb7, 2, 0, 0, 8),
        step(0xb7, 3, 0, 0, 8),
        step(0x85, 0, 0, 0, 112),
        step(0xb7, 0, 0, 0, 0),
        step(0x95, 0, 0, 0, 0),
    ];
    descriptor(bpf_cmd::BPF_PROG_LOAD, |attr| {
        attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32;
        attr.__bindgen_anon_3.insn_cnt = steps.len() as u32;
        attr.__bindgen_anon_3.insns = steps.as_ptr() as u64;
        attr.__bindgen_anon_3.license = LICENSE.as_ptr() as u64;
    })
}

#[cfg(target_arch = "x86_64")]
#[test]
fn skipped_runs_are_read_as_the_kernel_counts_them() {
    if !require_bpf() {
        return;
    }
    let program = skipped_program();
    assert_eq!(missed::of(program.as_fd()), 0);
    let name = c"page_fault_kernel";
    let link = descriptor(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, |attr| {
        attr.raw_tracepoint.name = name.as_ptr() as u64;
        attr.raw_tracepoint.prog_fd = program.as_raw_fd().cast_unsigned();
    });
    // The kernel writes into pages that are not there yet.
    let mut pages = Vec::with_capacity(16 << 20);
    File::open("/dev/zero").unwrap().take(16 << 20).read_to_end(&mut pages).unwrap();
    drop(link);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).unwrap();
    let kernel = info.lines().find_map(|line| line.strip_prefix("recursion_misses:")).unwrap();
    let kernel: u64 = kernel.trim().parse().unwrap();
    println!("{kernel} runs skipped");
    assert!(kernel > 0, "{info}");
    assert_eq!(missed::of(program.as_fd()), kernel);
}
