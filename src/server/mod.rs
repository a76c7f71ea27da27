//! An HTTP server in OpenAI's form, in which one pass serves all who wait.

mod access;
mod answer;
mod body;
mod chat;
mod completions;
mod failure;
mod fields;
mod health;
mod limits;
mod metrics;
mod object;
mod options;
mod origin;
mod page;
mod replies;
mod router;
mod scheduler;
mod serve;
mod state;
mod words;

pub use access::ApiKey;
pub use options::ServerOptions;
pub use origin::AllowedOrigin;
pub use serve::Server;
