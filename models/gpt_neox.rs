//! GPT-NeoX and Pythia: attention and MLP side by side behind a LayerNorm each, queries, keys and values of each head
//! together in one matrix, and a rotation of a part of each head.
//!
//! Reference: `transformers/models/gpt_neox/modeling_gpt_neox.py`.

use serde::Deserialize;

use crate::config::Order;
use crate::layers::{DenseLayer, NormKind, Qkv, RopeParameters, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Pythia.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "NeoXConfig")]
pub struct GptNeoX(DecoderConfig);

#[derive(Debug, Clone, Deserialize)]
struct NeoXConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: Option<Activation>,
    max_position_embeddings: Option<usize>,
    layer_norm_eps: Option<f64>,
    use_parallel_residual: Option<bool>,
    attention_bias: Option<bool>,
    rotary_pct: Option<f64>,
    #[serde(alias = "rope_theta")]
    rotary_emb_base: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeParameters>,
}

impl From<NeoXConfig> for GptNeoX {
    fn from(own: NeoXConfig) -> Self {
        let mut config = DecoderConfig {
            hidden_size: own.hidden_size,
            intermediate_size: own.intermediate_size,
            num_hidden_layers: own.num_hidden_layers,
            num_attention_heads: own.num_attention_heads,
            hidden_act: own.hidden_act.unwrap_or(Activation::Gelu),
            layer_norm_eps: own.layer_norm_eps,
            vocab_size: own.vocab_size,
            max_position_embeddings: own.max_position_embeddings.or(Some(2048)),
            attention_bias: own.attention_bias.unwrap_or(true),
            mlp_bias: true,
            partial_rotary_factor: own.rotary_pct,
            rope_theta: own.rotary_emb_base,
            rope_scaling: own.rope_scaling,
            rope_parameters: own.rope_parameters,
            ..DecoderConfig::default()
        };
        let style = &mut config.style;
        (style.norm, style.gated, style.partial_rotary) = (NormKind::LayerBias, false, Some(0.25));
        style.order = if own.use_parallel_residual == Some(false) { Order::Pre } else { Order::ParallelApart };
        Self(config)
    }
}

impl Architecture for GptNeoX {
    const FAMILY: &'static str = "Pythia, GPT-NeoX";
    const MODEL_TYPES: &'static [&'static str] = &["gpt_neox"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn names(&self) -> Names {
        Names {
            prefix: "gpt_neox.",
            embedding: "embed_in.weight",
            layers: "layers",
            norm: "final_layer_norm",
            head: "embed_out",
            unused: &[],
            ignored: &["rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"],
        }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("self_attn.qkv_proj", "attention.query_key_value"),
            ("self_attn.o_proj", "attention.dense"),
            ("mlp.up_proj", "mlp.dense_h_to_4h"),
            ("mlp.down_proj", "mlp.dense_4h_to_h"),
        ])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let qkv = Qkv::Groups(self.0.num_attention_heads);
        DenseLayer::new(&self.0, &SelfAttentionConfig { qkv, ..SelfAttentionConfig::new(&self.0) }, device)
    }
}
