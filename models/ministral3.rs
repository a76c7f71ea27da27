//! Ministral 3: Mistral whose queries grow with the logarithm of their position.
//!
//! Reference: `transformers/models/ministral3/modeling_ministral3.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of a Ministral 3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Ministral3(DecoderConfig);

impl From<DecoderConfig> for Ministral3 {
    fn from(mut config: DecoderConfig) -> Self {
        config.num_key_value_heads.get_or_insert(Some(8));
        config.rms_norm_eps.get_or_insert(1e-5);
        config.max_position_embeddings.get_or_insert(262_144);
        config.head_dim.get_or_insert(128);
        (config.attention_bias, config.mlp_bias) = (false, false);
        Self(config)
    }
}

impl Architecture for Ministral3 {
    const FAMILY: &'static str = "Ministral 3";
    const MODEL_TYPES: &'static [&'static str] = &["ministral3"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn sliding_window(&self, _index: usize) -> Option<usize> {
        self.0.sliding_window.flatten()
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention = SelfAttentionConfig {
            sliding_window: self.sliding_window(index),
            query_growth: self.rope().query_growth(),
            ..SelfAttentionConfig::new(&self.0)
        };
        DenseLayer::new(&self.0, &attention, device)
    }
}
