//! Leveret's promises, one module each.

mod bad_input;
mod batch;
mod budget;
mod chat;
mod cli;
mod examples;
mod generation;
mod kv_cache;
mod parity;
mod readme;
mod streaming;
mod support;
