//! The iterator that reads interest sets: for each descriptor table the epoll instances in it, and the entries of each
//! from the kernel's own tree (fs/eventpoll.c: `eventpoll.rbr`).
//!
//! It takes no lock, so the tree may change under the walk. Entries are visited in the order of their keys, each key
//! greater than the last, so a walk ends and shows none twice. What a rotation hides from it, the kernel's own count
//! shows: an instance has a reference for each entry (fs/eventpoll.c: `ep_get` in ep_insert). Where that count moved, or
//! is not what was seen, or where the kernel has none (before Linux 6.4), a second walk compares, and where the two differ
//! a third is sent too. A run of the program is bounded by [`STEPS`] and goes on where it was by the last key, never by
//! a pointer, since entries may be freed in between. What is found leaves through a ring buffer, since the iterator's
//! own drops what a run wrote that asks to be called again.

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
        self, EPITEM_DATA, EPITEM_EVENT, EPITEM_FD, EPITEM_FILE, EPITEM_RBN, EVENTPOLL_RBR,
        EVENTPOLL_REFCOUNT, EVENTPOLL_USER, FILE_F_OP, FILE_PRIVATE_DATA, RB_NODE_LEFT, RB_NODE_RIGHT,
        TASK_FILES, TASK_GROUP_LEADER, TaskIter, TaskPtr, USER_STRUCT_UID,
    },
    storage::reader,
    tally,
    wait::now,
};

/// Steps of one run, 512 entries: some 20 us, far enough below 200 that an interrupt fits.
const STEPS: u32 = 64;
/// Levels of a tree that are followed; a red-black tree of n entries has at most 2 log2(n + 1).
const DEPTH: usize = 64;
/// Descriptors that are looked at in one step.
const DESCRIPTORS: u32 = 16;
/// Moves in a tree in one step, two for an entry: the helper's loop takes longer for a call than a move does.
const MOVES: u32 = 16;
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
    /// Address of the instance, and its count of references when the walk began.
    instance: u64,
    references: u64,
    /// Address of the kernel's epoll file operations, or 0 while they are not known.
    operations: u64,
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
    walker.cursor = if walker.walking == 0 { 0 } else { root(walker) };
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
    walker.operations = reader().map_or(0, |reader| reader.epoll_fops);
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

/// One step: a few descriptors, or a few moves in a tree. 1 ends the loop.
unsafe extern "C" fn step(_: u32, _: *mut c_void) -> i64 {
    let Some(walker) = walker() else {
        return 1;
    };
    if walker.walking != 0 {
        walk(walker);
        return 0;
    }
    let (table, size, operations) = (walker.files, walker.size, walker.operations);
    let mut file = 0;
    for _ in 0..DESCRIPTORS {
        let fd = walker.next;
        if fd >= size {
            return 1;
        }
        walker.next = fd + 1;
        file = kernel::load(table + u64::from(fd) * 8);
        if file != 0 && kernel::load(file + u64::from(FILE_F_OP.load())) == operations {
            break;
        }
        file = 0;
    }
    // Through memory, or what follows would be verified for each descriptor (4,000 instructions).
    let file = tally::forget(&mut walker.chunk.head.file, file);
    if file != 0 && operations != 0 {
        found(walker, file, walker.next - 1);
    }
    0
}

/// A descriptor means an instance, whose `file` is in the chunk's head: begins to walk it, unless the table has it by another descriptor too.
#[inline(always)]
fn found(walker: &mut Walker, file: u64, fd: u32) {
    let head = &mut walker.chunk.head;
    head.generation = instance::generation(file);
    head.epfd = fd;
    let instance = kernel::read(file + u64::from(FILE_PRIVATE_DATA.load()));
    let user = kernel::read(instance + u64::from(EVENTPOLL_USER.load()));
    head.uid = kernel::read(user + u64::from(USER_STRUCT_UID.load())) as u32;
    send(walker, chunk::HOLDER);
    if visited(file, walker.files, walker.session) {
        return;
    }
    walker.instance = instance;
    walker.references = references(walker);
    walker.walking = 1;
    walker.lost = 0;
    again(walker, 0);
}

/// The root of the instance's tree.
#[inline(always)]
fn root(walker: &Walker) -> u64 {
    kernel::load(walker.instance + u64::from(EVENTPOLL_RBR.load()))
}

/// The instance's count of references: one of its file, and one of each entry. 0 where the kernel has no such count.
#[inline(always)]
fn references(walker: &Walker) -> u64 {
    match EVENTPOLL_REFCOUNT.load() {
        0 => 0,
        offset => u64::from(kernel::load(walker.instance + u64::from(offset)) as u32),
    }
}

/// Begins a walk of the instance.
#[inline(always)]
fn again(walker: &mut Walker, round: u32) {
    walker.round = round;
    walker.cursor = root(walker);
    walker.depth = 0;
    walker.last_file = 0;
    walker.last_fd = -1;
    walker.count = 0;
    walker.sum = 0;
    walker.before = 0;
}

