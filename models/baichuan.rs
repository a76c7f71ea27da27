//! Baichuan 1 and 2: Llama with queries, keys and values in one matrix. The larger ones have scores that fall with the
//! distance instead of rotations, and the second generation a head whose rows are made of length 1.
//!
//! Reference: `transformers/models/llama/modeling_llama.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, WeightMap};

/// The `config.json` of a Baichuan 1.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Baichuan(DecoderConfig);

impl From<DecoderConfig> for Baichuan {
    fn from(mut config: DecoderConfig) -> Self {
        // The smaller ones tell their positions, the larger ones how long a text they were shown.
        let small = config.max_position_embeddings.is_some();
        (config.style.no_rope, config.style.alibi) = (!small, !small);
        let length = config.model_max_length.unwrap_or(4096);
        config.max_position_embeddings.get_or_insert(length);
        // Nothing but its vocabulary tells the second generation.
        config.style.normed_head = config.vocab_size == 125_696;
        config.num_key_value_heads = Some(None);
        (config.attention_bias, config.mlp_bias) = (false, false);
        Self(config)
    }
}

impl Architecture for Baichuan {
    const FAMILY: &'static str = "Baichuan 1, 2";
    const MODEL_TYPES: &'static [&'static str] = &["baichuan"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::default().fused_qkv("self_attn.W_pack", &self.0)
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        DenseLayer::new(&self.0, &SelfAttentionConfig::new(&self.0), device)
    }
}
