//! Leveret's promises, one module each.

mod bad_input;
mod batch;
mod budget;
mod chat;
mod cli;
mod constrained;
mod doctor;
mod examples;
mod exit_codes;
mod experts;
mod generation;
mod help;
#[cfg(feature = "hub")]
mod hub;
mod joining;
mod kv_cache;
mod log;
mod measure;
mod packed;
mod parity;
mod plot;
mod profile;
mod readme;
mod server;
mod session;
mod streaming;
mod support;
mod talk;
#[cfg(feature = "stream")]
mod token_stream;
