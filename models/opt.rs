//! OPT: learned positions whose first two rows are skipped, LayerNorms, biases, and an MLP of ReLU without a gate. The
//! 350m norms behind attention and MLP, and has an embedding of another width than its hidden states.
//!
//! Reference: `transformers/models/opt/modeling_opt.py`.

use serde::Deserialize;

use crate::config::{Order, unsupported};
use crate::layers::{Closing, DenseLayer, Head, NormKind, Opening, SelfAttentionConfig};
use crate::{Activation, Architecture, Backend, ConfigError, DecoderConfig, Dims, Names, WeightMap};

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
        let plain = own.layer_norm_elementwise_affine == Some(false);
        let norm = if plain { NormKind::LayerPlain } else { NormKind::LayerBias };
        (config.style.norm, config.style.gated, config.style.no_rope) = (norm, false, true);
        if own.do_layer_norm_before == Some(false) {
            config.style.order = Order::PostSum;
        }
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
        match self.embedding_size() {
            0 => Err(unsupported("word_embed_proj_dim", 0, "a positive number")),
            width if width > 1 << 20 => Err(unsupported("word_embed_proj_dim", width, "a number up to a million")),
            _ => self.config.check(),
        }
    }

    fn dims(&self) -> Dims {
        Dims { embedding_size: self.embedding_size(), ..self.config.dims() }
    }

    fn names(&self) -> Names {
        Names { prefix: "model.decoder.", norm: "final_layer_norm", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        let (of_attention, of_mlp) = match self.config.style.order {
            Order::PostSum => ("post_self_attn_layernorm", "post_mlp_layernorm"),
            _ => ("input_layernorm", "post_attention_layernorm"),
        };
        let map = WeightMap::renamed(&[
            (of_attention, "self_attn_layer_norm"),
            (of_mlp, "final_layer_norm"),
            ("self_attn.o_proj", "self_attn.out_proj"),
            ("mlp.up_proj", "fc1"),
            ("mlp.down_proj", "fc2"),
        ]);
        let map = map.outside("opening.project_in", "project_in").outside("closing.project_out", "project_out");
        let map = map.outside("closing.norm", "final_layer_norm");
        map.outside("opening.positions", "embed_positions.weight")
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> DenseLayer<B> {
        let config = &self.config;
        let layer = DenseLayer::new(config, &SelfAttentionConfig::new(config), device);
        let (width, last) = (self.embedding_size(), index + 1 == config.num_hidden_layers);
        let layer = layer.opened(index, || match self.is_projected() {
            true => Opening::positions(config, 2, device).projected(width, config, device),
            false => Opening::positions(config, 2, device),
        });
        layer.closed((last && self.is_projected()).then(|| Closing::new(config, self.has_final_norm(), width, device)))
    }

    fn head<B: Backend>(&self, rows: usize, norm: bool, device: &B::Device) -> Head<B> {
        // Where hidden states are wider than the head, the last layer has norm and matrix between.
        let norm = norm && self.has_final_norm() && !self.is_projected();
        let config = DecoderConfig { hidden_size: self.embedding_size(), ..self.config.clone() };
        config.head(rows, norm, device)
    }
}

impl Opt {
    /// Width of the embedding and of the head's rows.
    fn embedding_size(&self) -> usize {
        self.own.word_embed_proj_dim.unwrap_or(self.config.hidden_size)
    }

    fn is_projected(&self) -> bool {
        self.embedding_size() != self.config.hidden_size
    }

    fn has_final_norm(&self) -> bool {
        self.config.style.order != Order::PostSum && self.own._remove_final_layer_norm != Some(true)
    }
}
