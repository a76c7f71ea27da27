//! Gemma 1: Llama whose norms multiply by one more than their weight, whose embeddings are scaled and whose MLP has GELU.
//!
//! Reference: `transformers/models/gemma/modeling_gemma.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, NormKind, Opening, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig};

/// The `config.json` of a Gemma.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Gemma(DecoderConfig);

impl From<DecoderConfig> for Gemma {
    fn from(mut config: DecoderConfig) -> Self {
        config.gemma_defaults();
        // The first configs say `gelu` and mean its approximation; none says `silu`.
        if matches!(config.hidden_act, Activation::Silu | Activation::Gelu) {
            config.hidden_act = Activation::GeluPytorchTanh;
        }
        config.num_key_value_heads.get_or_insert(Some(16));
        Self(config)
    }
}

impl Architecture for Gemma {
    const FAMILY: &'static str = "Gemma";
    const MODEL_TYPES: &'static [&'static str] = &["gemma"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let layer = DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device);
        layer.opened(index, || Opening::scaled(self.0.embedding_scale()))
    }
}

impl DecoderConfig {
    /// What all Gemmas have in common.
    pub(crate) fn gemma_defaults(&mut self) {
        self.style.norm = NormKind::RmsPlusOne;
        self.head_dim.get_or_insert(256);
        self.max_position_embeddings.get_or_insert(8192);
        self.mlp_bias = false;
    }

    /// What Gemmas multiply embeddings by.
    pub(crate) fn embedding_scale(&self) -> f64 {
        (self.hidden_size as f64).sqrt()
    }
}
