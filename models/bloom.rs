//! BLOOM: scores that fall with the distance instead of positions, a norm behind the embedding, LayerNorms, biases,
//! and queries, keys and values of each head together in one matrix.
//!
//! Reference: `transformers/models/bloom/modeling_bloom.py`.

use serde::Deserialize;

use crate::config::unsupported;
use crate::layers::{DenseLayer, NormKind, Opening, Qkv, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a BLOOM.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "BloomConfig")]
pub struct Bloom {
    config: DecoderConfig,
    own: BloomConfig,
}

#[derive(Debug, Clone, Deserialize)]
struct BloomConfig {
    vocab_size: usize,
    #[serde(alias = "n_embed")]
    hidden_size: usize,
    #[serde(alias = "num_hidden_layers")]
    n_layer: usize,
    #[serde(alias = "num_attention_heads")]
    n_head: usize,
    layer_norm_epsilon: Option<f64>,
    seq_length: Option<usize>,
    apply_residual_connection_post_layernorm: Option<bool>,
}

impl From<BloomConfig> for Bloom {
    fn from(own: BloomConfig) -> Self {
        let mut config = DecoderConfig {
            hidden_size: own.hidden_size,
            intermediate_size: own.hidden_size.saturating_mul(4),
            num_hidden_layers: own.n_layer,
            num_attention_heads: own.n_head,
            hidden_act: Activation::GeluPytorchTanh,
            layer_norm_eps: own.layer_norm_epsilon,
            vocab_size: own.vocab_size,
            max_position_embeddings: own.seq_length.or(Some(2048)),
            attention_bias: true,
            mlp_bias: true,
            ..DecoderConfig::default()
        };
        let style = &mut config.style;
        (style.norm, style.gated, style.no_rope, style.alibi) = (NormKind::LayerBias, false, true, true);
        Self { config, own }
    }
}

impl Architecture for Bloom {
    const FAMILY: &'static str = "BLOOM";
    const MODEL_TYPES: &'static [&'static str] = &["bloom"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self.own.apply_residual_connection_post_layernorm {
            Some(true) => Err(unsupported("apply_residual_connection_post_layernorm", true, "false")),
            _ => self.config.check(),
        }
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
        map.outside("opening.norm", "word_embeddings_layernorm")
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        let qkv = Qkv::Groups(config.num_attention_heads);
        let layer = DenseLayer::new(config, &SelfAttentionConfig { qkv, ..SelfAttentionConfig::new(config) }, device);
        layer.opened(index, || Opening::normed(config, device))
    }
}
