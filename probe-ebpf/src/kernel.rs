//! The kernel's structures, by offsets that the agent reads from BTF and injects before loading.
//!
//! The globals live in .rodata, which is frozen before the programs load: the verifier sees constants, so a
//! pointer whose type it knows (the current task and what hangs from it) can be read with plain loads; past
//! `void *` and `struct file **` it takes bpf_probe_read_kernel. Nothing here keeps state.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    Global,
    bindings::seq_file,
    helpers::generated::{
        bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user, bpf_task_pt_regs,
    },
};
use loopscope_probe::{CALL_NUMBERS, RDONLY_CAST};

/// Offsets and constants; the agent's table of the same names fills them.
macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => { $(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub static $name: Global<u32> = Global::new(0);
    )+ };
}

globals! {
    /// task_struct.files
    TASK_FILES,
    /// task_struct.pid
    TASK_PID,
    /// task_struct.tgid
    TASK_TGID,
    /// task_struct.comm
    TASK_COMM,
    /// task_struct.group_leader
    TASK_GROUP_LEADER,
    /// task_struct.real_parent
    TASK_REAL_PARENT,
    /// task_struct.cgroups
    TASK_CGROUPS,
    /// css_set.dfl_cgrp
    CSS_SET_DFL_CGRP,
    /// cgroup.level
    CGROUP_LEVEL,
    /// cgroup.ancestors
    CGROUP_ANCESTORS,
    /// cgroup.kn
    CGROUP_KN,
    /// kernfs_node.id
    KERNFS_NODE_ID,
    /// files_struct.fdt
    FILES_STRUCT_FDT,
    /// fdtable.max_fds
    FDTABLE_MAX_FDS,
    /// fdtable.fd
    FDTABLE_FD,
    /// file.f_op
    FILE_F_OP,
    /// pt_regs: the call's number
    REGS_NUMBER,
    /// pt_regs: argument 0
    REGS_ARG0,
    /// pt_regs: argument 1
    REGS_ARG1,
    /// pt_regs: argument 2
    REGS_ARG2,
    /// pt_regs: argument 3
    REGS_ARG3,
    /// pt_regs: argument 4
    REGS_ARG4,
    /// pt_regs: the return value
    REGS_RETURN,
    /// 1 where the return register holds -ENOSYS during a system call (x86-64); elsewhere it holds the first argument
    REGS_ENOSYS,
    /// file.private_data
    FILE_PRIVATE_DATA,
    /// eventpoll.rdllist
    EVENTPOLL_RDLLIST,
    /// epitem.rdllink
    EPITEM_RDLLINK,
    /// epitem.event
    EPITEM_EVENT,
    /// epitem.rbn
    EPITEM_RBN,
    /// epitem.ffd.file
    EPITEM_FILE,
    /// epitem.ffd.fd
    EPITEM_FD,
    /// epitem.event.data
    EPITEM_DATA,
    /// eventpoll.rbr.rb_root.rb_node
    EVENTPOLL_RBR,
    /// eventpoll.user
    EVENTPOLL_USER,
    /// eventpoll.refcount.refs.counter; 0 where there is none
    EVENTPOLL_REFCOUNT,
    /// user_struct.uid
    USER_STRUCT_UID,
    /// rb_node.rb_left
    RB_NODE_LEFT,
    /// rb_node.rb_right
    RB_NODE_RIGHT,
    /// 1: ready lists are measured
    BACKLOG,
    /// Process whose instances' events are counted by what delivered them; 0: none
    HOT,
    /// Bytes of one `struct epoll_event`
    EVENT_BYTES,
    /// k_sigaction.sa.sa_handler
    SIGACTION_HANDLER,
    /// task_struct.thread_info: the 32-bit word that tells a 32-bit system call
    TASK_COMPAT,
    /// Which bit of it
    TASK_COMPAT_BIT,
    /// 1 where 32-bit tasks are of ARM, not of i386
    COMPAT_ARM,
    /// task_struct.io_uring
    TASK_IO_URING,
    /// io_uring_task.registered_rings
    REGISTERED_RINGS,
    /// io_ring_ctx.rings
    RING_RINGS,
    /// io_ring_ctx.cq_entries
    RING_ENTRIES,
    /// io_ring_ctx.cq_wait_arg; 0 where it is not known
    RING_WAIT_ARG,
    /// io_rings.cq.head
    RINGS_HEAD,
    /// io_rings.cq.tail
    RINGS_TAIL,
    /// io_kiocb.file
    REQUEST_FILE,
    /// io_kiocb.opcode
    REQUEST_OPCODE,
    /// io_kiocb.cqe.res
    REQUEST_RESULT,
    /// io_epoll.epfd
    REQUEST_EPFD,
    /// io_epoll.op
    REQUEST_OP,
    /// io_epoll.event
    REQUEST_EVENT,
    /// io_epoll_wait.maxevents; 0 where it is not known
    REQUEST_MAXEVENTS,
    /// BTF id of a structure that begins with two longs, by which [`read`] reads; 0 where it has to ask a helper
    READ_TYPE,
    /// Possible CPUs
    CPUS,
    /// An epoll descriptor of the agent: its f_op tells epoll files
    AGENT_EPFD,
    /// How many process ids are in PIDS; 0: all processes
    FILTER_PIDS,
    /// How many cgroups are in CGROUPS; 0: all
    FILTER_CGROUPS,
    /// 1: only the descendants of the agent's process
    FILTER_TREE,
    /// 1 where stores of one CPU may be seen out of order by another (everything but x86)
    WEAK_MEMORY,
}

