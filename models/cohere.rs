//! Command R: attention and MLP side by side behind one LayerNorm, rotations of neighbours, scaled logits.
//!
//! Reference: `transformers/models/cohere/modeling_cohere.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, NormKind, QkNorm, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of a Command R.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Cohere(DecoderConfig);

impl From<DecoderConfig> for Cohere {
    fn from(mut config: DecoderConfig) -> Self {
        config.cohere_defaults();
        Self(config)
    }
}

impl Architecture for Cohere {
    const FAMILY: &'static str = "Command R";
    const MODEL_TYPES: &'static [&'static str] = &["cohere"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let qk_norm = self.0.qk_layernorm.then(|| (QkNorm::Own, self.0.norm_eps()));
        let attention = SelfAttentionConfig { qk_norm, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}

impl DecoderConfig {
    /// What Command R and its successors have in common.
    pub(crate) fn cohere_defaults(&mut self) {
        (self.style.norm, self.style.order) = (NormKind::Layer, Order::Parallel);
        self.style.interleaved = true;
        self.style.logit_scale = self.logit_scale.unwrap_or(0.0625);
        self.max_position_embeddings.get_or_insert(8192);
        self.mlp_bias = false;
    }
}
