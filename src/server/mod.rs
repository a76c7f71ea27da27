//! An HTTP server in OpenAI's form, in which one pass serves all who wait.

mod access;
mod answer;
mod chat;
mod completions;
mod failure;
mod fields;
mod metrics;
mod page;
mod replies;
mod router;
mod scheduler;
mod state;

pub use router::{ServerOptions, serve};
