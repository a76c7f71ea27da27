use serde::Deserialize;

use super::{ConfigError, unsupported};

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
