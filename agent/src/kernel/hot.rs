//! The maps in which the probes count which entries deliver events: sized, filled and read here. Knows nothing of what
//! the counts mean.

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, RingBuf},
};
use loopscope_probe::{ChunkHead, chunk};

use super::walk;

const WORDS: &str = "HOT_WORDS";
const REST: &str = "HOT_REST";
const FILES: &str = "HOT_FILES";

/// Takes the room away where nothing is counted: the table of 65,536 elements alone is 1 MB.
pub fn shrink(loader: &mut EbpfLoader<'_>) {
    for map in [WORDS, REST, FILES] {
        loader.map_max_entries(map, 1);
    }
}

/// Tells the probes which instances a process holds; before anything is attached. Those that it makes later they know
/// by the process that waits.
pub fn note_instances(ebpf: &mut Ebpf, entries: &mut RingBuf<MapData>, process: u32) -> Result<()> {
    let mut instances = Vec::new();
    walk(ebpf, entries, &mut |bytes| {
        let head = ChunkHead::read(bytes).filter(|head| head.kind as usize == chunk::HOLDER);
        instances.extend(head.filter(|head| head.tgid == process).map(|head| head.file));
    })?;
    let map = ebpf.map_mut(FILES).with_context(|| format!("the probe object has no map {FILES}"))?;
    let mut files: HashMap<_, u64, u32> = map.try_into()?;
    for instance in instances {
        // Where there is no room, the process's own waits are counted all the same.
        if files.insert(instance, 1, 0).is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads every count.
pub fn read(ebpf: &Ebpf, mut take: impl FnMut([u64; 2], Option<u64>, u64)) -> Result<()> {
    let words: HashMap<_, [u64; 3], u64> = map(ebpf, WORDS)?.try_into()?;
    for element in words.iter() {
        let ([file, generation, word], events) = element?;
        take([file, generation], Some(word), events);
    }
    let rest: HashMap<_, [u64; 2], u64> = map(ebpf, REST)?.try_into()?;
    for element in rest.iter() {
        let (instance, events) = element?;
        take(instance, None, events);
    }
    Ok(())
}

fn map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Map> {
    ebpf.map(name).with_context(|| format!("the probe object has no map {name}"))
}
