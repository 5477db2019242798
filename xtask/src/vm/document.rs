//! docs/kernels.md and docs/kernels.json: what is known of all kernels, for readers and for the next run to compare with.
//! Must not judge.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};

use super::{
    Arch, SERIES,
    findings::{Findings, Kernel, VERIFIED_MOST, WORKS},
    plan::{BACKENDS, CORE, KINDS, LEFT_OUT},
};

const DATA: &str = "docs/kernels.json";
const PAGE: &str = "docs/kernels.md";

/// What the repository holds.
pub fn committed(root: &Path) -> Result<Findings> {
    let file = root.join(DATA);
    if !file.exists() {
        return Ok(Findings::default());
    }
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{DATA} is damaged; `cargo xtask vm --write` makes it anew"))
}

/// Writes both files.
pub fn write(root: &Path, findings: &Findings) -> Result<()> {
    let json = serde_json::to_string_pretty(findings)? + "\n";
    for (file, text) in [(DATA, json), (PAGE, page(findings)?)] {
        fs::write(root.join(file), text).with_context(|| format!("write {file}"))?;
        println!("wrote {file}");
    }
    Ok(())
}

/// The page for readers.
fn page(findings: &Findings) -> Result<String> {
    let mut page = String::new();
    writeln!(page, "<!-- Made by `cargo xtask vm --write`; not to be edited. -->")?;
    writeln!(page, "# Kernels\n")?;
    writeln!(
        page,
        "What was seen on Debian's kernels in QEMU (software emulation, 2 CPUs), by `cargo xtask vm`, of which \
         `cargo xtask test` does a part. It fails when something that works here stops working, when a test fails, or when the \
         verifier goes through {VERIFIED_MOST} times as many instructions of a program.\n"
    )?;
    suite(&mut page, findings)?;
    for (kernel, what) in &findings.kernels {
        probes(&mut page, kernel, what)?;
    }
    verified(&mut page, findings)?;
    boots(&mut page, findings)?;
    Ok(page)
}

/// Tests by kernel and backend, and those that are left out.
fn suite(page: &mut String, findings: &Findings) -> Result<()> {
    writeln!(
        page,
        "## Exactness\n\nTests that passed: what the agent counts equals what programs counted themselves.\n"
    )?;
    let backends: BTreeSet<&String> =
        findings.kernels.values().flat_map(|kernel| kernel.tests.keys()).collect();
    let mut head = vec!["kernel".to_owned(), "release".to_owned()];
    head.extend(backends.iter().map(|backend| (*backend).clone()));
    let rows = findings.kernels.iter().map(|(name, kernel)| {
        let counts = backends.iter().map(|&backend| {
            kernel
                .tests
                .get(backend)
                .map_or("-".to_owned(), |programs| programs.values().sum::<u32>().to_string())
        });
        [name.clone(), kernel.release.clone()].into_iter().chain(counts).collect()
    });
    table(page, &head, rows)?;
    writeln!(
        page,
        "The whole of `cargo xtask vm` runs all programs of tests (`agent/tests/exact*.rs`) on {} {} by `{}`, and everywhere \
         else {}; what ran for this page:\n",
        Arch::Amd64.debian(),
        SERIES[0],
        BACKENDS[0],
        CORE.map(|name| format!("`{name}`")).join(", ")
    )?;
    for (name, kernel) in &findings.kernels {
        for (backend, programs) in &kernel.tests {
            let ran: Vec<String> = programs.keys().map(|name| format!("`{name}`")).collect();
            writeln!(page, "- {name} by `{backend}`: {}", ran.join(", "))?;
        }
    }
    writeln!(page, "\nLeft out everywhere:\n")?;
    for left_out in &LEFT_OUT {
        writeln!(page, "- `{}`: {}", left_out.test, left_out.why)?;
    }
    writeln!(page)?;
    Ok(())
}

/// Which probe can be attached by which way.
fn probes(page: &mut String, name: &str, kernel: &Kernel) -> Result<()> {
    writeln!(page, "## Probes on {name} ({})\n", kernel.release)?;
    let ways: BTreeSet<&String> = kernel.probes.values().flat_map(|ways| ways.keys()).collect();
    let mut head = vec!["probe".to_owned()];
    head.extend(ways.iter().map(|way| (*way).clone()));
    let rows = kernel.probes.iter().map(|(probe, said)| {
        let cells = ways.iter().map(|&way| said.get(way).map_or("-".to_owned(), |said| escaped(said)));
        std::iter::once(probe.clone()).chain(cells).collect()
    });
    table(page, &head, rows)
}

/// What a start costs, by program and kernel.
fn verified(page: &mut String, findings: &Findings) -> Result<()> {
    writeln!(
        page,
        "## Verified instructions\n\nWhat the kernel's verifier goes through to load each program: most of the time that a \
         start takes. `sys_enter` and `sys_exit` are the raw backend's, and `-` is a program that the architecture has no \
         call for.\n"
    )?;
    let programs: BTreeSet<&String> =
        findings.kernels.values().flat_map(|kernel| kernel.verified.keys()).collect();
    let mut head = vec!["program".to_owned()];
    head.extend(findings.kernels.keys().cloned());
    let rows = programs.iter().map(|&program| {
        let kernels = findings.kernels.values();
        let cells = kernels.map(|kernel| kernel.verified.get(program).map_or("-".to_owned(), u32::to_string));
        std::iter::once(program.clone()).chain(cells).collect()
    });
    table(page, &head, rows)
}

/// The other boots.
fn boots(page: &mut String, findings: &Findings) -> Result<()> {
    writeln!(
        page,
        "## Other circumstances\n\nWhether the main job works (waits, wait times and busy times of epoll loops; one test of \
         the suite says so), or the one line that the agent ends with.\n"
    )?;
    for kind in &KINDS {
        writeln!(page, "- `{}`{}: {}", kind.name, parameters(kind.parameters), kind.about)?;
    }
    writeln!(page)?;
    let head = ["boot".to_owned(), "main job".to_owned()];
    table(page, &head, findings.boots.iter().map(|(boot, said)| vec![boot.clone(), escaped(said)]))
}

fn parameters(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" (`{text}`)") }
}

/// A cell's text must not end the cell.
fn escaped(text: &str) -> String {
    if text == WORKS { text.to_owned() } else { text.replace('|', "\\|") }
}

fn table(page: &mut String, head: &[String], rows: impl Iterator<Item = Vec<String>>) -> Result<()> {
    writeln!(page, "| {} |\n|{}", head.join(" | "), " --- |".repeat(head.len()))?;
    for row in rows {
        writeln!(page, "| {} |", row.join(" | "))?;
    }
    writeln!(page)?;
    Ok(())
}
