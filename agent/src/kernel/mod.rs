//! Everything that touches the kernel: the only place that knows aya and `unsafe`.

pub mod btf;
