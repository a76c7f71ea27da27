//! Llama 1, 2, 3, 3.1 and 3.2: pre-norm decoder, grouped-query attention, SwiGLU.
//!
//! Reference: `transformers/models/llama/modeling_llama.py`.

use serde::Deserialize;

use crate::layers::{Head, PreNormLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims};

/// The `config.json` of a Llama.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Llama(DecoderConfig);

impl Architecture for Llama {
    const FAMILY: &'static str = "Llama 1, 2, 3, 3.1, 3.2";
    const MODEL_TYPES: &'static [&'static str] = &["llama"];
    type Layer<B: Backend> = PreNormLayer<B>;

    fn check(&self) -> Result<(), ConfigError> {
        self.0.check()
    }

    fn dims(&self) -> Dims {
        self.0.dims()
    }

    fn rope(&self) -> RopeParameters {
        self.0.rope()
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> PreNormLayer<B> {
        PreNormLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }

    fn head<B: Backend>(&self, rows: usize, norm: bool, device: &B::Device) -> Head<B> {
        self.0.head(rows, norm, device)
    }
}
