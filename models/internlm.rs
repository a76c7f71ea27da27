//! InternLM 1: Llama with biases on queries, keys, values and output.
//!
//! Reference: `transformers/models/llama/modeling_llama.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig};

/// The `config.json` of an InternLM.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct InternLm(DecoderConfig);

impl From<DecoderConfig> for InternLm {
    fn from(mut config: DecoderConfig) -> Self {
        config.attention_bias = config.bias.unwrap_or(true);
        config.max_position_embeddings.get_or_insert(2048);
        config.num_key_value_heads = Some(None);
        config.mlp_bias = false;
        Self(config)
    }
}

impl Architecture for InternLm {
    const FAMILY: &'static str = "InternLM";
    const MODEL_TYPES: &'static [&'static str] = &["internlm"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }
}
