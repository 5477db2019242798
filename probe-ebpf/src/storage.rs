//! The maps, and the task storage type that aya-ebpf lacks.
//!
//! Task storage holds what a thread did: it is created zeroed at its first wait, found without hashing, and
//! dies with the task. The sequence word guards a record against a reader that copies it while it is written.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{
        BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE,
        bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
    },
    helpers::generated::{bpf_task_storage_delete, bpf_task_storage_get},
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use loopscope_probe::{Counters, CtlTask, Head, LINES, Line, Loop, MoreLoops, Scalars, Task};

use crate::kernel::{TaskPtr, WEAK_MEMORY};

/// A BPF_MAP_TYPE_TASK_STORAGE map; the fields exist for the BTF that the loader reads, never for code.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the pointers are placeholders that are never followed; the kernel guards the map.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    #[inline(always)]
    fn lookup(&self, task: TaskPtr, flags: u64) -> Option<&'static mut T> {
        let map = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the verifier checks map and task.
        let mut value = unsafe { bpf_task_storage_get(map, task.cast_mut().cast(), ptr::null_mut(), flags) };
        if value.is_null() {
            return None;
        }
        // The compiler may compute a field's address before it looks for null, which the verifier refuses; what
        // comes out of an assembler statement it cannot compute ahead of it.
        // SAFETY: moves a register onto itself.
        unsafe { core::arch::asm!("{value} = {value}", value = inout(reg) value) };
        // SAFETY: not null: a zero-initialised T that lives as long as the task and is written by that task's
        // programs alone, which do not nest.
        unsafe { value.cast::<T>().as_mut() }
    }

    /// The record of `task`, where it has one.
    #[inline(always)]
    pub fn get(&self, task: TaskPtr) -> Option<&'static mut T> {
        self.lookup(task, 0)
    }

    /// The record of `task`, made when it has none; None where there is no memory.
    #[inline(always)]
    pub fn get_or_create(&self, task: TaskPtr) -> Option<&'static mut T> {
        self.lookup(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE))
    }

    /// Ends the record of `task`.
    #[inline(always)]
    pub fn delete(&self, task: TaskPtr) {
        let map = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the verifier checks map and task.
        unsafe { bpf_task_storage_delete(map, task.cast_mut().cast()) };
    }
}

/// Threads that wait.
#[btf_map]
pub static TASKS: TaskStorage<Task> = TaskStorage::new();
/// Further waitables of threads that use several.
#[btf_map]
pub static MORE: TaskStorage<MoreLoops> = TaskStorage::new();
/// Threads that call epoll_ctl.
#[btf_map]
pub static CTLS: TaskStorage<CtlTask> = TaskStorage::new();

/// When the epoll instance behind a `struct file` address was created, for those created under our eyes.
/// Addresses come from a slab that reuses them, so their number stays near that of the files open at once.
#[map]
pub static BIRTHS: HashMap<u64, u64> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
/// Creations per hashed address: while the number stands still, what a thread knows of an address holds.
#[map]
pub static EPOCHS: Array<u64> = Array::with_max_entries(EPOCH_SLOTS, 0);
/// Size of [`EPOCHS`]: 32 KB, which stays in the cache of a busy host.
pub const EPOCH_SLOTS: u32 = 4096;

/// Completions for which a ring (its io_ring_ctx) had no room, until a wait on it takes the number.
#[map]
pub static OVERFLOWS: HashMap<u64, u64> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
/// How many there were on this host: where there were none, nobody looks into [`OVERFLOWS`].
#[map]
pub static OVERFLOWED: Array<u64> = Array::with_max_entries(1, 0);
/// Runs and losses.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
/// Rare things: a new thread, a thread's end, an eviction. 4 MB hold the ends of 2,500 threads.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);
/// Processes to watch, where the user named some.
#[map]
pub static PIDS: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);
/// Cgroups to watch (kernfs ids and their levels), where the user named some.
#[map]
pub static CGROUPS: Array<Cgroup> = Array::with_max_entries(CGROUPS_MAX, 0);
/// Room in [`CGROUPS`].
pub const CGROUPS_MAX: u32 = 16;
/// Bit i: the raw programs serve number i of [`loopscope_probe::probe`].
#[map]
pub static RAW_PROBES: Array<u64> = Array::with_max_entries(1, 0);
/// Not 0: a pass sends every line of every loop. Mapped into the agent's memory, since a map update would make the kernel
/// skip runs of tracepoints meanwhile.
#[map]
pub static WHOLE: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// What the reader alone writes.
#[map]
pub static READER: Array<Reader> = Array::with_max_entries(1, 0);

