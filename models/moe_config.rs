//! What the `config.json` files of families with experts have in common, beside what all families have.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use crate::config::{ConfigError, unsupported};
use crate::layers::{Correction, ExpertKind, ExpertNames, Experts, FeedForward, GatedMlp, Moe, Router, Routing};
use crate::registry::in_jsons_words;
use crate::{Backend, DecoderConfig};

/// A `config.json` read as what all families have and what some have beside it.
#[derive(Debug, Clone)]
pub(crate) struct With<T> {
    pub(crate) base: DecoderConfig,
    pub(crate) own: T,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for With<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = serde_json::Value::deserialize(deserializer)?;
        Ok(Self { base: part(&config)?, own: part(&config)? })
    }
}

/// Two groups of fields that a config is read as.
#[derive(Debug, Clone)]
pub(crate) struct Both<T, U>(pub(crate) T, pub(crate) U);

impl<'de, T: DeserializeOwned, U: DeserializeOwned> Deserialize<'de> for Both<T, U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(part(&config)?, part(&config)?))
    }
}

/// Reads some fields of a config; an error says which it is about.
pub(crate) fn part<T: DeserializeOwned, E: Error>(config: &serde_json::Value) -> Result<T, E> {
    serde_path_to_error::deserialize(config).map_err(|error| match error.path().to_string().as_str() {
        "." => E::custom(in_jsons_words(error.inner().to_string())),
        field => {
            let reason = in_jsons_words(error.inner().to_string());
            E::custom(ConfigError::Field { field: field.to_owned(), reason })
        }
    })
}

/// Fields that describe experts; each family reads those that it has.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct MoeConfig {
    pub(crate) num_experts: Option<usize>,
    pub(crate) num_local_experts: Option<usize>,
    pub(crate) n_routed_experts: Option<usize>,
    pub(crate) num_experts_per_tok: Option<usize>,
    pub(crate) moe_intermediate_size: Option<usize>,
    pub(crate) shared_expert_intermediate_size: Option<usize>,
    pub(crate) n_shared_experts: Option<usize>,
    pub(crate) norm_topk_prob: Option<bool>,
    pub(crate) decoder_sparse_step: Option<usize>,
    pub(crate) mlp_only_layers: Option<Vec<usize>>,
    pub(crate) first_k_dense_replace: Option<usize>,
    pub(crate) n_group: Option<usize>,
    pub(crate) topk_group: Option<usize>,
    pub(crate) topk_method: Option<String>,
    pub(crate) routed_scaling_factor: Option<f32>,
    pub(crate) qkv_bias: Option<bool>,
    pub(crate) attention_bias: Option<bool>,
    pub(crate) num_nextn_predict_layers: Option<usize>,
    pub(crate) num_mtp_layers: Option<usize>,
    pub(crate) swiglu_alpha: Option<f32>,
    pub(crate) embedding_multiplier: Option<f64>,
    pub(crate) attention_multiplier: Option<f64>,
    pub(crate) residual_multiplier: Option<f64>,
    pub(crate) logits_scaling: Option<f64>,
    pub(crate) use_qk_norm: Option<bool>,
    pub(crate) lm_head_bias: Option<bool>,
    pub(crate) router_jitter_noise: Option<f32>,
    pub(crate) partial_rotary_factor: Option<f64>,
    pub(crate) rotary_dim: Option<usize>,
    pub(crate) use_bias: Option<bool>,
    pub(crate) moe_num_experts: Option<usize>,
    pub(crate) moe_k: Option<usize>,
    pub(crate) moe_num_shared_experts: Option<usize>,
    pub(crate) moe_layer_start_index: Option<usize>,
    pub(crate) moe_layer_end_index: Option<i64>,
    pub(crate) moe_layer_interval: Option<usize>,
    pub(crate) moe_norm_min: Option<f32>,
    pub(crate) swiglu_limit: Option<f32>,
}

impl MoeConfig {
    /// Whether layer `index` has experts by Qwen's rule: every `decoder_sparse_step`-th, but for `mlp_only_layers`.
    pub(crate) fn qwen_is_sparse(&self, index: usize) -> bool {
        let only_mlp = self.mlp_only_layers.iter().flatten().any(|layer| *layer == index);
        !only_mlp && (index + 1).is_multiple_of(self.decoder_sparse_step.unwrap_or(1).max(1))
    }

    /// Layers behind the last that predict further tokens.
    pub(crate) fn predicting_layers(&self) -> usize {
        self.num_nextn_predict_layers.or(self.num_mtp_layers).unwrap_or(1)
    }

    /// Refuses widths and steps that are nothing or too much.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("shared_expert_intermediate_size", self.shared_expert_intermediate_size),
            ("decoder_sparse_step", self.decoder_sparse_step),
        ];
        let wrong = |(field, value): (_, Option<usize>)| {
            Some((field, value?)).filter(|(_, value)| *value == 0 || *value > i32::MAX as usize)
        };
        match positive.into_iter().find_map(wrong) {
            Some((field, value)) => Err(unsupported(field, value, format!("a positive number up to {}", i32::MAX))),
            None => Ok(()),
        }
    }
}

/// The experts of a layer: how many, how chosen, how wide, how spelled.
#[derive(Debug, Clone)]
pub(crate) struct Sparse {
    pub(crate) count: usize,
    pub(crate) routing: Routing,
    /// Width inside an expert.
    pub(crate) width: usize,
    pub(crate) names: ExpertNames,
    /// What an expert computes; a gated MLP of the config's own activation if it does not say.
    pub(crate) kind: Option<ExpertKind>,
    /// Whether the router has a bias.
    pub(crate) router_bias: bool,
    /// What corrects its scores.
    pub(crate) correction: Correction,
}

impl Default for Sparse {
    fn default() -> Self {
        Self {
            count: 0,
            routing: Routing::softmax(0),
            width: 0,
            names: ExpertNames::USUAL,
            kind: None,
            router_bias: false,
            correction: Correction::None,
        }
    }
}

impl Sparse {
    pub(crate) fn experts(&self, config: &DecoderConfig) -> Experts {
        Experts {
            count: self.count,
            chosen: self.routing.top_k,
            hidden_size: config.hidden_size,
            intermediate_size: self.width,
            kind: self.kind.unwrap_or(ExpertKind::Gated(config.hidden_act)),
            names: self.names,
        }
    }

    /// The router, its parameters not yet loaded.
    pub(crate) fn block<B: Backend>(&self, config: &DecoderConfig, device: &B::Device) -> Moe<B> {
        let shape = [self.count, config.hidden_size];
        let router = Router::new(shape, self.router_bias, self.correction, device);
        Moe::new(router, self.routing.clone())
    }

    /// The same in the place of an MLP.
    pub(crate) fn feed_forward<B: Backend>(&self, config: &DecoderConfig, device: &B::Device) -> FeedForward<B> {
        FeedForward::Moe(self.block(config, device))
    }

    /// The same beside an MLP of the width `shared` that works on all tokens, if that is wider than nothing.
    pub(crate) fn feed_forward_beside<B: Backend>(
        &self,
        shared: usize,
        config: &DecoderConfig,
        device: &B::Device,
    ) -> FeedForward<B> {
        let block = self.block(config, device);
        FeedForward::Moe(match shared {
            0 => block,
            shared => block.with_shared(GatedMlp::with_width(config, shared, device), None),
        })
    }
}

/// An MLP in the place where other layers have experts.
pub(crate) fn dense<B: Backend>(config: &DecoderConfig, device: &B::Device) -> FeedForward<B> {
    FeedForward::Dense(GatedMlp::new(config, device))
}
