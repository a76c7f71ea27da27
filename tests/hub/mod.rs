//! Models by their name, from a hub on this machine.

mod cache;
mod command;
mod downloads;
mod offline;
mod refusals;
pub mod server;
mod streaming;
