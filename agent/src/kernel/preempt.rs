//! Whether the kernel preempts itself: the kernel skips a program on a function where the same program was preempted on
//! that CPU (4 to 15 % of waits under preempt=full with four threads on a CPU, none with voluntary). Reads files.

use std::{fs, io::Read};

use flate2::read::GzDecoder;

/// How the kernel preempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// Its own code is never preempted, or only where it asks for it.
    None,
    /// As above.
    Voluntary,
    /// Its own code is preempted anywhere.
    Full,
    /// Likewise, but for a tick's time at most later.
    Lazy,
    /// Likewise, and inside most locks too.
    RealTime,
    /// Chosen at boot, and nothing here says how.
    Unknown,
}

/// The words for it: of debugfs and `preempt=`, and in the configuration.
const WORDS: [(&str, &str, Preemption); 4] = [
    ("none", "CONFIG_PREEMPT_NONE=y", Preemption::None),
    ("voluntary", "CONFIG_PREEMPT_VOLUNTARY=y", Preemption::Voluntary),
    ("full", "CONFIG_PREEMPT=y", Preemption::Full),
    ("lazy", "CONFIG_PREEMPT_LAZY=y", Preemption::Lazy),
];

/// What a host says of itself.
struct Said<'a> {
    /// `uname -v`.
    version: &'a str,
    /// /sys/kernel/debug/sched/preempt.
    chosen: Option<&'a str>,
    /// /proc/cmdline.
    command_line: &'a str,
}

impl Preemption {
    /// Of the running kernel.
    pub fn here() -> Preemption {
        let uname = rustix::system::uname();
        let chosen = fs::read_to_string("/sys/kernel/debug/sched/preempt").ok();
        let said = Said {
            version: &uname.version().to_string_lossy(),
            chosen: chosen.as_deref(),
            command_line: &fs::read_to_string("/proc/cmdline").unwrap_or_default(),
        };
        Preemption::of(&said, || config(&uname.release().to_string_lossy()))
    }

    /// `config`: the configuration that the kernel was built with, which is asked for last, since it may have to be unpacked.
    fn of(said: &Said<'_>, config: impl FnOnce() -> Option<String>) -> Preemption {
        let by_word = |word: &str| WORDS.into_iter().find(|row| row.0 == word).map(|row| row.2);
        let built = |word: &str| said.version.split(' ').any(|part| part == word);
        if built("PREEMPT_RT") {
            return Preemption::RealTime;
        }
        // "none (voluntary) full": what is in brackets holds.
        let chosen = said.chosen.and_then(|text| text.split('(').nth(1)?.split(')').next());
        if let Some(preemption) = chosen.and_then(by_word) {
            return preemption;
        }
        if !built("PREEMPT_DYNAMIC") {
            let full = built("PREEMPT").then_some(Preemption::Full);
            let lazy = built("PREEMPT_LAZY").then_some(Preemption::Lazy);
            return full.or(lazy).unwrap_or(Preemption::Voluntary);
        }
        // The last one counts.
        let asked =
            said.command_line.split_whitespace().filter_map(|word| word.strip_prefix("preempt=")).next_back();
        if let Some(preemption) = asked.and_then(by_word) {
            return preemption;
        }
        let configured = config().and_then(|config| {
            let has = |line: &str| config.lines().any(|found| found == line);
            WORDS.into_iter().find(|row| has(row.1)).map(|row| row.2)
        });
        configured.unwrap_or(Preemption::Unknown)
    }

    /// Why programs on functions would be skipped; None where they would not.
    pub fn skips(self) -> Option<&'static str> {
        match self {
            Preemption::None | Preemption::Voluntary => None,
            Preemption::Full | Preemption::Lazy | Preemption::RealTime => {
                Some("the kernel preempts its own code, and skips such programs where it does")
            }
            Preemption::Unknown => Some(
                "it is not known whether the kernel preempts its own code, where it skips such programs: mount debugfs on \
                 /sys/kernel/debug, or start with --backend fentry if it does not",
            ),
        }
    }

    /// As `check` shows it.
    pub fn words(self) -> &'static str {
        match self {
            Preemption::None => "none",
            Preemption::Voluntary => "none or voluntary",
            Preemption::Full => "full",
            Preemption::Lazy => "lazy",
            Preemption::RealTime => "real time",
            Preemption::Unknown => "chosen at boot (debugfs would say which)",
        }
    }
}

/// The configuration of the running kernel, where it or its package has it.
fn config(release: &str) -> Option<String> {
    let mut text = String::new();
    if let Ok(packed) = fs::File::open("/proc/config.gz")
        && GzDecoder::new(packed).read_to_string(&mut text).is_ok()
    {
        return Some(text);
    }
    let files = [
        format!("/boot/config-{release}"),
        format!("/usr/lib/modules/{release}/config"),
        format!("/lib/modules/{release}/config"),
    ];
    files.iter().find_map(|file| fs::read_to_string(file).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYNAMIC: &str = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.1-1 (2026-01-01)";

    fn of(version: &str, chosen: Option<&str>, command_line: &str, config: Option<&str>) -> Preemption {
        Preemption::of(&Said { version, chosen, command_line }, || config.map(str::to_owned))
    }

    #[test]
    fn what_debugfs_says_comes_before_all_else() {
        let voluntary = Some("none (voluntary) full \n");
        assert_eq!(of(DYNAMIC, voluntary, "preempt=full", Some("CONFIG_PREEMPT=y")), Preemption::Voluntary);
        assert_eq!(of(DYNAMIC, Some("none voluntary (full)\n"), "", None), Preemption::Full);
    }

    #[test]
    fn the_last_choice_on_the_command_line_comes_before_the_configuration() {
        let config =
            Some("CONFIG_PREEMPT_BUILD=y\nCONFIG_PREEMPT_VOLUNTARY=y\n# CONFIG_PREEMPT is not set\n");
        assert_eq!(of(DYNAMIC, None, "quiet preempt=none preempt=full", config), Preemption::Full);
        assert_eq!(of(DYNAMIC, None, "quiet", config), Preemption::Voluntary);
        assert_eq!(of(DYNAMIC, None, "quiet", Some("CONFIG_PREEMPT=y\n")), Preemption::Full);
    }

    #[test]
    fn where_nothing_says_it_is_unknown_and_programs_may_be_skipped() {
        assert_eq!(of(DYNAMIC, None, "quiet", None), Preemption::Unknown);
        assert!(Preemption::Unknown.skips().is_some() && Preemption::Lazy.skips().is_some());
        assert_eq!((Preemption::None.skips(), Preemption::Voluntary.skips()), (None, None));
    }

    #[test]
    fn a_kernel_that_was_built_one_way_says_so_in_its_version() {
        assert_eq!(of("#1 SMP Debian", None, "preempt=full", None), Preemption::Voluntary);
        assert_eq!(of("#1 SMP PREEMPT Fri", None, "", None), Preemption::Full);
        assert_eq!(
            of("#1 SMP PREEMPT_RT Debian", Some("none (voluntary) full"), "", None),
            Preemption::RealTime
        );
    }
}
