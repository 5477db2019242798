//! The iterator that reads interest sets: for each descriptor table the epoll instances in it, and the entries of each
//! from the kernel's own tree (fs/eventpoll.c: `eventpoll.rbr`).
//!
//! It takes no lock, so the tree may change under the walk. Entries are visited in the order of their keys, each key
//! greater than the last, so a walk ends and shows none twice; what a rotation hides from it, a second walk shows: it
//! compares, and where the two differ a third is sent too. A run of the program is bounded by [`STEPS`] and goes on where
//! it was by the last key, never by a pointer, since entries may be freed in between. What is found leaves through a
//! ring buffer, since the iterator's own drops what a run wrote that asks to be called again.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::bpf_loop,
    macros::map,
    maps::{Array, HashMap, RingBuf},
};
use loopscope_probe::{CHUNK_ENTRIES, Chunk, ChunkHead, Entry, chunk};

use crate::{
    filter,
    instance::{self, Table},
    kernel::{
        self, EPITEM_DATA, EPITEM_EVENT, EPITEM_FD, EPITEM_FILE, EPITEM_RBN, EVENTPOLL_RBR, EVENTPOLL_USER,
        FILE_PRIVATE_DATA, RB_NODE_LEFT, RB_NODE_RIGHT, TASK_FILES, TASK_GROUP_LEADER, TaskIter, TaskPtr,
        USER_STRUCT_UID,
    },
    wait::now,
};

/// Steps of one run: some 100 us.
const STEPS: u32 = 512;
/// Levels of a tree that are followed; a red-black tree of n entries has at most 2 log2(n + 1).
const DEPTH: usize = 64;
/// Descriptors that are looked at in one step.
const DESCRIPTORS: u32 = 8;
/// Tree nodes that are passed in one step: the helper's loop takes longer for a call than a node does.
const NODES: u32 = 8;
/// "Call me again with this task": the read gives EAGAIN.
const AGAIN: i32 = 1;
/// BPF_RB_NO_WAKEUP: the reader empties the buffer by itself.
const NO_WAKEUP: u64 = 1;
/// Tables that are remembered as read in a pass; one more than this may be read twice, which the reader sees.
const TABLES: u32 = 65_536;

/// What the walk has found; the reader empties it after each run.
#[map]
static ENTRIES: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
/// Descriptor tables and instances that were read: (address, table) to the pass.
#[map]
static WALKED: HashMap<[u64; 2], u64> =
    HashMap::with_max_entries(TABLES, aya_ebpf::bindings::BPF_F_NO_PREALLOC);
/// Where the walk is.
#[map]
static WALKER: Array<Walker> = Array::with_max_entries(1, 0);

/// Where the walk is: written by the one reader's program alone.
#[repr(C)]
struct Walker {
    /// The pass, and the task in it whose table is being read; 0 for none.
    session: u64,
    task: u64,
    /// The table: its array of files, how many there are, and the next to look at.
    files: u64,
    size: u32,
    next: u32,
    /// 1 while an instance is walked.
    walking: u32,
    /// Number of the walk of this instance: 0 and 2 are sent, 1 compares.
    round: u32,
    /// Address of the pointer to the tree's root.
    tree: u64,
    /// The entry that is looked at, or 0 where the next is on top of `stack`.
    cursor: u64,
    depth: u32,
    /// 1 where the tree was deeper than [`DEPTH`], or led in circles.
    lost: u32,
    stack: [u64; DEPTH],
    /// Key of the last entry that was visited, and its file and descriptor apart.
    last_file: u64,
    last_fd: i64,
    /// Entries of this walk and of the first, and what their contents sum up to.
    count: u64,
    sum: u64,
    first_count: u64,
    first_sum: u64,
    /// Entries at the begin of this run: a run without progress ends the walk.
    before: u64,
    chunk: Chunk,
}

