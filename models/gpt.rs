//! What the configs of GPT-2, GPT-J and StarCoder 1 have in common.

use serde::Deserialize;

use crate::config::unsupported;
use crate::layers::NormKind;
use crate::{Activation, ConfigError, DecoderConfig};

/// The fields of a GPT's `config.json`.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "the names are those of config.json")]
pub struct GptConfig {
    pub n_embd: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_inner: Option<usize>,
    pub n_positions: Option<usize>,
    pub vocab_size: usize,
    pub activation_function: Option<Activation>,
    pub layer_norm_epsilon: Option<f64>,
    pub scale_attn_weights: Option<bool>,
    pub scale_attn_by_inverse_layer_idx: Option<bool>,
    pub add_cross_attention: Option<bool>,
    pub multi_query: Option<bool>,
    pub rotary_dim: Option<usize>,
}

impl GptConfig {
    /// The same in Llama's words: LayerNorms, an MLP without a gate, biases everywhere.
    pub(crate) fn decoder(&self, max_positions: usize) -> DecoderConfig {
        let mut config = DecoderConfig {
            hidden_size: self.n_embd,
            intermediate_size: self.n_inner.unwrap_or(self.n_embd.saturating_mul(4)),
            num_hidden_layers: self.n_layer,
            num_attention_heads: self.n_head,
            hidden_act: self.activation_function.unwrap_or(Activation::GeluPytorchTanh),
            layer_norm_eps: self.layer_norm_epsilon,
            vocab_size: self.vocab_size,
            max_position_embeddings: self.n_positions.or(Some(max_positions)),
            attention_bias: true,
            mlp_bias: true,
            ..DecoderConfig::default()
        };
        (config.style.norm, config.style.gated) = (NormKind::LayerBias, false);
        config
    }

    /// Refuses a decoder that also attends to an encoder.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.add_cross_attention {
            Some(true) => Err(unsupported("add_cross_attention", true, "false: there is no encoder")),
            _ => Ok(()),
        }
    }

    /// What scores of layer `index` are multiplied by.
    pub(crate) fn scale(&self, index: usize, head_dim: usize) -> f64 {
        let scale = if self.scale_attn_weights == Some(false) { 1.0 } else { (head_dim as f64).powf(-0.5) };
        let by_layer = self.scale_attn_by_inverse_layer_idx == Some(true);
        if by_layer { scale / (index + 1) as f64 } else { scale }
    }
}
