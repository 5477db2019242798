//! All hosts that run the agent, as a Prometheus server has them: for `top --from URL`.
//!
//! [`client`] asks over HTTP, [`queries`] is the table of what is asked, `rows` puts the answers together, [`poll`] does it
//! beside the view's thread. What metrics do not have (threads, states, largest values) is not known here, and never made
//! up. Everything that a server says is foreign: bounded in size, believed in no length, shown sanitised like all names.

mod answer;
pub mod client;
mod config;
pub mod document;
pub mod poll;
pub mod queries;
mod rows;

#[cfg(test)]
pub(crate) mod tests;

pub use client::{Client, Url};
pub use poll::{Poller, View};
pub use rows::Answer;
