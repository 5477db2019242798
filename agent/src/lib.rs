//! loopscope: the agent's parts. `main.rs` only parses, runs and maps errors to exit codes.
//!
//! The way of a figure: [`kernel`] (probes, maps, iterators) -> [`decode`] (bytes to typed samples) -> [`model`]
//! (what happened between two samples) -> [`report`] (documents and their text forms). Nothing on the right of
//! an arrow may reach back to its left, and no view computes a rate of its own.

pub mod kernel;
pub mod report;