/// A cgroup of the v2 hierarchy.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Cgroup {
    /// kernfs id: the inode number of its folder.
    pub id: u64,
    /// Depth below the root.
    pub level: u64,
}

/// State of the reader, and the room in which it puts a record together.
#[repr(C)]
pub struct Reader {
    /// The iterator session of the current pass.
    pub session: u64,
    /// Number of the current pass.
    pub window: u64,
    /// What WHOLE said when it began.
    pub whole: u64,
    /// Address of the kernel's epoll file operations.
    pub epoll_fops: u64,
    /// Process id of the reader, as the host counts.
    pub tgid: u64,
    /// Room for what precedes a record.
    pub head: Head,
    /// Room for a loop in parts.
    pub parts: Parts,
    /// Room for the first loop of a thread that has several.
    pub first: Loop,
    /// Room for its further loops.
    pub more: MoreLoops,
    /// Room for its epoll_ctl calls.
    pub ctl: CtlTask,
    /// Room for the counters.
    pub counters: Counters,
}

/// A record of kind [`loopscope_probe::kind::LINES`] on its way.
#[repr(C)]
pub struct Parts {
    /// What precedes it.
    pub head: Head,
    /// Which lines it has.
    pub lines: u64,
    /// Everything but the histograms.
    pub scalars: Scalars,
    /// The lines.
    pub room: [Line; PARTS_ROOM],
    /// How many are taken; of the reader only.
    pub taken: u64,
    /// Which lines are still to be taken; of the reader only.
    pub left: u64,
    /// The sequence word of what was copied.
    pub sequence: u64,
    /// 1 where that was whole.
    pub copied: u64,
    /// On its way to its use: see [`loopscope_probe::Loop::scratch`].
    pub closed: u32,
    /// Padding.
    pub _unused: u32,
}

/// Lines that [`Parts`] has room for: a power of two, so that a mask bounds an index.
pub const PARTS_ROOM: usize = LINES.next_power_of_two();

/// The reader's state.
#[inline(always)]
pub fn reader() -> Option<&'static mut Reader> {
    // SAFETY: an array element lives as long as the map; there is one reader.
    READER.get_ptr_mut(0).and_then(|reader| unsafe { reader.as_mut() })
}

/// Opens or closes a stretch of writing: the sequence word is odd between two calls.
#[inline(always)]
pub fn bump(sequence: &mut u64) {
    if WEAK_MEMORY.load() == 0 {
        // Stores stay in program order on x86, so it is enough to keep the compiler from moving them across this
        // one: no access to memory is moved across an assembler statement.
        let next = sequence.wrapping_add(1);
        // SAFETY: stores to an aligned u64 that is borrowed mutably.
        unsafe {
            core::arch::asm!("*(u64 *)({word} + 0) = {next}", word = in(reg) ptr::from_mut(sequence), next = in(reg) next);
        }
    } else {
        ordered(sequence, 1);
    }
}

/// Reads a sequence word so that no load moves across it.
#[inline(always)]
pub fn sequence(word: &mut u64) -> u64 {
    if WEAK_MEMORY.load() == 0 {
        // Loads stay in program order on x86; the compiler moves none across an assembler statement.
        let value: u64;
        // SAFETY: loads an aligned u64 that is borrowed.
        unsafe {
            core::arch::asm!("{value} = *(u64 *)({word} + 0)", word = in(reg) ptr::from_mut(word), value = out(reg) value);
        }
        value
    } else {
        ordered(word, 0)
    }
}

/// Adds by an atomic instruction, which orders all memory accesses around it, and returns the old value. In
/// assembler, because Rust offers no read-modify-write atomics on this target.
#[inline(always)]
pub fn ordered(word: &mut u64, add: u64) -> u64 {
    let mut value = add;
    // SAFETY: the word is an aligned u64 that outlives the instruction.
    unsafe {
        core::arch::asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) ptr::from_mut(word), value = inout(reg) value);
    }
    value
}
