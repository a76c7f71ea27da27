//! Qwen 1: Llama by other names, with queries, keys and values in one matrix with a bias. Texts longer than it was
//! shown are not offered: it would change its base and its queries for them.
//!
//! Reference: `modeling_qwen.py` of its repositories.

use serde::Deserialize;

use crate::layers::{DenseLayer, SelfAttentionConfig};
use crate::{Architecture, Backend, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Qwen (1).
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "QwenConfig")]
pub struct Qwen(DecoderConfig);

#[derive(Debug, Clone, Deserialize)]
struct QwenConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    kv_channels: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    no_bias: Option<bool>,
    rotary_pct: Option<f64>,
    rotary_emb_base: Option<f64>,
    seq_length: Option<usize>,
}

impl From<QwenConfig> for Qwen {
    fn from(own: QwenConfig) -> Self {
        let mut config = DecoderConfig {
            hidden_size: own.hidden_size,
            // Of both halves of the gated MLP.
            intermediate_size: own.intermediate_size / 2,
            num_hidden_layers: own.num_hidden_layers,
            num_attention_heads: own.num_attention_heads,
            head_dim: own.kv_channels,
            rms_norm_eps: own.layer_norm_epsilon.unwrap_or(1e-6),
            vocab_size: own.vocab_size,
            max_position_embeddings: own.seq_length.or(Some(2048)),
            attention_bias: true,
            mlp_bias: own.no_bias == Some(false),
            partial_rotary_factor: own.rotary_pct,
            rope_theta: own.rotary_emb_base,
            ..DecoderConfig::default()
        };
        config.style.partial_rotary = Some(1.0);
        Self(config)
    }
}

impl Architecture for Qwen {
    const FAMILY: &'static str = "Qwen (1)";
    const MODEL_TYPES: &'static [&'static str] = &["qwen"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn names(&self) -> Names {
        let ignored = &["rotary_emb.inv_freq", ".attn.masked_bias"];
        Names {
            prefix: "transformer.",
            embedding: "wte.weight",
            layers: "h",
            norm: "ln_f",
            ignored,
            ..Names::default()
        }
    }

    fn weight_map(&self) -> WeightMap {
        let map = WeightMap::renamed(&[
            ("input_layernorm", "ln_1"),
            ("self_attn.o_proj", "attn.c_proj"),
            ("post_attention_layernorm", "ln_2"),
            ("mlp.gate_proj", "mlp.w2"),
            ("mlp.up_proj", "mlp.w1"),
            ("mlp.down_proj", "mlp.c_proj"),
        ]);
        map.fused_qkv("attn.c_attn", &self.0)
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let attention = SelfAttentionConfig { o_bias: self.0.mlp_bias, ..SelfAttentionConfig::new(&self.0) };
        DenseLayer::new(&self.0, &attention, device)
    }
}
