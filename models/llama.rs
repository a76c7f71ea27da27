//! Llama 1, 2, 3, 3.1 and 3.2: pre-norm decoder, grouped-query attention, SwiGLU.
//!
//! Reference: `transformers/models/llama/modeling_llama.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of a Llama.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Llama(DecoderConfig);

impl From<DecoderConfig> for Llama {
    fn from(mut config: DecoderConfig) -> Self {
        config.max_position_embeddings.get_or_insert(2048);
        Self(config)
    }
}

impl Architecture for Llama {
    const FAMILY: &'static str = "Llama 1, 2, 3, 3.1, 3.2";
    const MODEL_TYPES: &'static [&'static str] = &["llama"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }
}
