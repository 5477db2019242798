//! From the kernel's BTF to the values that are injected into the object. Reads no memory of the kernel.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    btf::Btf,
    direct::Direct,
    table::{NUMBERS, OFFSETS},
};

/// Where a kernel shows its own BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Values for the globals of the object, and what could not be found.
pub struct Globals {
    /// (global, value).
    pub values: Vec<(&'static str, u32)>,
    /// Fields that are absent on this kernel and that only some options need.
    pub missing: Vec<String>,
    /// How the programs read the kernel's memory without a helper; None where they cannot.
    pub direct: Option<Direct>,
}

impl Globals {
    /// Whether the kernel has the fields that a filter by cgroup needs.
    pub fn has_cgroups(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Looks up every offset of [`OFFSETS`] in the BTF at `path`.
///
/// # Errors
/// The file cannot be read or is damaged, or a field that nothing works without is absent.
pub fn globals(path: &Path) -> Result<Globals> {
    let btf = Btf::from_file(path)?;
    let mut values = NUMBERS.to_vec();
    let mut missing = Vec::new();
    for row in OFFSETS {
        match btf.field_any(row.structure, row.paths) {
            Ok(field) => values.push((row.global, field.offset)),
            Err(error) if error.is_absent() && !row.essential => missing.push(error.to_string()),
            Err(error) => {
                return Err(error).context(format!("{} does not describe this kernel", path.display()));
            }
        }
    }
    // Types have numbers of the running kernel alone; a file that describes it may number them otherwise.
    let direct = (path == Path::new(KERNEL_BTF)).then(|| Direct::of(&btf)).flatten();
    Ok(Globals { values, missing, direct })
}
