//! InternLM2: Llama by other names, with queries, keys and values of each group of heads together in one matrix.
//!
//! Reference: `transformers/models/llama/modeling_llama.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, Qkv, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, Names, WeightMap};

/// The `config.json` of an InternLM2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct InternLm2(DecoderConfig);

impl From<DecoderConfig> for InternLm2 {
    fn from(mut config: DecoderConfig) -> Self {
        let bias = config.bias.unwrap_or(true);
        (config.attention_bias, config.mlp_bias) = (bias, false);
        config.max_position_embeddings.get_or_insert(2048);
        Self(config)
    }
}

impl Architecture for InternLm2 {
    const FAMILY: &'static str = "InternLM2";
    const MODEL_TYPES: &'static [&'static str] = &["internlm2"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn names(&self) -> Names {
        Names { embedding: "tok_embeddings.weight", head: "output", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("input_layernorm", "attention_norm"),
            ("self_attn.qkv_proj", "attention.wqkv"),
            ("self_attn.o_proj", "attention.wo"),
            ("post_attention_layernorm", "ffn_norm"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.up_proj", "feed_forward.w3"),
            ("mlp.down_proj", "feed_forward.w2"),
        ])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention =
            SelfAttentionConfig { qkv: Qkv::Groups(self.0.num_kv_heads()), ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
