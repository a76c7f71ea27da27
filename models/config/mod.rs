//! What the families' `config.json` files have in common.

mod activation;
mod check;
mod decoder;
mod deepseek;
mod delta;
mod error;
mod latent;
mod moe;
mod parts;
mod sharing;
mod sparse;
mod state_space;
mod style;
mod window;

pub use activation::Activation;
pub(crate) use check::{MOST_LAYERS, check_sizes};
pub use decoder::DecoderConfig;
pub(crate) use deepseek::{Deepseek, DeepseekFields, V3Defaults, shared_width, v3_experts};
pub(crate) use delta::{DeltaConfig, experts_beside};
pub use error::ConfigError;
pub(crate) use error::unsupported;
pub(crate) use latent::LatentFields;
pub(crate) use moe::MoeConfig;
pub(crate) use parts::{Both, With, part};
pub(crate) use sharing::KvSharing;
pub(crate) use sparse::{Sparse, dense};
pub(crate) use state_space::{Float, StateSpace, Width};
pub use style::{Order, Style};
