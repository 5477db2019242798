//! From the kernel's BTF to the values that are injected into the object. Reads no memory of the kernel.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    btf::Btf,
    direct::Direct,
    table::{NUMBERS, OFFSETS, Serves},
};

/// Where a kernel shows its own BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Values for the globals of the object, and what could not be found.
pub struct Globals {
    /// (global, value).
    pub values: Vec<(&'static str, u32)>,
    /// Fields that are absent on this kernel, and what does not work without them.
    pub missing: Vec<(Serves, String)>,
    /// How the programs read the kernel's memory without a helper; None where they cannot.
    pub direct: Option<Direct>,
}

impl Globals {
    /// The fields that something needs and that this kernel lacks; None where it has them all.
    pub fn lacks(&self, what: Serves) -> Option<String> {
        let lacking = self.missing.iter().filter(|(serves, _)| *serves == what);
        let lacking: Vec<&str> = lacking.map(|(_, error)| error.as_str()).collect();
        (!lacking.is_empty()).then(|| lacking.join("; "))
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
            Err(error) if error.is_absent() && row.serves != Serves::All => {
                missing.push((row.serves, error.to_string()));
            }
            Err(error) => {
                return Err(error).context(format!("{} does not describe this kernel", path.display()));
            }
        }
    }
    // Types have numbers of the running kernel alone; a file that describes it may number them otherwise.
    let direct = (path == Path::new(KERNEL_BTF)).then(|| Direct::of(&btf)).flatten();
    Ok(Globals { values, missing, direct })
}