/// One call of the iterator: a task, or null at the end of the pass.
#[inline(always)]
pub fn show(ctx: *const TaskIter) -> i32 {
    // SAFETY: the verifier knows the context's layout.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    // SAFETY: meta is never null.
    let session = unsafe { (*meta).session_id };
    if task.is_null() {
        return 0;
    }
    let Some(walker) = walker() else {
        return 0;
    };
    if walker.session != session {
        walker.session = session;
        walker.task = 0;
        walker.chunk.head.longest_ns = 0;
    }
    if walker.task != task as u64 && !begin(walker, task) {
        return 0;
    }
    // What is left of the tree is found by the last key.
    walker.cursor = if walker.walking == 0 { 0 } else { kernel::read(walker.tree) };
    walker.depth = 0;
    walker.before = walker.count;
    let mut nothing = 0_u64;
    let start = now();
    // SAFETY: the callback's signature is what the helper calls, and the context outlives the call.
    let steps = unsafe { bpf_loop(STEPS, step as *const () as *mut c_void, (&raw mut nothing).cast(), 0) };
    let ran = (now() - start) as u32;
    if ran > walker.chunk.head.longest_ns {
        walker.chunk.head.longest_ns = ran;
    }
    if steps < i64::from(STEPS) {
        walker.task = 0;
        return 0;
    }
    if walker.walking != 0 && walker.count == walker.before {
        walker.lost = 1;
        walker.cursor = 0;
        walker.depth = 0;
        ended(walker);
    }
    AGAIN
}

#[inline(always)]
fn walker() -> Option<&'static mut Walker> {
    // SAFETY: an array element lives as long as the map; there is one reader.
    WALKER.get_ptr_mut(0).and_then(|walker| unsafe { walker.as_mut() })
}

/// Begins with the descriptor table of a task; false where it was read already, in the name of another, or is not wanted.
#[inline(always)]
fn begin(walker: &mut Walker, task: TaskPtr) -> bool {
    let files: u64 = kernel::field(task, &TASK_FILES);
    if files == 0 || !filter::selected(task) {
        return false;
    }
    let leader: u64 = kernel::field(task, &TASK_GROUP_LEADER);
    if leader != task as u64 && kernel::read(leader + u64::from(TASK_FILES.load())) == files {
        return false;
    }
    if visited(files, 0, walker.session) {
        return false;
    }
    let Table { size, files } = instance::table(task);
    walker.task = task as u64;
    walker.files = files;
    walker.size = size;
    walker.next = 0;
    walker.walking = 0;
    walker.count = 0;
    walker.chunk.head.tgid = kernel::ids(task).0;
    true
}

/// Whether a table, or an instance in a table, was visited in this pass; from now on it was.
#[inline(always)]
fn visited(address: u64, table: u64, session: u64) -> bool {
    let key = [address, table];
    // SAFETY: a u64 is read whole.
    if unsafe { WALKED.get(&key) } == Some(&session) {
        return true;
    }
    // Where there is no room, it is read twice.
    let _ = WALKED.insert(&key, &session, 0);
    false
}

/// One step: a few descriptors, or an entry. 1 ends the loop.
unsafe extern "C" fn step(_: u32, _: *mut c_void) -> i64 {
    let Some(walker) = walker() else {
        return 1;
    };
    for _ in 0..NODES {
        if walker.walking == 0 {
            break;
        }
        walk(walker);
    }
    if walker.walking != 0 {
        return 0;
    }
    for _ in 0..DESCRIPTORS {
        if walker.next >= walker.size {
            return 1;
        }
        let fd = walker.next;
        walker.next += 1;
        let file = kernel::read(walker.files + u64::from(fd) * 8);
        if file != 0 && instance::is_epoll(file) {
            found(walker, file, fd);
            return 0;
        }
    }
    0
}

/// A descriptor means an instance: begins to walk it, unless the table has it by another descriptor too.
#[inline(always)]
fn found(walker: &mut Walker, file: u64, fd: u32) {
    let head = &mut walker.chunk.head;
    head.file = file;
    head.generation = instance::generation(file);
    head.epfd = fd;
    let instance = kernel::read(file + u64::from(FILE_PRIVATE_DATA.load()));
    let user = kernel::read(instance + u64::from(EVENTPOLL_USER.load()));
    head.uid = kernel::read(user + u64::from(USER_STRUCT_UID.load())) as u32;
    send(walker, chunk::HOLDER);
    if visited(file, walker.files, walker.session) {
        return;
    }
    walker.tree = instance + u64::from(EVENTPOLL_RBR.load());
    walker.walking = 1;
    walker.lost = 0;
    again(walker, 0);
}