/// From a system call's number to its [`loopscope_probe::probe`]; the agent's table for its architecture fills it.
#[unsafe(no_mangle)]
pub static PROBE_OF_CALL: Global<[u8; CALL_NUMBERS]> = Global::new([0; CALL_NUMBERS]);

/// The probe of a call's number; [`loopscope_probe::probe::NONE`] for most.
#[inline(always)]
pub fn probe_of(number: u32) -> usize {
    let i = below::<CALL_NUMBERS>(number as usize);
    if i != number as usize {
        return 0;
    }
    // SAFETY: below the length of the table. Volatile, since the values come after the compiler.
    usize::from(unsafe { (&raw const PROBE_OF_CALL).cast::<u8>().add(i).read_volatile() })
}

/// A `struct task_struct` that the verifier trusts.
pub type TaskPtr = *const u8;

/// Context of an iter/task program (kernel/bpf/task_iter.c).
#[repr(C)]
pub struct TaskIter {
    /// What the iterator framework gives.
    pub meta: *const IterMeta,
    /// The task; null in the last call of a pass.
    pub task: TaskPtr,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
pub struct IterMeta {
    /// Where bpf_seq_write writes.
    pub seq: *mut seq_file,
    /// Number of this pass, unique on the host.
    pub session_id: u64,
    /// Index of the object in the pass.
    pub seq_num: u64,
}

/// The running thread.
#[inline(always)]
pub fn current() -> TaskPtr {
    // SAFETY: the helper has no preconditions and never returns null.
    unsafe { bpf_get_current_task_btf() }.cast()
}

/// A field of a structure whose type the verifier knows, by a plain load.
#[inline(always)]
pub fn field<T: Copy>(structure: *const u8, offset: &Global<u32>) -> T {
    // SAFETY: the verifier checks type and offset; a load from a stale pointer is fixed up by the kernel.
    unsafe { structure.add(offset.load() as usize).cast::<T>().read() }
}

/// A field read by bpf_probe_read_kernel, which checks the address at run time.
#[inline(always)]
pub fn probe<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination is a T on the stack; the helper fails on a bad source.
    let failed = unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void)
    };
    // SAFETY: the helper fills the destination on success (and zeroes it on failure).
    (failed == 0).then(|| unsafe { value.assume_init() })
}

/// The number at an address to which `bpf_rdonly_cast` gives the type with this BTF id: see [`read`].
macro_rules! cast {
    ($address:ident, $id:ident $(, $options:tt($($option:ident),+))?) => {{
        let typed: *const u64;
        // SAFETY: a call by BPF's convention, which this assembler has no name for: opcode 0x85, source 2 (a kernel
        // function).
        unsafe {
            core::arch::asm!(".long 0x2085, {function}", function = const RDONLY_CAST,
                inlateout("r1") $address => _, inlateout("r2") $id => _, lateout("r0") typed,
                lateout("r3") _, lateout("r4") _, lateout("r5") _ $(, $options($($option),+))?);
        }
        // SAFETY: the verifier knows the type; a load from a stale address is fixed up by the kernel.
        unsafe { typed.read() }
    }};
}

/// A number of eight bytes at an address of the kernel; 0 where it cannot be read.
///
/// `bpf_rdonly_cast` (since Linux 6.2) gives the verifier a type for the address, so that the number is read by one load,
/// which the kernel fixes up on a bad address: 20 ns less than the helper of [`probe`]. The agent writes the function's
/// number of the running kernel in the place of [`RDONLY_CAST`], or makes the call a no-op and leaves READ_TYPE 0.
#[inline(always)]
pub fn read(address: u64) -> u64 {
    let id = READ_TYPE.load();
    if id == 0 {
        return probe(address).unwrap_or(0);
    }
    cast!(address, id)
}

