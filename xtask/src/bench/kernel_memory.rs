//! What the kernel has allocated: by size class (/proc/slabinfo), in all (/proc/meminfo), and for the maps and programs
//! that a process holds (/proc/PID/fdinfo).
//!
//! BPF task storage is kmalloc'ed when a thread waits for the first time, so what it takes shows in the size classes
//! (kmalloc-cg-4k ...) and in no map's own figure. The rest of the system allocates too: only differences between runs
//! with and without the agent mean something.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use serde::Serialize;

/// Size classes of which single objects are worth a thought; the smaller ones come and go by the thousand.
const LEAST_OBJECT: i64 = 1024;

/// The sums of /proc/meminfo that bpf(2) adds to.
const SUMS: [&str; 4] = ["Slab", "Percpu", "VmallocUsed", "MemAvailable"];

/// The kernel's memory at one moment, or the difference of two moments; bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelMemory {
    /// kmalloc's size classes: (objects, bytes of one).
    pub classes: BTreeMap<String, (i64, i64)>,
    /// Sums of /proc/meminfo.
    pub sums: BTreeMap<&'static str, i64>,
}

impl KernelMemory {
    /// Now.
    pub fn now() -> Result<KernelMemory> {
        let slabinfo = fs::read_to_string("/proc/slabinfo").context("read /proc/slabinfo")?;
        let meminfo = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        Ok(KernelMemory { classes: classes(&slabinfo), sums: sums(&meminfo) })
    }

    /// What came since.
    pub fn since(&self, before: &KernelMemory) -> KernelMemory {
        let classes = self.classes.iter().map(|(name, (objects, size))| {
            let then = before.classes.get(name).map_or(0, |(objects, _)| *objects);
            (name.clone(), (objects - then, *size))
        });
        let sums = self.sums.iter().map(|(name, bytes)| (*name, bytes - before.sums.get(name).unwrap_or(&0)));
        KernelMemory { classes: classes.collect(), sums: sums.collect() }
    }

    /// The bytes of all size classes together.
    pub fn objects(&self) -> i64 {
        self.classes.values().map(|(objects, size)| objects * size).sum()
    }

    /// The classes with at least that many more objects, as `+N kmalloc-4k`.
    pub fn show(&self, least: i64) -> String {
        let grown = self.classes.iter().filter(|(_, (objects, _))| *objects >= least.max(1));
        let grown: Vec<String> = grown.map(|(name, (objects, _))| format!("+{objects} {name}")).collect();
        if grown.is_empty() { "nothing".to_owned() } else { grown.join(", ") }
    }
}

fn classes(slabinfo: &str) -> BTreeMap<String, (i64, i64)> {
    let class = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| name.starts_with("kmalloc-"))?;
        let objects = words.next()?.parse().ok()?;
        let size = words.nth(1)?.parse().ok()?;
        (size >= LEAST_OBJECT).then(|| (name.to_owned(), (objects, size)))
    };
    slabinfo.lines().filter_map(class).collect()
}

fn sums(meminfo: &str) -> BTreeMap<&'static str, i64> {
    let sum = |name: &'static str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some((name, line.trim().strip_suffix(" kB")?.parse::<i64>().ok()? * 1024))
    };
    SUMS.into_iter().filter_map(sum).collect()
}

/// The bytes of the BPF maps and programs that a process holds, as the kernel counts them: without task storage.
pub fn held_by(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut held = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {folder}"))?.flatten() {
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned())
        };
        // Several descriptors may mean the same.
        let id =
            field("map_id:").map(|id| ("map", id)).or_else(|| field("prog_id:").map(|id| ("program", id)));
        if let (Some(id), Some(bytes)) = (id, field("memlock:")) {
            held.insert(id, bytes.parse::<u64>().context("read memlock in fdinfo")?);
        }
    }
    Ok(held.values().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABINFO: &str = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n\
        kmalloc-cg-4k         77    104   4096    8    8 : tunables    0    0    0 : slabdata     13     13      0\n\
        kmalloc-64          1921   2112     64   64    1 : tunables    0    0    0 : slabdata     33     33      0\n\
        dentry              1921   2112     192   64    1 : tunables    0    0    0 : slabdata     33     33      0\n";

    #[test]
    fn large_size_classes_are_counted() {
        let then = KernelMemory { classes: classes(SLABINFO), ..KernelMemory::default() };
        assert_eq!(then.classes, BTreeMap::from([("kmalloc-cg-4k".to_owned(), (77, 4096))]));
        let now =
            KernelMemory { classes: classes(&SLABINFO.replace(" 77 ", " 79 ")), ..KernelMemory::default() };
        assert_eq!(now.since(&then).objects(), 8192);
        assert_eq!(now.since(&then).show(1), "+2 kmalloc-cg-4k");
        assert_eq!(now.since(&then).show(3), "nothing");
    }

    #[test]
    fn sums_are_in_bytes() {
        let sums = sums("MemAvailable:  10 kB\nSlab:     3 kB\nSlabber:  4 kB\n");
        assert_eq!(sums, BTreeMap::from([("MemAvailable", 10_240), ("Slab", 3072)]));
    }
}
