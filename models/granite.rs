//! Granite 3: Llama with multipliers of embeddings, scores, residuals and logits.
//!
//! Reference: `transformers/models/granite/modeling_granite.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, Opening, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of a Granite 3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Granite(DecoderConfig);

impl From<DecoderConfig> for Granite {
    fn from(mut config: DecoderConfig) -> Self {
        config.style.residual_scale = config.residual_multiplier.unwrap_or(1.0);
        config.style.logit_scale = config.logits_scaling.unwrap_or(1.0).recip();
        config.max_position_embeddings.get_or_insert(2048);
        Self(config)
    }
}

impl Architecture for Granite {
    const FAMILY: &'static str = "Granite 3";
    const MODEL_TYPES: &'static [&'static str] = &["granite"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let scale = self.0.attention_multiplier.unwrap_or(1.0);
        let attention = SelfAttentionConfig { scale, ..SelfAttentionConfig::new(&self.0) };
        let layer = DenseLayer::new(&self.0, &attention, device);
        layer.opened(index, || Opening::scaled(self.0.embedding_multiplier.unwrap_or(1.0)))
    }
}