/// As [`read`], of what no program here writes: the compiler may keep its own state in registers across it.
#[inline(always)]
pub fn load(address: u64) -> u64 {
    let id = READ_TYPE.load();
    if id == 0 {
        return probe(address).unwrap_or(0);
    }
    // The function gives back its argument and touches no memory.
    cast!(address, id, options(nomem, nostack))
}

/// As [`probe`], from the memory of the running process.
#[inline(always)]
pub fn read_user<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as in `probe`.
    let failed = unsafe {
        bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void)
    };
    // SAFETY: as in `probe`.
    (failed == 0).then(|| unsafe { value.assume_init() })
}

/// Reads `bytes` (at most 8) of a number from the memory of the running process; 0 where it cannot be read.
#[inline(always)]
pub fn read_user_u64(address: u64, bytes: u32) -> u64 {
    let mut value = 0_u64;
    let mut bytes = bytes;
    // The verifier has to see the bound on the register that the helper gets.
    // SAFETY: masks a register.
    unsafe { core::arch::asm!("{bytes} &= 8", bytes = inout(reg) bytes) };
    // SAFETY: the destination has room for 8 bytes; the helper fails on a bad source, and zeroes the destination.
    unsafe { bpf_probe_read_user((&raw mut value).cast(), bytes, address as *const c_void) };
    value
}

/// Copies `size_of::<T>()` bytes by one helper call: a memcpy in eBPF is a loop over bytes.
#[inline(always)]
pub fn copy<T>(to: *mut T, from: *const T) {
    // SAFETY: the verifier checks that `to` has room; the helper checks the source.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from.cast()) };
}

/// Copies a small thing by words, in a fifth of the time that the helper of [`copy`] takes; the compiler would make it a
/// call of memmove, which is a loop over bytes.
#[inline(always)]
pub fn copy_words<T>(to: *mut T, from: *const T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8 && size_of::<T>() <= 512) };
    let (to, from) = (to.cast::<u64>(), from.cast::<u64>());
    for word in 0..size_of::<T>() / 8 {
        // SAFETY: the verifier checks that both have room.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
}

/// The saved user registers of a task.
#[inline(always)]
pub fn registers(task: TaskPtr) -> *const u8 {
    // SAFETY: the verifier checks that the task is trusted; the helper does not return null.
    unsafe { bpf_task_pt_regs(task.cast_mut().cast()) as usize as *const u8 }
}

/// Name of a task: `task_struct.comm`.
#[inline(always)]
pub fn comm(task: TaskPtr) -> [u8; 16] {
    probe(task as u64 + u64::from(TASK_COMM.load())).unwrap_or([0; 16])
}

/// Name of the process of a task: that of its main thread.
#[inline(always)]
pub fn process_comm(task: TaskPtr) -> [u8; 16] {
    // No plain load, which costs the verifier a search of all the kernel's types: only rare things need it.
    let leader: u64 = probe(task as u64 + u64::from(TASK_GROUP_LEADER.load())).unwrap_or(0);
    probe(leader + u64::from(TASK_COMM.load())).unwrap_or([0; 16])
}

/// As [`process_comm`] and [`comm`], without a helper where that can be: every pass asks for them.
#[inline(always)]
pub fn names(task: TaskPtr) -> [[u8; 16]; 2] {
    let leader = read(task as u64 + u64::from(TASK_GROUP_LEADER.load()));
    [leader, task as u64].map(|task| {
        let name = task + u64::from(TASK_COMM.load());
        // SAFETY: both are sixteen bytes.
        unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>([read(name), read(name + 8)]) }
    })
}

/// Process id and thread id of a task, as the host counts.
#[inline(always)]
pub fn ids(task: TaskPtr) -> (u32, u32) {
    (field(task, &TASK_TGID), field(task, &TASK_PID))
}

/// `i` below N, a power of two, in a way that the compiler cannot leave out where it sees the bound by itself: the
/// verifier does not follow its reasoning.
#[inline(always)]
pub fn below<const N: usize>(i: usize) -> usize {
    const { assert!(N.is_power_of_two()) };
    let mut i = i;
    // SAFETY: masks a register.
    unsafe { core::arch::asm!("{i} &= {mask}", i = inout(reg) i, mask = const N - 1) };
    i
}
