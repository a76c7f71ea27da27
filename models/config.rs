//! What the families' `config.json` files have in common.

use serde::{Deserialize, Deserializer};

use crate::layers::{Head, Linear, RmsNorm, RopeParameters};
use crate::{Backend, Dims};

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, or a field that is missing or of the wrong type.
    #[error("`{field}`: {reason}")]
    Field {
        /// Path of the field, `.` for the whole file.
        field: String,
        /// What the parser says.
        reason: String,
    },
    /// A `model_type` that no architecture serves.
    #[error(
        "unknown model_type `{found}`{}; supported are {}",
        nearest.map(|n| format!(" (nearest: `{n}`)")).unwrap_or_default(), supported.join(", ")
    )]
    UnknownModelType {
        /// The value of `model_type`.
        found: String,
        /// The supported name that looks most like it.
        nearest: Option<&'static str>,
        /// All supported names.
        supported: Vec<&'static str>,
    },
    /// A value that is well-formed and cannot be honoured.
    #[error("`{field}` is {found}, expected {expected}")]
    Unsupported {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What can be honoured.
        expected: String,
    },
}

/// The activation function of an MLP (`hidden_act`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · sigmoid(x)`.
    #[default]
    #[serde(alias = "swish")]
    Silu,
    /// The exact Gaussian error linear unit.
    Gelu,
    /// Its approximation with tanh.
    #[serde(alias = "gelu_new", alias = "gelu_fast")]
    GeluPytorchTanh,
    /// `max(x, 0)`.
    Relu,
}

/// The fields of `config.json` that Llama and its kin spell alike.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "the names are those of config.json")]
pub struct DecoderConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Absent, `null` or a number: when absent, each family has its own default.
    #[serde(default, deserialize_with = "present")]
    pub num_key_value_heads: Option<Option<usize>>,
    pub head_dim: Option<usize>,
    #[serde(default)]
    pub hidden_act: Activation,
    #[serde(default = "rms_norm_eps")]
    pub rms_norm_eps: f64,
    pub vocab_size: usize,
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
    rope_theta: Option<f64>,
    /// transformers 4.
    rope_scaling: Option<RopeParameters>,
    /// transformers 5.
    rope_parameters: Option<RopeParameters>,
}

fn rms_norm_eps() -> f64 {
    1e-6
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

    /// `max_position_embeddings`, which each family fills in where the config is silent.
    fn max_positions(&self) -> usize {
        self.max_position_embeddings.unwrap_or(2048)
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or_else(|| self.hidden_size / self.num_attention_heads.max(1))
    }

    /// The rotary position embedding in either spelling, with the config's own `rope_theta` filled in.
    pub fn rope(&self) -> RopeParameters {
        let scaling = self.rope_scaling.as_ref().filter(|scaling| !scaling.is_empty());
        let mut rope = scaling.or(self.rope_parameters.as_ref()).cloned().unwrap_or_default();
        rope.rope_theta = rope.rope_theta.or(self.rope_theta);
        rope.original_max_position_embeddings =
            self.original_max_position_embeddings.or(rope.original_max_position_embeddings);
        rope.max_position_embeddings = self.max_positions();
        rope
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
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            vocab_size: self.vocab_size,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_kv_heads(),
            head_dim: self.head_dim(),
            kv_len: self.num_kv_heads().saturating_mul(2).saturating_mul(self.head_dim()),
            max_positions: self.rope().max_positions(),
            shapes_scores: false,
        }
    }

    /// The final norm and `rows` rows of a head without bias.
    pub(crate) fn head<B: Backend>(&self, rows: usize, norm: bool, device: &B::Device) -> Head<B> {
        let norm = norm.then(|| RmsNorm::new(self.hidden_size, self.rms_norm_eps, device));
        Head::new(norm, Linear::new(self.hidden_size, rows, false, device))
    }

    /// What Qwen's configs mean by silence, and that its MLPs have no biases.
    pub(crate) fn qwen_defaults(&mut self) {
        self.num_key_value_heads.get_or_insert(Some(32));
        self.sliding_window.get_or_insert(Some(4096));
        self.max_position_embeddings.get_or_insert(32_768);
        self.mlp_bias = false;
    }

    /// The window of layer `index` by Qwen's rule: only with `use_sliding_window`, and then where `layer_types` says
    /// so, or from layer `max_window_layers` on.
    pub(crate) fn qwen_window(&self, index: usize) -> Option<usize> {
        let window = self.sliding_window.flatten().filter(|_| self.use_sliding_window == Some(true))?;
        let sliding = match &self.layer_types {
            Some(kinds) => kinds[index] == "sliding_attention",
            None => index >= self.max_window_layers.unwrap_or(28),
        };
        sliding.then_some(window)
    }

    /// Refuses a `layer_types` that asks for a window which the config has switched off.
    pub(crate) fn check_qwen_window(&self) -> Result<(), ConfigError> {
        let wants = self.layer_types.iter().flatten().any(|kind| kind == "sliding_attention");
        let has = self.sliding_window.flatten().is_some() && self.use_sliding_window == Some(true);
        match wants && !has {
            true => {
                let expected = "a window, with use_sliding_window, since layer_types names sliding_attention";
                Err(unsupported("sliding_window", "switched off", expected))
            }
            false => Ok(()),
        }
    }

    /// Refuses what no layer of this kind can compute.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_kv_heads()),
            ("head_dim", self.head_dim()),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_positions()),
            ("sliding_window", self.sliding_window.flatten().unwrap_or(1)),
        ];
        for (field, value) in positive {
            let largest = if field == "num_hidden_layers" { 10_000 } else { i32::MAX as usize };
            if value == 0 || value > largest {
                return Err(unsupported(field, value, format!("a positive number up to {largest}")));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_kv_heads()) {
            let expected = format!("a divisor of num_attention_heads = {}", self.num_attention_heads);
            return Err(unsupported("num_key_value_heads", self.num_kv_heads(), expected));
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a multiple of num_attention_heads = {}", self.num_attention_heads);
            return Err(unsupported("hidden_size", self.hidden_size, expected));
        }
        if !self.head_dim().is_multiple_of(2) {
            return Err(unsupported("head_dim", self.head_dim(), "an even number"));
        }
        self.check_layer_types()?;
        self.rope().check()
    }

    fn check_layer_types(&self) -> Result<(), ConfigError> {
        let Some(kinds) = &self.layer_types else { return Ok(()) };
        if kinds.len() != self.num_hidden_layers {
            let expected = format!("one entry for each of {} layers", self.num_hidden_layers);
            return Err(unsupported("layer_types", format!("of length {}", kinds.len()), expected));
        }
        match kinds.iter().find(|kind| !["full_attention", "sliding_attention"].contains(&kind.as_str())) {
            Some(kind) => Err(unsupported("layer_types", kind, "full_attention or sliding_attention")),
            None => Ok(()),
        }
    }
}

/// A value that is well-formed and cannot be honoured.
pub(crate) fn unsupported(field: &'static str, found: impl ToString, expected: impl Into<String>) -> ConfigError {
    ConfigError::Unsupported { field, found: found.to_string(), expected: expected.into() }
}
