//! What a running agent reads, for views on the same host: so that no second set of probes taxes it.
//!
//! A unix socket that only the agent's own user and root may use. Who connects gets a recording, from a key reading on:
//! the same bytes that `record` writes ([`crate::store`]), through the same decoder and model. It says one byte for each
//! reading that it wants (`READ`, `READ_ALL`); what others ask for comes to all, since a reading is stored as its
//! difference from the one before.

mod client;
mod server;

pub use client::{PATIENCE, Remote};
pub use server::{Server, Wanted};

/// Where the agent's socket is where nothing else is asked for.
pub const PATH: &str = "/run/loopscope/agent.sock";

/// Read all records now.
const READ: u8 = b'r';
/// And the interest sets.
const READ_ALL: u8 = b'i';

#[cfg(test)]
mod tests;
