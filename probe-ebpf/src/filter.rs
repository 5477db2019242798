//! Which threads are watched: asked when a thread has no record yet, so a watched thread pays nothing for it.

use crate::{
    kernel::{
        self, CGROUP_ANCESTORS, CGROUP_KN, CGROUP_LEVEL, CSS_SET_DFL_CGRP, FILTER_CGROUPS, FILTER_PIDS,
        FILTER_TREE, KERNFS_NODE_ID, TASK_CGROUPS, TASK_REAL_PARENT, TASK_TGID, TaskPtr,
    },
    storage::{CGROUPS, CGROUPS_MAX, PIDS, reader},
};

/// Whether `task` is to be watched: its process is one of those named (if any), and its cgroup is one of
/// those named (if any) or below one.
#[inline(always)]
pub fn selected(task: TaskPtr) -> bool {
    if FILTER_PIDS.load() != 0 {
        let tgid: u32 = kernel::field(task, &TASK_TGID);
        // SAFETY: the map is filled before the programs load and never changed.
        if unsafe { PIDS.get(&tgid) }.is_none() {
            return false;
        }
    }
    if FILTER_TREE.load() != 0 && !descends(task) {
        return false;
    }
    FILTER_CGROUPS.load() == 0 || in_a_cgroup(task)
}

/// Generations that are looked back; a deeper descendant is not seen.
const GENERATIONS: u32 = 32;

/// Whether the process of `task` descends from the agent's, and is not that one itself.
#[inline(never)]
fn descends(task: TaskPtr) -> bool {
    let Some(reader) = reader() else {
        return false;
    };
    let own: u32 = kernel::field(task, &TASK_TGID);
    let mut ancestor = kernel::field::<u64>(task, &TASK_REAL_PARENT);
    for _ in 0..GENERATIONS {
        let Some(tgid) = kernel::probe::<u32>(ancestor + u64::from(TASK_TGID.load())) else {
            return false;
        };
        if tgid == reader.tgid as u32 {
            return own != tgid;
        }
        if tgid <= 1 {
            return false;
        }
        match kernel::probe::<u64>(ancestor + u64::from(TASK_REAL_PARENT.load())) {
            Some(next) => ancestor = next,
            None => return false,
        }
    }
    false
}

/// Compares the ancestor of the task's v2 cgroup at each wanted level with the wanted id.
#[inline(always)]
fn in_a_cgroup(task: TaskPtr) -> bool {
    let set: *const u8 = kernel::field(task, &TASK_CGROUPS);
    let cgroup: u64 = kernel::field(set, &CSS_SET_DFL_CGRP);
    let Some(level) = kernel::probe::<u32>(cgroup + u64::from(CGROUP_LEVEL.load())) else {
        return false;
    };
    for i in 0..CGROUPS_MAX {
        if i >= FILTER_CGROUPS.load() {
            break;
        }
        let Some(wanted) = CGROUPS.get(i) else {
            break;
        };
        if wanted.level > u64::from(level) {
            continue;
        }
        let ancestor = cgroup + u64::from(CGROUP_ANCESTORS.load()) + wanted.level * 8;
        let id = kernel::probe::<u64>(ancestor)
            .and_then(|ancestor| kernel::probe::<u64>(ancestor + u64::from(CGROUP_KN.load())))
            .and_then(|node| kernel::probe::<u64>(node + u64::from(KERNFS_NODE_ID.load())));
        if id == Some(wanted.id) {
            return true;
        }
    }
    false
}
