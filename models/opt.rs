//! OPT: learned positions whose first two rows are skipped, LayerNorms, biases, and an MLP of ReLU without a gate.
//!
//! Reference: `transformers/models/opt/modeling_opt.py`.

use serde::Deserialize;

use crate::config::unsupported;
use crate::layers::{DenseLayer, NormKind, Opening, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of an OPT.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "OptConfig")]
pub struct Opt {
    config: DecoderConfig,
    own: OptConfig,
}

#[derive(Debug, Clone, Deserialize)]
struct OptConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    ffn_dim: usize,
    max_position_embeddings: Option<usize>,
    num_attention_heads: usize,
    activation_function: Option<Activation>,
    do_layer_norm_before: Option<bool>,
    _remove_final_layer_norm: Option<bool>,
    word_embed_proj_dim: Option<usize>,
    enable_bias: Option<bool>,
    layer_norm_elementwise_affine: Option<bool>,
}

impl From<OptConfig> for Opt {
    fn from(own: OptConfig) -> Self {
        let mut config = DecoderConfig {
            hidden_size: own.hidden_size,
            intermediate_size: own.ffn_dim,
            num_hidden_layers: own.num_hidden_layers,
            num_attention_heads: own.num_attention_heads,
            hidden_act: own.activation_function.unwrap_or(Activation::Relu),
            vocab_size: own.vocab_size,
            max_position_embeddings: own.max_position_embeddings.or(Some(2048)),
            attention_bias: own.enable_bias.unwrap_or(true),
            mlp_bias: own.enable_bias.unwrap_or(true),
            ..DecoderConfig::default()
        };
        (config.style.norm, config.style.gated, config.style.no_rope) = (NormKind::LayerBias, false, true);
        Self { config, own }
    }
}

impl Architecture for Opt {
    const FAMILY: &'static str = "OPT";
    const MODEL_TYPES: &'static [&'static str] = &["opt"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        let (own, hidden) = (&self.own, self.own.hidden_size);
        if own.do_layer_norm_before == Some(false) {
            return Err(unsupported("do_layer_norm_before", false, "true"));
        }
        if own._remove_final_layer_norm == Some(true) {
            return Err(unsupported("_remove_final_layer_norm", true, "false"));
        }
        if own.layer_norm_elementwise_affine == Some(false) {
            return Err(unsupported("layer_norm_elementwise_affine", false, "true"));
        }
        match own.word_embed_proj_dim.filter(|dim| *dim != hidden) {
            Some(dim) => Err(unsupported("word_embed_proj_dim", dim, format!("hidden_size = {hidden}"))),
            None => self.config.check(),
        }
    }

    fn names(&self) -> Names {
        Names { prefix: "model.decoder.", norm: "final_layer_norm", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        let map = WeightMap::renamed(&[
            ("input_layernorm", "self_attn_layer_norm"),
            ("self_attn.o_proj", "self_attn.out_proj"),
            ("post_attention_layernorm", "final_layer_norm"),
            ("mlp.up_proj", "fc1"),
            ("mlp.down_proj", "fc2"),
        ]);
        map.outside("opening.positions", "embed_positions.weight")
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        let layer = DenseLayer::new(config, &SelfAttentionConfig::new(config), device);
        layer.opened(index, || Opening::positions(config, 2, device))
    }
}
