//! `cargo xtask tidy`: the house rules that neither rustfmt nor clippy checks.
//!
//! Each rule is a pure function of one file's text, so that it can be tested. Must not repeat what clippy does:
//! SAFETY comments are looked for here because clippy never sees the eBPF programs, which it cannot compile.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process;

/// Lines of a source file, its tests not counted.
const LONGEST: usize = 450;
/// Not ours, or not text.
const SKIPPED: [&str; 3] = ["target", ".git", "prebuilt"];

/// A broken rule: the line (from 1) and what is wrong.
#[derive(PartialEq, Eq, Debug)]
struct Finding {
    line: usize,
    what: String,
}

impl Finding {
    fn new(index: usize, what: impl Into<String>) -> Finding {
        Finding { line: index + 1, what: what.into() }
    }
}

/// Checks every file of the repository; lists all findings before it fails.
pub fn run() -> Result<()> {
    let root = process::workspace_root()?;
    let host = host_paths(&root);
    let mut files = Vec::new();
    list(&root, &mut files)?;
    files.sort();
    let mut found = 0;
    for file in &files {
        let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        // What is not text (a picture, a recording) has no rules here.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let name = file.strip_prefix(&root).unwrap_or(file);
        for finding in check(name, &text, &host) {
            println!("  {}:{}: {}", name.display(), finding.line, finding.what);
            found += 1;
        }
    }
    if found > 0 {
        bail!("{found} house rules are broken");
    }
    println!("tidy: {} files keep the house rules", files.len());
    Ok(())
}

fn list(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("list {}", dir.display()))?;
        let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
        let kind = entry.file_type().with_context(|| format!("look at {}", entry.path().display()))?;
        if skipped {
            continue;
        } else if kind.is_dir() {
            list(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn check(name: &Path, text: &str, host: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(names_a_host_path(text, host));
    if name.extension().is_some_and(|ext| ext == "rs") {
        findings.extend(has_no_header(text));
        findings.extend(is_too_long(text));
        findings.extend(undocumented_unsafe(text));
    }
    findings
}

fn has_no_header(text: &str) -> Option<Finding> {
    (!text.starts_with("//!"))
        .then(|| Finding::new(0, "must open with `//!`: its purpose, and what it must not do"))
}

fn is_too_long(text: &str) -> Option<Finding> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    (lines > LONGEST)
        .then(|| Finding::new(LONGEST, format!("{lines} lines without tests, {LONGEST} allowed: split it")))
}

/// Each unsafe block, impl and function needs `SAFETY:` or `# Safety` in the comment above it or above its statement.
fn undocumented_unsafe(text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let unsafe_lines = lines.iter().enumerate().filter(|(_, line)| opens_unsafe(line));
    let bare = unsafe_lines.filter(|(index, _)| !is_documented(lines.get(..*index).unwrap_or_default()));
    bare.map(|(index, _)| Finding::new(index, "unsafe without a `// SAFETY:` or `# Safety` comment above it"))
        .collect()
}

fn opens_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe impl ", "unsafe impl<", "unsafe fn "].iter().any(|form| {
        // Inside a string or after another letter it is not the keyword.
        code.match_indices(form)
            .any(|(at, _)| !code.get(..at).is_some_and(|before| before.ends_with(['"', '`', '_'])))
    })
}

/// Looks upwards from the last line of `above`: through the lines of the same statement, attributes and comments.
fn is_documented(above: &[&str]) -> bool {
    for line in above.iter().rev() {
        if line.starts_with("//") {
            if line.contains("SAFETY:") || line.contains("# Safety") {
                return true;
            }
        } else if line.is_empty() || (line.ends_with([';', '{', '}']) && !line.starts_with('#')) {
            return false;
        }
    }
    false
}

/// The folders of this machine that must not be written into the project.
fn host_paths(root: &Path) -> Vec<String> {
    let own = [Some(root.to_owned()), process::home()];
    let own = own.into_iter().flatten().map(|path| format!("{}/", path.display()));
    // A root folder is no path of one machine; what lies two levels down is.
    let own = own.filter(|path| path.len() > 2);
    // Written in two parts, so that this file keeps its own rule.
    own.chain(["home", "Users"].map(|dir| format!("/{dir}/"))).collect()
}

fn names_a_host_path(text: &str, host: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(path) = host.iter().find(|path| starts_a_path(line, path)) {
            findings.push(Finding::new(index, format!("names a path of one machine: {path}")));
        }
    }
    findings
}

/// Whether the path stands in the line as the start of a path: "/proc/1/root/etc" does not hold "/root/".
/// "user" is the name for examples.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let (before, after) =
            (line.get(..at).unwrap_or_default(), line.get(at + path.len()..).unwrap_or_default());
        let inside = before.ends_with(|c: char| c.is_alphanumeric() || "}>)_-.*~$".contains(c));
        !inside && !after.starts_with("user/") && after.starts_with(|c: char| c.is_alphanumeric() || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: Vec<Finding>) -> Vec<usize> {
        findings.into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_file_needs_a_header() {
        assert_eq!(has_no_header("//! Purpose.\nfn main() {}\n"), None);
        assert!(has_no_header("use std::fs;\n").is_some());
        assert!(has_no_header("").is_some());
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let code = "x\n".repeat(LONGEST);
        assert_eq!(is_too_long(&format!("{code}#[cfg(test)]\n{code}")), None);
        assert_eq!(is_too_long(&format!("{code}x\n")).map(|finding| finding.line), Some(LONGEST + 1));
    }

    #[test]
    fn unsafe_needs_its_reason_above_the_statement() {
        let bare =
            concat!("let a = 1;\n", "let b = unsafe ", "{ f() };\n", "unsafe ", "impl Send for A {}\n");
        assert_eq!(lines(undocumented_unsafe(bare)), [2, 3]);
        let said = concat!("// SAFETY: f has no\n// conditions\nlet b =\n    unsafe ", "{ f() };\n");
        assert!(undocumented_unsafe(said).is_empty());
        let function = concat!(
            "/// Reads.\n///\n/// # Safety\n/// `p` is valid.\n#[inline]\npub unsafe ",
            "fn r() {}\n"
        );
        assert!(undocumented_unsafe(function).is_empty());
        let far = concat!("// SAFETY: of another\nlet a = g();\nunsafe ", "{ f() };\n");
        assert_eq!(lines(undocumented_unsafe(far)), [3]);
    }

    #[test]
    fn only_the_keyword_counts_as_unsafe() {
        assert!(!opens_unsafe("// an unsafe { block }"));
        assert!(!opens_unsafe("type F = unsafe fn(u32);"));
        assert!(!opens_unsafe("#[unsafe(no_mangle)]"));
        assert!(!opens_unsafe("let s = \"unsafe { }\";"));
        assert!(opens_unsafe(concat!("if unsafe ", "{ f() } {")));
    }

    #[test]
    fn paths_of_a_machine_are_told_from_other_paths() {
        let host = ["/srv/me/".to_owned(), "/root/".to_owned()];
        assert_eq!(lines(names_a_host_path("ok\nsee /srv/me/notes\n", &host)), [2]);
        assert_eq!(lines(names_a_host_path("\"/srv/me/.cargo/bin\"", &host)), [1]);
        for fine in ["/proc/1/root/etc", "{pid}/root/etc", "/srv/me/user/x", "the folder /root/ itself"] {
            assert!(names_a_host_path(fine, &host).is_empty(), "{fine}");
        }
    }
}
