//! Which epoll instance or ring a descriptor means, and which use of its address.
//!
//! An instance is known by its `struct file`: the two live and die together, dup, fork and SCM_RIGHTS share it,
//! and finding it takes one guarded read. The address alone is not enough, since the slab hands it out again
//! (measured: in 274 of 1,000 close and reopen cycles); the time of the creation tells the uses apart.

use aya_ebpf::{EbpfContext, helpers::generated::bpf_ktime_get_ns};
use aya_log_ebpf::{debug, error};
use loopscope_probe::{Loop, lost, waitable};

use crate::{
    counters, filter,
    kernel::{self, FDTABLE_FD, FDTABLE_MAX_FDS, FILE_F_OP, FILES_STRUCT_FDT, TASK_FILES, TaskPtr},
    storage::{BIRTHS, EPOCH_SLOTS, EPOCHS, ordered, reader},
};

/// The descriptor table of a task.
#[derive(Clone, Copy)]
pub struct Table {
    /// How many descriptors it has room for.
    pub size: u32,
    /// Address of its array of files.
    pub files: u64,
}

/// The descriptor table of `task`; one of size 0 where it has none.
///
/// Take it once, and before the paths part: the load of a pointer from a trusted task makes the verifier search all the
/// kernel's types by name four times, on each path (12 loads in a loop took 20 ms).
#[inline(always)]
pub fn table(task: TaskPtr) -> Table {
    let files: *const u8 = kernel::field(task, &TASK_FILES);
    if files.is_null() {
        return Table { size: 0, files: 0 };
    }
    let table: *const u8 = kernel::field(files, &FILES_STRUCT_FDT);
    Table { size: kernel::field(table, &FDTABLE_MAX_FDS), files: kernel::field(table, &FDTABLE_FD) }
}

impl Table {
    /// The `struct file` behind a descriptor; 0 where there is none.
    #[inline(always)]
    pub fn file(&self, fd: i32) -> u64 {
        if fd as u32 >= self.size {
            return 0;
        }
        kernel::read(self.files + u64::from(fd as u32) * 8)
    }

    /// 1 where a descriptor that meant an instance does so no longer: it was closed, or is another by now. `epoch_then`: the
    /// one under which the generation was last confirmed; while it stands still, nothing is looked up. What has no
    /// descriptor is never closed by one.
    #[inline(always)]
    pub fn closed(&self, fd: i32, file_then: u64, generation_then: u64, epoch_then: u32) -> u32 {
        if file_then <= waitable::LAST || fd < 0 {
            return 0;
        }
        if fd as u32 >= self.size {
            return 1;
        }
        changed(self.files + u64::from(fd as u32) * 8, file_then, generation_then, epoch_then)
    }

    /// As [`Table::closed`], of a loop.
    #[inline(always)]
    pub fn closed_loop(&self, looped: &Loop) -> u32 {
        self.closed(looped.fd, looped.waitable, looped.generation, looped.epoch)
    }
}

/// Whether an element of a table of files is another file by now, or another use of the same address. A function of its
/// own: what it leaves on its stack would be paths of their own to verify.
#[inline(never)]
fn changed(element: u64, file_then: u64, generation_then: u64, epoch_then: u32) -> u32 {
    if kernel::read(element) != file_then {
        return 1;
    }
    u32::from(epoch(file_then) != epoch_then && generation(file_then) != generation_then)
}

/// The `struct file` behind a descriptor of `task`; 0 where there is none.
#[inline(always)]
pub fn file(task: TaskPtr, fd: i32) -> u64 {
    table(task).file(fd)
}

/// Whether a file is an epoll instance. Before the kernel's file operations are known, none is.
#[inline(always)]
pub fn is_epoll(file: u64) -> bool {
    let operations = kernel::read(file + u64::from(FILE_F_OP.load()));
    operations != 0 && reader().is_some_and(|reader| operations == reader.epoll_fops)
}

/// The element of [`EPOCHS`] that an address hashes to (Fibonacci hashing; files are 64-byte aligned).
#[inline(always)]
fn epoch_slot(file: u64) -> u32 {
    ((file >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as u32 & (EPOCH_SLOTS - 1)
}

/// How many instances were created at addresses like this one. While it stands still, what is known of the
/// address holds; when it moves, [`generation`] says whether this very address was reused.
#[inline(always)]
pub fn epoch(file: u64) -> u32 {
    EPOCHS.get(epoch_slot(file)).map_or(0, |epoch| *epoch as u32)
}

/// When the instance at this address was created, CLOCK_MONOTONIC ns; 0 if before the probes.
#[inline(always)]
pub fn generation(file: u64) -> u64 {
    // SAFETY: entries are never deleted, and a u64 is read whole.
    unsafe { BIRTHS.get(&file) }.copied().unwrap_or(0)
}

/// Exit of epoll_create, epoll_create1 and io_uring_setup: a new use of an address begins, before anybody can wait on it.
#[inline(always)]
pub fn created<C: EbpfContext>(ctx: &C, probe: usize, fd: i64) {
    counters::run(probe);
    let task = kernel::current();
    if fd < 0 {
        return;
    }
    let file = file(task, fd as i32);
    if file == 0 {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if BIRTHS.insert(&file, &now, 0).is_err() && filter::selected(task) {
        counters::lost(lost::RECORDS);
        error!(ctx, "no room for the birth of another epoll instance or ring");
    }
    if let Some(epoch) = EPOCHS.get_ptr_mut(epoch_slot(file)) {
        // SAFETY: an array element lives as long as the map; several CPUs may create at once, hence atomic.
        ordered(unsafe { &mut *epoch }, 1);
    }
    debug!(ctx, "epoll instance or ring created, fd {}", fd);
}
