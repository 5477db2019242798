//! Cargo.lock and Cargo.toml, as far as they decide what the eBPF object is.
//!
//! Reads the line forms that cargo writes and the workspace keeps; must not grow into a TOML parser.

/// "name version" of each locked package that is compiled into the programs, sorted.
pub fn probe_dependencies(lock: &str) -> Vec<String> {
    let mut found: Vec<String> = lock.split("[[package]]").filter_map(probe_dependency).collect();
    found.sort();
    found
}

fn probe_dependency(block: &str) -> Option<String> {
    let name = value(block, "name")?;
    let version = value(block, "version")?;
    let of_the_probe =
        name.starts_with("aya-ebpf") || name.starts_with("aya-log-ebpf") || name == "aya-log-common";
    of_the_probe.then(|| format!("{name} {version}"))
}

fn value<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
}

/// The lines of those sections of the workspace's manifest that change the object, without comments.
///
/// The version and the edition of the workspace reach the programs as symbol hashes and as language.
pub fn build_sections(manifest: &str) -> Vec<&str> {
    let wanted = ["[workspace.package]", "[profile.release]", "[profile.probe]"];
    let mut inside = false;
    let mut lines = Vec::new();
    for line in manifest.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.starts_with('[') {
            inside = wanted.contains(&line);
        }
        if inside && !line.is_empty() && !line.starts_with('#') {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_programs_are_made_of_counts() {
        let lock = "version = 4\n\n[[package]]\nname = \"aya\"\nversion = \"0.14.0\"\n\n[[package]]\n\
                    name = \"aya-log-ebpf\"\nversion = \"0.2.0\"\n\n[[package]]\nname = \"aya-ebpf\"\n\
                    version = \"0.2.1\"\ndependencies = [\n \"aya-ebpf-cty\",\n]\n";
        assert_eq!(probe_dependencies(lock), ["aya-ebpf 0.2.1", "aya-log-ebpf 0.2.0"]);
    }

    #[test]
    fn only_profiles_and_package_of_the_manifest_count() {
        let manifest = "[workspace]\nmembers = []\n[workspace.package]\nversion = \"1\" # why\n# note\n\
                        [lints]\na = 1\n[profile.probe]\nlto = true\n";
        let expected = ["[workspace.package]", "version = \"1\"", "[profile.probe]", "lto = true"];
        assert_eq!(build_sections(manifest), expected);
    }
}
