//! loopscope: the agent's parts. `main.rs` only parses, runs and maps errors to exit codes.
//!
//! The way of a figure: [`kernel`] (probes, maps, iterators) -> [`decode`] (bytes to typed records) -> [`model`]
//! (what happened between two passes) -> [`report`] (documents and their text forms) or [`export`] (metrics over
//! HTTP), or [`tui`] (a live view). A [`store`] keeps what the kernel gave, and replays it; [`fleet`] has what a Prometheus server knows of many hosts. The [`reactor`] turns the wheel and [`cli`] puts the parts together. Nothing on the right of an arrow may
//! reach back to its left, and no view computes a difference or a rate of its own.

pub mod cli;
pub mod confine;
pub mod decode;
pub mod export;
pub mod feed;
pub mod fleet;
pub mod identity;
pub mod inspect;
pub mod kernel;
pub mod model;
pub mod reactor;
pub mod report;
pub mod store;
pub mod tui;
