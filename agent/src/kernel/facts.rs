//! What this host allows: the facts that decide whether the probes can work. Reads files, changes nothing.

use std::{fs, path::Path};

use super::{offsets::KERNEL_BTF, preempt::Preemption, tracefs};

/// One fact about the host or this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub name: &'static str,
    /// What was found.
    pub value: String,
    /// Whether the main job can be done with it.
    pub ok: bool,
}

/// Capabilities: (bit, name, why it is needed); include/uapi/linux/capability.h.
const CAPABILITIES: [(u32, &str, &str); 2] =
    [(39, "CAP_BPF", "to load the probes"), (38, "CAP_PERFMON", "to attach the probes")];
/// It includes the two above.
const CAP_SYS_ADMIN: u32 = 21;

/// The effective capabilities in the text of /proc/PID/status.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Why this process may not load or attach probes, in one line; None where it may.
pub fn lacks() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let refused = || [jit_fact(), lockdown_fact()].into_iter().find(|fact| !fact.ok).map(|fact| fact.value);
    lacking(effective(&status)?, tracefs::mounted().is_some()).or_else(refused)
}

/// As [`lacks`], from a set of capabilities and whether tracefs is mounted.
fn lacking(effective: u64, tracefs_mounted: bool) -> Option<String> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    if has(CAP_SYS_ADMIN) {
        return None;
    }
    if let Some((_, name, why)) = CAPABILITIES.into_iter().find(|(bit, ..)| !has(*bit)) {
        return Some(format!(
            "this process lacks {name}, which it needs {why}: run it as root, or as root: \
             setcap cap_bpf,cap_perfmon+ep \"$(command -v loopscope)\""
        ));
    }
    (!tracefs_mounted).then(|| {
        "tracefs is not mounted and mounting it needs CAP_SYS_ADMIN: run as root, or as root: \
         mount -t tracefs tracefs /sys/kernel/tracing"
            .to_owned()
    })
}

/// Every fact that `check` shows.
pub fn facts(btf: Option<&Path>) -> Vec<Fact> {
    let btf = btf.unwrap_or(Path::new(KERNEL_BTF));
    let lacks = lacks();
    vec![
        Fact {
            name: "privileges",
            ok: lacks.is_none(),
            value: lacks.unwrap_or_else(|| "enough to load and attach".to_owned()),
        },
        btf_fact(btf),
        Fact {
            name: "tracefs",
            ok: true,
            value: tracefs::mounted().map_or_else(
                || "not mounted; used by a mount that only loopscope sees".to_owned(),
                |place| format!("mounted on {place}"),
            ),
        },
        lockdown_fact(),
        jit_fact(),
        Fact { name: "preemption", ok: true, value: Preemption::here().words().to_owned() },
    ]
}

fn btf_fact(path: &Path) -> Fact {
    let (value, ok) = match fs::metadata(path) {
        Ok(file) => (format!("{}, {} bytes", path.display(), file.len()), true),
        Err(error) => (
            format!(
                "{}: {error}; give another file by --btf, or use a kernel with CONFIG_DEBUG_INFO_BTF",
                path.display()
            ),
            false,
        ),
    };
    Fact { name: "BTF", value, ok }
}

/// What the kernel keeps from root.
fn lockdown_fact() -> Fact {
    lockdown(fs::read_to_string("/sys/kernel/security/lockdown").ok().as_deref())
}

/// From the text of /sys/kernel/security/lockdown, where the current level is in brackets.
fn lockdown(text: Option<&str>) -> Fact {
    let level = text.and_then(|text| text.split('[').nth(1)?.split(']').next());
    let (value, ok) = match level {
        Some("confidentiality") => (
            "the kernel's lockdown is at confidentiality, which forbids reading kernel memory, as the probes do: boot \
             with lockdown=integrity",
            false,
        ),
        Some("integrity") => ("integrity: the probes may read kernel memory", true),
        Some(level) => (level, true),
        None => ("unknown (securityfs is not mounted)", true),
    };
    Fact { name: "lockdown", value: value.to_owned(), ok }
}

/// What the kernel says of the probes' loops where it does not compile programs: "callbacks are not allowed in non-JITed
/// programs".
const JIT_OFF: &str = "the kernel's BPF JIT is off, and the probes' loops need it: as root: sysctl -w net.core.bpf_jit_enable=1";

/// Whether programs are compiled.
fn jit_fact() -> Fact {
    let text = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok();
    let (value, ok) = match text.as_deref().map(str::trim) {
        Some("0") => (JIT_OFF, false),
        Some(_) => ("on", true),
        None => ("unknown", true),
    };
    Fact { name: "BPF JIT", value: value.to_owned(), ok }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named_with_the_command_that_grants_it() {
        assert_eq!(lacking(1 << CAP_SYS_ADMIN, false), None);
        assert_eq!(lacking(1 << 38 | 1 << 39, true), None);
        let line = lacking(1 << 38, true).unwrap();
        assert!(line.contains("CAP_BPF") && line.contains("setcap"), "{line}");
        let line = lacking(1 << 39, true).unwrap();
        assert!(line.contains("CAP_PERFMON"), "{line}");
        let line = lacking(1 << 38 | 1 << 39, false).unwrap();
        assert!(line.contains("CAP_SYS_ADMIN") && line.contains("mount -t tracefs"), "{line}");
    }

    #[test]
    fn the_effective_set_is_read_from_status() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn only_confidentiality_stops_the_probes() {
        assert!(!lockdown(Some("none integrity [confidentiality]")).ok);
        assert!(lockdown(Some("none [integrity] confidentiality")).ok);
        assert!(lockdown(Some("[none] integrity confidentiality")).ok);
        assert!(lockdown(None).ok);
    }
}
