//! MPT: scores that fall with the distance instead of positions, LayerNorms without biases, and an MLP without a gate.
//!
//! Reference: `transformers/models/mpt/modeling_mpt.py`.

use serde::Deserialize;

use crate::layers::{Alibi, DenseLayer, NormKind, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig, Names, WeightMap};

/// The `config.json` of a MPT.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "MptConfig")]
pub struct Mpt {
    config: DecoderConfig,
    attention: AttentionConfig,
}

#[derive(Debug, Clone, Deserialize)]
struct MptConfig {
    d_model: usize,
    n_heads: usize,
    n_layers: usize,
    vocab_size: usize,
    max_seq_len: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    #[serde(default)]
    attn_config: AttentionConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct AttentionConfig {
    clip_qkv: Option<f64>,
    softmax_scale: Option<f64>,
}

impl From<MptConfig> for Mpt {
    fn from(own: MptConfig) -> Self {
        let mut config = DecoderConfig {
            hidden_size: own.d_model,
            intermediate_size: own.d_model.saturating_mul(4),
            num_hidden_layers: own.n_layers,
            num_attention_heads: own.n_heads,
            hidden_act: Activation::Gelu,
            layer_norm_eps: own.layer_norm_epsilon,
            vocab_size: own.vocab_size,
            max_position_embeddings: own.max_seq_len.or(Some(2048)),
            clip_qkv: own.attn_config.clip_qkv,
            ..DecoderConfig::default()
        };
        let style = &mut config.style;
        (style.norm, style.gated, style.no_rope, style.alibi) = (NormKind::Layer, false, true, true);
        Self { config, attention: own.attn_config }
    }
}

impl Architecture for Mpt {
    const FAMILY: &'static str = "MPT";
    const MODEL_TYPES: &'static [&'static str] = &["mpt"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn names(&self) -> Names {
        Names { prefix: "transformer.", embedding: "wte.weight", layers: "blocks", norm: "norm_f", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        let map = WeightMap::renamed(&[
            ("input_layernorm", "norm_1"),
            ("self_attn.o_proj", "attn.out_proj"),
            ("post_attention_layernorm", "norm_2"),
            ("mlp", "ffn"),
        ]);
        map.fused_qkv("attn.Wqkv", &self.config)
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let base = SelfAttentionConfig::new(&self.config);
        let alibi = Some(Alibi::of_mpt(self.config.num_attention_heads));
        let scale = self.attention.softmax_scale.unwrap_or(base.scale);
        DenseLayer::new(&self.config, &SelfAttentionConfig { alibi, scale, ..base }, device)
    }
}
