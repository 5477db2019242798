//! What the agent exports: Prometheus metrics over HTTP.
//!
//! The way of a figure: each window of the model is added to the sums of its group ([`groups`]); at a scrape the one
//! table of metrics ([`table`]) is read out into families and text ([`families`]); [`server`] hands the text out, in
//! a thread of its own that meets the reactor's at one channel ([`Exchange`]). Nothing here touches a map, and nothing
//! but [`server`] touches the network.

pub mod buckets;
pub mod docs;
mod exchange;
pub mod families;
pub mod figures;
pub mod groups;
pub mod metric;
mod own;
pub mod page;
pub mod server;
pub mod table;

pub use exchange::{Answer, Client, Exchange, NOT_READY, Question, Subject, Unavailable, exchange};
pub use figures::Figures;
pub use own::Own;
pub use table::METRICS;

#[cfg(test)]
mod tests;
