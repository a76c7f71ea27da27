#![doc = include_str!("../README.md")]

mod batch;
mod bench;
mod cache;
mod chat;
mod checkpoint;
mod config;
mod constraint;
mod decoder;
mod disk;
mod doctor;
mod encoder;
mod engine;
mod error;
mod experts;
mod fingerprint;
mod generate;
mod generation_config;
#[cfg(feature = "hub")]
mod hub;
mod io;
#[cfg(feature = "json_schema")]
mod json_schema;
mod memory;
mod model;
mod options;
mod pack;
mod plan;
mod prompt;
mod quantization_config;
mod record;
mod run_dtype;
mod sampler;
mod sequence;
#[cfg(feature = "server")]
mod server;
mod session;
mod stats;
mod stop;
mod stream;
mod synth;
#[cfg(feature = "stream")]
mod token_stream;
mod tokenizer;
mod unit;
mod upload;
mod verify;

pub use batch::Batch;
pub use bench::{Bench, BenchOptions, Pace};
pub use chat::{ChatTemplate, Conversation, Message};
pub use checkpoint::Checkpoint;
pub use constraint::Constraint;
pub use doctor::{Finding, Mark, doctor};
pub use encoder::Encoder;
pub use engine::Cancellation;
pub use error::{Error, Least, Result};
pub use generate::{Completion, FinishReason, Generation, Token};
#[cfg(feature = "hub")]
pub use hub::{CachedModel, Hub, HubToken, PullEvent, Removal, RepoId};
#[cfg(feature = "json_schema")]
pub use json_schema::{Grammars, JsonSchema};
pub use leveret_models as models;
pub use leveret_models::Backend;
pub use memory::{Budget, peak_memory};
pub use model::{Builder, Model};
pub use options::GenerateOptions;
pub use pack::{Pack, PackProgress, PackReport};
pub use plan::{
    Bottleneck, DeviceBudget, DevicePlan, DeviceRates, ExpertSizes, Plan, Prediction, Rates, Tier, UnitSize,
};
pub use prompt::Prompt;
pub use run_dtype::RunDtype;
pub use sampler::Sampling;
pub use sequence::Logprobs;
#[cfg(feature = "server")]
pub use server::{AllowedOrigin, ApiKey, Server, ServerOptions};
pub use session::Session;
pub use stats::{PassStats, Stats};
pub use stream::Transfer;
pub use synth::Synth;
#[cfg(feature = "stream")]
pub use token_stream::TokenStream;
pub use tokenizer::Tokenizer;
#[cfg(feature = "cuda")]
pub use upload::check_cuda;
pub use verify::{Comparison, Reply, Report, Verdict};
