//! Mistral 7B, Small and Nemo: Llama whose layers all see a sliding window, unless the config says `null`.
//!
//! Reference: `transformers/models/mistral/modeling_mistral.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of a Mistral.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Mistral(DecoderConfig);

impl From<DecoderConfig> for Mistral {
    fn from(mut config: DecoderConfig) -> Self {
        config.num_key_value_heads.get_or_insert(Some(8));
        config.sliding_window.get_or_insert(Some(4096));
        config.max_position_embeddings.get_or_insert(131_072);
        (config.attention_bias, config.mlp_bias) = (false, false);
        Self(config)
    }
}

impl Architecture for Mistral {
    const FAMILY: &'static str = "Mistral, Mistral Nemo";
    const MODEL_TYPES: &'static [&'static str] = &["mistral"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn sliding_window(&self, _index: usize) -> Option<usize> {
        self.0.sliding_window.flatten()
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let sliding_window = self.sliding_window(index);
        let attention = SelfAttentionConfig { sliding_window, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
