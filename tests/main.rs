//! Leveret's promises, one module each.

mod bad_input;
mod batch;
mod budget;
mod chat;
mod cli;
mod doctor;
mod examples;
mod experts;
mod generation;
#[cfg(feature = "hub")]
mod hub;
mod joining;
mod kv_cache;
mod measure;
mod packed;
mod parity;
mod profile;
mod readme;
mod server;
mod session;
mod streaming;
mod support;
mod talk;
