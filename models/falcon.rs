//! Falcon 7B, 40B, 180B and RW: attention and MLP side by side or one after the other, LayerNorms, queries with their
//! keys and values in one matrix, rotations or scores that fall with the distance.
//!
//! Reference: `transformers/models/falcon/modeling_falcon.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, NormKind, Qkv, RopeParameters, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Falcon.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "FalconConfig")]
pub struct Falcon {
    config: DecoderConfig,
    qkv: Qkv,
}

#[derive(Debug, Clone, Deserialize)]
struct FalconConfig {
    vocab_size: usize,
    #[serde(alias = "n_embed")]
    hidden_size: usize,
    #[serde(alias = "n_layer")]
    num_hidden_layers: usize,
    #[serde(alias = "n_head")]
    num_attention_heads: usize,
    #[serde(alias = "n_head_kv")]
    num_kv_heads: Option<usize>,
    num_ln_in_parallel_attn: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    alibi: Option<bool>,
    new_decoder_architecture: Option<bool>,
    multi_query: Option<bool>,
    parallel_attn: Option<bool>,
    bias: Option<bool>,
    max_position_embeddings: Option<usize>,
    ffn_hidden_size: Option<usize>,
    activation: Option<Activation>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeParameters>,
}

impl From<FalconConfig> for Falcon {
    fn from(own: FalconConfig) -> Self {
        let grouped = own.new_decoder_architecture.unwrap_or(false);
        let heads = own.num_attention_heads;
        // Queries share keys and values in groups, all of them, or not at all.
        let (kv_heads, qkv) = match (grouped, own.multi_query.unwrap_or(true)) {
            (true, _) => (own.num_kv_heads.unwrap_or(heads), Qkv::Groups(own.num_kv_heads.unwrap_or(heads))),
            (false, true) => (1, Qkv::Apart),
            (false, false) => (heads, Qkv::Groups(heads)),
        };
        let (bias, alibi) = (own.bias.unwrap_or(false), own.alibi.unwrap_or(false));
        let mut config = DecoderConfig {
            hidden_size: own.hidden_size,
            intermediate_size: own.ffn_hidden_size.unwrap_or(own.hidden_size.saturating_mul(4)),
            num_hidden_layers: own.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: Some(Some(kv_heads)),
            hidden_act: own.activation.unwrap_or(Activation::Gelu),
            layer_norm_eps: own.layer_norm_epsilon,
            vocab_size: own.vocab_size,
            max_position_embeddings: own.max_position_embeddings.or(Some(2048)),
            attention_bias: bias,
            mlp_bias: bias,
            rope_theta: own.rope_theta,
            rope_scaling: own.rope_scaling,
            rope_parameters: own.rope_parameters,
            ..DecoderConfig::default()
        };
        let style = &mut config.style;
        (style.norm, style.gated, style.no_rope, style.alibi) = (NormKind::LayerBias, false, alibi, alibi);
        style.order = match (own.parallel_attn.unwrap_or(true) || grouped, own.num_ln_in_parallel_attn.unwrap_or(2)) {
            (false, _) => Order::Pre,
            (true, 2) if grouped => Order::ParallelApart,
            (true, _) => Order::Parallel,
        };
        Self { config, qkv }
    }
}

impl Architecture for Falcon {
    const FAMILY: &'static str = "Falcon";
    const MODEL_TYPES: &'static [&'static str] = &["falcon"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn names(&self) -> Names {
        Names {
            prefix: "transformer.",
            embedding: "word_embeddings.weight",
            layers: "h",
            norm: "ln_f",
            ..Names::default()
        }
    }

    fn weight_map(&self) -> WeightMap {
        let map = WeightMap::renamed(&[
            ("self_attn.qkv_proj", "self_attention.query_key_value"),
            ("self_attn.o_proj", "self_attention.dense"),
            ("mlp.up_proj", "mlp.dense_h_to_4h"),
            ("mlp.down_proj", "mlp.dense_4h_to_h"),
        ]);
        let map = map.fused_qkv("self_attention.query_key_value", &self.config);
        match self.config.style.order {
            Order::ParallelApart => {
                map.also_renamed(&[("input_layernorm", "ln_attn"), ("post_attention_layernorm", "ln_mlp")])
            }
            _ => map,
        }
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        let base = SelfAttentionConfig::new(config);
        let alibi = base.alibi.clone().map(|alibi| alibi.coarse(base.scale));
        DenseLayer::new(config, &SelfAttentionConfig { qkv: self.qkv, alibi, ..base }, device)
    }
}
