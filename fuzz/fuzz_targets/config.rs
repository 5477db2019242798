//! `agent --config FILE` and `--web.config.file FILE`: TOML and YAML that a user wrote. What is refused is refused in one
//! line, with exit code 2.
//!
//! The first byte chooses which of the two the rest is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loopscope::{cli, export::web};

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if which % 2 == 0 {
        if let Err(failure) = cli::fuzz_config(text) {
            assert_eq!(failure.code, 2, "{failure}");
            assert!(!failure.message.contains('\n') && !failure.message.is_empty(), "{failure:?}");
        }
    } else if let Err(why) = web::fuzz(text) {
        assert!(!why.contains('\n') && !why.is_empty(), "{why:?}");
    }
});
