use serde::{Deserialize, Deserializer};

use super::{Activation, Style};
use crate::layers::{Head, NormKind, RopeParameters, RopeType};
use crate::{Backend, Dims};

/// The fields of `config.json` that Llama and its kin spell alike, and those that some families have beside them.
///
/// A family whose config is spelled otherwise fills it in by itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs, reason = "the names are those of config.json")]
pub struct DecoderConfig {
    pub hidden_size: usize,
    #[serde(default)]
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    #[serde(default)]
    pub num_attention_heads: usize,
    /// Absent, `null` or a number: when absent, each family has its own default.
    #[serde(default, deserialize_with = "present")]
    pub num_key_value_heads: Option<Option<usize>>,
    pub head_dim: Option<usize>,
    #[serde(default)]
    pub hidden_act: Activation,
    /// When absent, each family has its own default.
    pub rms_norm_eps: Option<f64>,
    #[serde(default)]
    pub vocab_size: usize,
    /// Whether every token sees those behind it: true or `all`.
    pub use_bidirectional_attention: Option<serde_json::Value>,
    pub max_position_embeddings: Option<usize>,
    #[serde(default, deserialize_with = "or_default")]
    pub attention_bias: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub mlp_bias: bool,
    /// Absent, `null` or a number, which mean different things to Mistral.
    #[serde(default, deserialize_with = "present")]
    pub sliding_window: Option<Option<usize>>,
    pub use_sliding_window: Option<bool>,
    pub max_window_layers: Option<usize>,
    pub layer_types: Option<Vec<String>>,
    pub original_max_position_embeddings: Option<usize>,
    pub model_max_length: Option<usize>,
    pub rope_theta: Option<f64>,
    /// transformers 4.
    pub(crate) rope_scaling: Option<RopeParameters>,
    /// transformers 5.
    pub(crate) rope_parameters: Option<RopeParameters>,
    pub rope_local_base_freq: Option<f64>,
    #[serde(alias = "rotary_pct", alias = "rope_pct")]
    pub partial_rotary_factor: Option<f64>,
    pub sliding_window_pattern: Option<Pattern>,
    pub no_rope_layers: Option<Vec<u8>>,
    pub no_rope_layer_interval: Option<usize>,
    pub hidden_activation: Option<Activation>,
    #[serde(alias = "layer_norm_epsilon", alias = "norm_eps", alias = "norm_epsilon")]
    pub layer_norm_eps: Option<f64>,
    pub attn_logit_softcapping: Option<f64>,
    pub final_logit_softcapping: Option<f64>,
    pub query_pre_attn_scalar: Option<f64>,
    pub attention_multiplier: Option<f64>,
    pub embedding_multiplier: Option<f64>,
    pub residual_multiplier: Option<f64>,
    pub logits_scaling: Option<f64>,
    pub logit_scale: Option<f64>,
    pub clip_qkv: Option<f64>,
    pub use_bias: Option<bool>,
    pub use_qkv_bias: Option<bool>,
    pub qkv_bias: Option<bool>,
    pub bias: Option<bool>,
    pub attention_out_bias: Option<bool>,
    #[serde(default, alias = "use_qk_norm", deserialize_with = "or_default")]
    pub qk_layernorm: bool,
    pub use_parallel_residual: Option<bool>,
    /// What the family does otherwise than Llama.
    #[serde(skip)]
    pub style: Style,
}

/// After how many layers with a window comes one without: a number, or a letter for each layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Pattern {
    /// The number of layers in which one has no window.
    Every(usize),
    /// As `LLLG`.
    Letters(String),
}

/// Reads `null` as an absent field.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Tells `null` from an absent field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl DecoderConfig {
    /// Key and value heads; as many as query heads when the config says `null`.
    pub fn num_kv_heads(&self) -> usize {
        self.num_key_value_heads.flatten().unwrap_or(self.num_attention_heads)
    }

    /// What mean squares are raised by, which each family fills in where the config is silent.
    pub fn rms_norm_eps(&self) -> f64 {
        self.rms_norm_eps.unwrap_or(1e-6)
    }

    /// `max_position_embeddings`, which each family fills in where the config is silent.
    pub(crate) fn max_positions(&self) -> usize {
        self.max_position_embeddings.unwrap_or(2048)
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or_else(|| self.hidden_size / self.num_attention_heads.max(1))
    }

    /// The number of layers in which one has no window.
    pub(crate) fn sliding_window_period(&self) -> Option<usize> {
        self.sliding_window_pattern.as_ref().map(|pattern| match pattern {
            Pattern::Every(layers) => *layers,
            Pattern::Letters(letters) => letters.len(),
        })
    }

    /// What variances and mean squares of hidden states are raised by.
    pub(crate) fn norm_eps(&self) -> f64 {
        match self.style.norm {
            NormKind::Rms | NormKind::RmsPlusOne => self.rms_norm_eps(),
            _ => self.layer_norm_eps.unwrap_or(1e-5),
        }
    }

    /// The rotary position embedding in either spelling, with the config's own `rope_theta` filled in.
    pub fn rope(&self) -> RopeParameters {
        let scaling = self.rope_scaling.as_ref().filter(|scaling| !scaling.is_empty());
        let mut rope = scaling.or(self.rope_parameters.as_ref()).cloned().unwrap_or_default();
        rope.rope_theta = rope.rope_theta.or(self.rope_theta);
        rope.original_max_position_embeddings =
            self.original_max_position_embeddings.or(rope.original_max_position_embeddings);
        rope.max_position_embeddings = self.max_positions();
        let head_dim = self.head_dim();
        let partial = |default| rope.partial_rotary_factor.or(self.partial_rotary_factor).unwrap_or(default);
        rope.rotary_dim = self.style.partial_rotary.map(|default| (head_dim as f64 * partial(default)) as usize);
        if matches!(rope.rope_type(), RopeType::LongRope | RopeType::Proportional) {
            rope.rotary_dim.get_or_insert(head_dim);
        }
        rope.interleaved = self.style.interleaved;
        if self.style.no_rope { rope.none() } else { rope }
    }

    /// The rotary position embeddings of layers without and with a window, in either spelling: version 4 stretches
    /// those without.
    pub(crate) fn ropes_of_kinds(&mut self) -> [RopeParameters; 2] {
        let [global, local] = self.rope_parameters.take().unwrap_or_default().take_apart();
        let stretched = self.rope_scaling.take().filter(|scaling| !scaling.is_empty());
        [global.or(stretched), local].map(Option::unwrap_or_default)
    }

    /// Whether the config says how positions turn, beside `rope_theta`.
    pub(crate) fn has_rope(&self) -> bool {
        let given = [&self.rope_scaling, &self.rope_parameters];
        given.into_iter().flatten().any(|rope| !rope.is_empty())
    }

    /// Sizes that the engine needs.
    pub fn dims(&self) -> Dims {
        Dims {
            num_layers: self.num_hidden_layers,
            embedding_size: self.hidden_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            vocab_size: self.vocab_size,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_kv_heads(),
            head_dim: self.head_dim(),
            kv_len: self.num_kv_heads().saturating_mul(2).saturating_mul(self.head_dim()),
            max_positions: self.rope().max_positions(),
            shapes_scores: self.style.alibi,
        }
    }

    /// The final norm and `rows` rows of the head.
    pub(crate) fn head<B: Backend>(&self, rows: usize, norm: bool, device: &B::Device) -> Head<B> {
        Head::new(self, rows, norm, device)
    }
}
