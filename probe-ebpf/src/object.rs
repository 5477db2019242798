//! The compiled programs, as `cargo xtask build-probe` left them in `prebuilt/`; for the agent to embed.

/// Bytes at the alignment that an ELF reader asks for.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!("../prebuilt/loopscope-probe.o"));

/// The object file, an ELF for bpfel.
pub fn object() -> &'static [u8] {
    &ALIGNED.0
}
