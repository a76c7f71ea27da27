//! Decoder architectures, written once as Burn modules that run on any backend.
//!
//! This crate holds the arithmetic and nothing else: it never sees a file, a budget, a plan or a sampler. Each family
//! is one short file made of the shared [`layers`]; the [`registry`] finds it by the `model_type` of a `config.json`.

mod architecture;
mod backend;
mod config;
mod deepseek_config;
mod deepseek_v2;
mod deepseek_v3;
mod dots1;
mod ernie4_5_moe;
mod glm4_moe;
mod gpt_oss;
mod granite_moe;
mod kernels;
mod latent_config;
pub mod layers;
mod llama;
mod llama4;
mod minimax_m2;
mod mistral;
mod mixtral;
mod moe_config;
mod olmoe;
mod portable;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
pub mod registry;
pub mod weight;

pub use architecture::{Architecture, DecoderLayer, Dims, Names};
pub use backend::Backend;
pub use config::{Activation, ConfigError, DecoderConfig};
pub use deepseek_v2::DeepseekV2;
pub use deepseek_v3::DeepseekV3;
pub use dots1::Dots1;
pub use ernie4_5_moe::Ernie4_5Moe;
pub use glm4_moe::Glm4Moe;
pub use gpt_oss::GptOss;
pub use granite_moe::{GraniteMoe, GraniteMoeLayer};
pub use llama::Llama;
pub use llama4::{Llama4, Llama4Layer};
pub use minimax_m2::MiniMaxM2;
pub use mistral::Mistral;
pub use mixtral::Mixtral;
pub use olmoe::Olmoe;
pub use qwen2::Qwen2;
pub use qwen2_moe::Qwen2Moe;
pub use qwen3::Qwen3;
pub use qwen3_moe::Qwen3Moe;
