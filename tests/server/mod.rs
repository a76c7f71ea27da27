//! The server speaks OpenAI's language, serves several at once, and says no in the right words.

mod chat;
mod completions;
mod ending;
mod errors;
mod limits;
mod logprobs;
mod origins;
mod paths;
mod running;
mod schema;