/// Begins a walk of the instance.
#[inline(always)]
fn again(walker: &mut Walker, round: u32) {
    walker.round = round;
    walker.cursor = kernel::read(walker.tree);
    walker.depth = 0;
    walker.last_file = 0;
    walker.last_fd = -1;
    walker.count = 0;
    walker.sum = 0;
    walker.before = 0;
}

/// A field of the entry whose tree node is given.
#[inline(always)]
fn item(node: u64, offset: u32) -> u64 {
    kernel::read(node.wrapping_add(u64::from(offset)).wrapping_sub(u64::from(EPITEM_RBN.load())))
}

/// One step of a walk: down to the left, or the next entry in order.
#[inline(always)]
fn walk(walker: &mut Walker) {
    let node = walker.cursor;
    if node != 0 {
        let (file, fd) = (item(node, EPITEM_FILE.load()), item(node, EPITEM_FD.load()) as u32);
        if file < walker.last_file || (file == walker.last_file && i64::from(fd) <= walker.last_fd) {
            walker.cursor = kernel::read(node + u64::from(RB_NODE_RIGHT.load()));
            return;
        }
        let depth = walker.depth as usize;
        if depth >= DEPTH {
            walker.lost = 1;
            walker.cursor = 0;
            return;
        }
        // SAFETY: below the length of the array.
        unsafe { *walker.stack.get_unchecked_mut(kernel::below::<DEPTH>(depth)) = node };
        walker.depth = depth as u32 + 1;
        walker.cursor = kernel::read(node + u64::from(RB_NODE_LEFT.load()));
        return;
    }
    if walker.depth == 0 {
        ended(walker);
        return;
    }
    walker.depth -= 1;
    // SAFETY: below the length of the array.
    let node = unsafe { *walker.stack.get_unchecked(kernel::below::<DEPTH>(walker.depth as usize)) };
    visit(walker, node);
    walker.cursor = kernel::read(node + u64::from(RB_NODE_RIGHT.load()));
}

/// Takes in an entry.
#[inline(always)]
fn visit(walker: &mut Walker, node: u64) {
    let (file, fd) = (item(node, EPITEM_FILE.load()), item(node, EPITEM_FD.load()) as u32);
    let events = item(node, EPITEM_EVENT.load()) as u32;
    walker.last_file = file;
    walker.last_fd = i64::from(fd);
    walker.count += 1;
    walker.sum = walker
        .sum
        .wrapping_add((file ^ u64::from(fd)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(events));
    if walker.round == 1 {
        return;
    }
    let behind = fd < walker.size && kernel::read(walker.files + u64::from(fd) * 8) == file;
    let filled = kernel::below::<CHUNK_ENTRIES>(walker.chunk.head.count as usize);
    // SAFETY: below the length of the array.
    let entry = unsafe { walker.chunk.entries.get_unchecked_mut(filled) };
    *entry =
        Entry { file, data: item(node, EPITEM_DATA.load()), fd, events, behind: behind.into(), _unused: 0 };
    walker.chunk.head.count = filled as u32 + 1;
    if filled + 1 == CHUNK_ENTRIES {
        send(walker, chunk::ENTRIES);
    }
}

/// A walk has come to its end: sends what is left of it, and decides whether it was the last.
#[inline(always)]
fn ended(walker: &mut Walker) {
    if walker.round == 0 {
        walker.first_count = walker.count;
        walker.first_sum = walker.sum;
        again(walker, 1);
        return;
    }
    let same = walker.count == walker.first_count && walker.sum == walker.first_sum;
    if walker.round == 1 && !same {
        send(walker, chunk::ENTRIES);
        again(walker, 2);
        return;
    }
    send(walker, chunk::END);
    walker.walking = 0;
    walker.cursor = 0;
}

/// Sends the chunk, and empties it.
#[inline(never)]
fn send(walker: &mut Walker, kind: usize) {
    let chunk = &mut walker.chunk;
    chunk.head.kind = kind as u32;
    chunk.head.round = walker.round;
    chunk.head.lost = walker.lost;
    let result = if kind == chunk::HOLDER {
        ENTRIES.output::<ChunkHead>(&chunk.head, NO_WAKEUP)
    } else {
        ENTRIES.output::<Chunk>(&*chunk, NO_WAKEUP)
    };
    // The buffer has room for all that a run can find: see ENTRIES and STEPS.
    if result.is_err() {
        walker.lost = 1;
    }
    walker.chunk.head.count = 0;
}
