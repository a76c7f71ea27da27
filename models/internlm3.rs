//! InternLM3: Llama by other names of its biases.
//!
//! Reference: `transformers/models/llama/modeling_llama.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of an InternLM3.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct InternLm3(DecoderConfig);

impl From<DecoderConfig> for InternLm3 {
    fn from(mut config: DecoderConfig) -> Self {
        config.attention_bias |= config.qkv_bias.unwrap_or(false);
        config.mlp_bias |= config.bias.unwrap_or(false);
        config.head_dim.get_or_insert(128);
        config.num_key_value_heads.get_or_insert(Some(2));
        config.max_position_embeddings.get_or_insert(32_768);
        Self(config)
    }
}

impl Architecture for InternLm3 {
    const FAMILY: &'static str = "InternLM3";
    const MODEL_TYPES: &'static [&'static str] = &["internlm3"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }
}
