#![doc = include_str!("../README.md")]
//!
//! ## Features
//!
//! | feature | gives | needs |
//! |---|---|---|
//! | `flex`, `ndarray`, `cuda`, `wgpu` | a backend each, any number of them | |
//! | `hub` | [`Hub`]: models by their name, downloaded while they run | |
//! | `json_schema` | [`JsonSchema`]: replies of a form | |
//! | `stream` | [`TokenStream`] as an asynchronous stream | |
//! | `server` | [`Server`]: the API over HTTP | `json_schema` |
//! | `cli` | the command | `hub` |
//!
//! The default is `flex`, `hub`, `server`, `stream` and `cli`. Without any backend the library runs on whatever implements
//! [`Backend`].
//!
//! ## What each backend does
//!
//! | | `flex` | `ndarray` | `cuda` | `wgpu` |
//! |---|---|---|---|---|
//! | hidden states and KV cache in | f32, bf16, f16 | f32 | f32, bf16, f16 | f32, and what the adapter has |
//! | 16-bit weights | multiplied as they are stored | become f32 when they come | multiplied as they are stored | as the adapter has them, else f32 |
//! | streamed weights | used where they were read | copied | uploaded by a stream of their own | copied by the backend |
//! | budgets | `ram` | `ram` | `vram`, and `ram` for page-locked memory | `ram` |
//! | packed weights (`int8`, `int4`, `fp8`) | own kernels | unpacked for each product | own kernels | unpacked for each product |
//! | experts one by one | yes | yes | yes, some kept in host memory too | yes |
//! | attention `flash` | one kernel | as `sdpa` | one kernel for most widths of heads | as `sdpa` |
//! | sessions, in memory and on disk | yes | yes | yes | yes |
//! | devices | the CPU | the CPU | one or several | one or several |

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
