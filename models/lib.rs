//! Decoder architectures, written once as Burn modules that run on any backend.
//!
//! This crate holds the arithmetic and nothing else: it never sees a file, a budget, a plan or a sampler. Each family
//! is one short file made of the shared [`layers`]; the [`registry`] finds it by the `model_type` of a `config.json`.

mod architecture;
mod backend;
mod config;
mod gemma;
mod gemma2;
mod gemma3;
mod kernels;
pub mod layers;
mod llama;
mod mistral;
mod phi;
mod phi3;
mod portable;
mod qwen2;
mod qwen3;
pub mod registry;
pub mod weight;
mod weight_map;

pub use architecture::{Architecture, DecoderLayer, Dims, Names};
pub use backend::Backend;
pub use config::{Activation, ConfigError, DecoderConfig, Order, Style};
pub use gemma::Gemma;
pub use gemma2::Gemma2;
pub use gemma3::Gemma3;
pub use llama::Llama;
pub use mistral::Mistral;
pub use phi::Phi;
pub use phi3::Phi3;
pub use qwen2::Qwen2;
pub use qwen3::Qwen3;
pub use weight_map::{Slice, Source, WeightMap};
