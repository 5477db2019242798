//! Whether this host can run the oracle tests.

use std::{env, process::Command, sync::OnceLock};

use super::report::LOOPSCOPE;

/// Where one of these is set, a test that cannot run has failed.
const REQUIRED: [&str; 2] = ["CI", "LOOPSCOPE_REQUIRE_BPF"];

/// Root, the programs, and a kernel that lets loopscope watch. Says what is missing.
pub fn met(programs: &[&str]) -> bool {
    let Some(missing) = missing(programs) else {
        return true;
    };
    assert!(
        REQUIRED.iter().all(|name| env::var_os(name).is_none()),
        "the oracle tests cannot run: {missing}"
    );
    eprintln!("skipped: {missing}");
    false
}

fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("they need root".to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let absent = |program: &&&str| !env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if let Some(program) = programs.iter().find(absent) {
        return Some(format!("{program} is not in PATH; install it"));
    }
    static REFUSED: OnceLock<Option<String>> = OnceLock::new();
    REFUSED.get_or_init(refused).clone()
}

/// What the kernel says to it; asked once, since it loads every probe.
fn refused() -> Option<String> {
    let check = Command::new(LOOPSCOPE).arg("check").output().unwrap();
    let says = || format!("`loopscope check` says no:\n{}", String::from_utf8_lossy(&check.stdout));
    (!check.status.success()).then(says)
}
