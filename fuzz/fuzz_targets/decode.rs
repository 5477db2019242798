//! The decoder of the probes' records and of the chunks of interest sets: no length in them is believed.
//!
//! The first byte chooses which of the two the rest is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loopscope::decode::{self, interest::Assembly};

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    if which % 2 == 0 {
        let Ok(records) = decode::records(bytes) else { return };
        let sizes: usize = records.iter().map(|record| record.head().size as usize).sum();
        assert_eq!(sizes, bytes.len(), "every byte belongs to one record");
    } else {
        let mut assembly = Assembly::default();
        for chunk in bytes.chunks(usize::from(*which) * 8) {
            let _ = assembly.take(chunk);
        }
        let _ = (assembly.longest_ns(), assembly.finish());
    }
});
