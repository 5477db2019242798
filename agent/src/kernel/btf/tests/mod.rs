//! Tests of the BTF reader on files made here; `agent/tests/btf_*.rs` have those on the running
//! kernel.

mod blob;
mod corrupt;
mod fields;
mod mutations;
mod names;

use super::{Btf, BtfError, Field};

/// The parsed file; a test that makes a wrong one has failed.
fn parsed(blob: blob::Blob) -> Btf {
    Btf::parse(blob.finish()).unwrap()
}

/// The field that is no bitfield, as (offset, size).
fn plain(field: Result<Field, BtfError>) -> (u32, u32) {
    let field = field.unwrap();
    assert_eq!(field.bits, None);
    (field.offset, field.size)
}