/// Where the fields of an entry lie, from its tree node on: found once a step, since each is two globals.
#[derive(Clone, Copy)]
struct Places {
    file: u64,
    fd: u64,
    events: u64,
    data: u64,
    left: u64,
    right: u64,
}

impl Places {
    #[inline(always)]
    fn new() -> Places {
        let node = u64::from(EPITEM_RBN.load());
        let from = |offset: u32| u64::from(offset).wrapping_sub(node);
        Places {
            file: from(EPITEM_FILE.load()),
            fd: from(EPITEM_FD.load()),
            events: from(EPITEM_EVENT.load()),
            data: from(EPITEM_DATA.load()),
            left: RB_NODE_LEFT.load().into(),
            right: RB_NODE_RIGHT.load().into(),
        }
    }
}

/// Whether a key is not beyond the last one that was visited.
#[inline(always)]
fn passed(walker: &Walker, file: u64, fd: u32) -> bool {
    file < walker.last_file || (file == walker.last_file && i64::from(fd) <= walker.last_fd)
}

/// A few moves of a walk: down to the left, or the next entry in order.
#[inline(always)]
fn walk(walker: &mut Walker) {
    let places = Places::new();
    let mut node = walker.cursor;
    let mut depth = walker.depth;
    let mut moves = 0;
    while moves < MOVES {
        // Through memory, or each move would be verified for every path that led to it (279,000 instructions).
        node = tally::forget(&mut walker.cursor, node);
        depth = tally::forget(&mut walker.depth, depth);
        if node == 0 && depth == 0 {
            return ended(walker);
        }
        (node, depth) = moved(walker, node, depth, &places);
        moves = jumping(moves + 1);
    }
    walker.cursor = node;
    walker.depth = depth;
}

/// A number, and a jump to what comes next: Linux 6.1 refuses a loop whose begin is reached from its end without a jump.
#[inline(always)]
fn jumping(mut number: u32) -> u32 {
    // SAFETY: goes nowhere else and changes no register.
    unsafe { core::arch::asm!("goto +0", "/* {number} */", number = inout(reg) number) };
    number
}

/// One move: the next node and depth.
#[inline(always)]
fn moved(walker: &mut Walker, node: u64, depth: u32, places: &Places) -> (u64, u32) {
    if node == 0 {
        let depth = depth - 1;
        // SAFETY: below the length of the array.
        let next = unsafe { *walker.stack.get_unchecked(kernel::below::<DEPTH>(depth as usize)) };
        let seen = visit(walker, next, places);
        return (if seen { kernel::load(next.wrapping_add(places.right)) } else { 0 }, depth);
    }
    let file = kernel::load(node.wrapping_add(places.file));
    let fd = kernel::load(node.wrapping_add(places.fd)) as u32;
    if passed(walker, file, fd) {
        return (kernel::load(node.wrapping_add(places.right)), depth);
    }
    if depth as usize >= DEPTH {
        walker.lost = 1;
        return (0, depth);
    }
    // SAFETY: below the length of the array.
    unsafe { *walker.stack.get_unchecked_mut(kernel::below::<DEPTH>(depth as usize)) = node };
    (kernel::load(node.wrapping_add(places.left)), depth + 1)
}

/// Takes in an entry; false where its key is not beyond the last: the tree moved.
#[inline(always)]
fn visit(walker: &mut Walker, node: u64, places: &Places) -> bool {
    let item = |offset: u64| kernel::load(node.wrapping_add(offset));
    let (file, fd) = (item(places.file), item(places.fd) as u32);
    if passed(walker, file, fd) {
        return false;
    }
    let events = item(places.events) as u32;
    walker.last_file = file;
    walker.last_fd = i64::from(fd);
    walker.count += 1;
    walker.sum = walker
        .sum
        .wrapping_add((file ^ u64::from(fd)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(events));
    if walker.round == 1 {
        return true;
    }
    let behind = fd < walker.size && kernel::load(walker.files + u64::from(fd) * 8) == file;
    let data = item(places.data);
    let filled = kernel::below::<CHUNK_ENTRIES>(walker.chunk.head.count as usize);
    // SAFETY: below the length of the array.
    let entry = unsafe { walker.chunk.entries.get_unchecked_mut(filled) };
    *entry = Entry { file, data, fd, events, behind: behind.into(), _unused: 0 };
    walker.chunk.head.count = filled as u32 + 1;
    if filled + 1 == CHUNK_ENTRIES {
        send(walker, chunk::ENTRIES);
    }
    true
}

/// A walk has come to its end: sends what is left of it, and decides whether it was the last.
#[inline(always)]
fn ended(walker: &mut Walker) {
    let whole = walker.references != 0
        && walker.count + 1 == walker.references
        && references(walker) == walker.references;
    if walker.round == 0 && !(whole && walker.lost == 0) {
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
