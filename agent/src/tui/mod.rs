//! `loopscope top`: a live view of all loops, on a terminal or as plain frames.
//!
//! [`app`] is the state, a function of keys and windows; [`draw`] reads it; [`run`] joins both with the reactor's
//! events; [`terminal`] alone writes to the terminal. No figure is computed here: `model` and `report` do that.

pub mod app;
pub mod batch;
pub mod columns;
pub mod draw;
pub mod frame;
pub mod history;
pub mod input;
pub mod keys;
pub mod list;
pub mod player;
pub mod run;
pub mod source;
pub mod terminal;
pub mod theme;
mod typing;

#[cfg(test)]
mod tests;
