//! Persimmon: LayerNorms, also of every query and key head, queries, keys and values of each head together in one
//! matrix, an MLP that squares a ReLU, and a rotation of half of each head.
//!
//! Reference: `transformers/models/persimmon/modeling_persimmon.py`.

use serde::Deserialize;

use crate::layers::{DenseLayer, NormKind, QkNorm, Qkv, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Persimmon.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "DecoderConfig")]
pub struct Persimmon(DecoderConfig);

impl From<DecoderConfig> for Persimmon {
    fn from(mut config: DecoderConfig) -> Self {
        (config.style.norm, config.style.gated) = (NormKind::LayerBias, false);
        config.style.partial_rotary = Some(0.5);
        if config.hidden_act == Activation::Silu {
            config.hidden_act = Activation::Relu2;
        }
        config.max_position_embeddings.get_or_insert(16_384);
        config.num_key_value_heads = Some(None);
        (config.attention_bias, config.mlp_bias) = (true, true);
        Self(config)
    }
}

impl Architecture for Persimmon {
    const FAMILY: &'static str = "Persimmon";
    const MODEL_TYPES: &'static [&'static str] = &["persimmon"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn names(&self) -> Names {
        Names { norm: "final_layernorm", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("self_attn.qkv_proj", "self_attn.query_key_value"),
            ("self_attn.o_proj", "self_attn.dense"),
            ("self_attn.q_norm", "self_attn.q_layernorm"),
            ("self_attn.k_norm", "self_attn.k_layernorm"),
            ("mlp.up_proj", "mlp.dense_h_to_4h"),
            ("mlp.down_proj", "mlp.dense_4h_to_h"),
        ])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let norm = (QkNorm::Each(NormKind::LayerBias), self.0.norm_eps());
        let attention = SelfAttentionConfig {
            qkv: Qkv::Groups(self.0.num_attention_heads),
            qk_norm: self.0.qk_layernorm.then_some(norm),
            ..SelfAttentionConfig::new(&self.0)
        };
        DenseLayer::new(&self.0, &attention, device)
    }
}
