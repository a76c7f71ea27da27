//! What the families' `config.json` files have in common.

mod activation;
mod check;
mod decoder;
mod error;
mod sharing;
mod style;
mod window;

pub use activation::Activation;
pub(crate) use check::MOST_LAYERS;
pub use decoder::DecoderConfig;
pub use error::ConfigError;
pub(crate) use error::unsupported;
pub(crate) use sharing::KvSharing;
pub use style::{Order, Style};
