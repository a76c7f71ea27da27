//! From messages to a prompt: Hugging Face chat templates, rendered exactly as transformers renders them.

mod conversation;
mod dialect;
mod json;
mod python;
mod sources;
mod template;

pub use conversation::{Conversation, Message};
pub use template::ChatTemplate;
