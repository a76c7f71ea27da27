//! Apertus: Llama with norms of every query and key head, and an MLP without a gate whose activation is learned.
//!
//! Reference: `transformers/models/apertus/modeling_apertus.py`.

use serde::Deserialize;

use crate::config::unsupported;
use crate::layers::{DenseLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of an Apertus.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "ApertusConfig")]
pub struct Apertus {
    config: DecoderConfig,
    hidden_act: String,
}

#[derive(Deserialize)]
struct ApertusConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    vocab_size: usize,
    max_position_embeddings: Option<usize>,
    attention_bias: Option<bool>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeParameters>,
}

impl From<ApertusConfig> for Apertus {
    fn from(own: ApertusConfig) -> Self {
        let mut config = DecoderConfig {
            hidden_size: own.hidden_size,
            intermediate_size: own.intermediate_size,
            num_hidden_layers: own.num_hidden_layers,
            num_attention_heads: own.num_attention_heads,
            num_key_value_heads: own.num_key_value_heads.map(Some),
            head_dim: own.head_dim,
            rms_norm_eps: Some(own.rms_norm_eps.unwrap_or(1e-5)),
            vocab_size: own.vocab_size,
            max_position_embeddings: own.max_position_embeddings.or(Some(65_536)),
            attention_bias: own.attention_bias.unwrap_or(false),
            rope_theta: own.rope_theta,
            rope_scaling: own.rope_scaling,
            rope_parameters: own.rope_parameters,
            ..DecoderConfig::default()
        };
        (config.style.gated, config.style.xielu) = (false, true);
        Self { config, hidden_act: own.hidden_act.unwrap_or_else(|| XIELU.to_owned()) }
    }
}

const XIELU: &str = "xielu";

impl Architecture for Apertus {
    const FAMILY: &'static str = "Apertus";
    const MODEL_TYPES: &'static [&'static str] = &["apertus"];
    type Layer<B: Backend> = DenseLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self.hidden_act == XIELU {
            true => self.config.check(),
            false => Err(unsupported("hidden_act", &self.hidden_act, XIELU)),
        }
    }

    fn names(&self) -> Names {
        Names { ignored: &["rotary_emb.inv_freq", "act_fn.beta", "act_fn.eps"], ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("input_layernorm", "attention_layernorm"),
            ("post_attention_layernorm", "feedforward_layernorm"),
        ])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> DenseLayer<B> {
        let qk_norm_eps = Some(self.config.rms_norm_eps());
        let attention = SelfAttentionConfig { qk_norm_eps, ..SelfAttentionConfig::new(&self.config) };
        DenseLayer::new(&self.config, &attention, device)
    }
}
