//! What DeepSeek's families and their kin have in common: experts in groups, and beside them one that all tokens share.

use serde::Deserialize;

use super::{ConfigError, LatentFields, MoeConfig, Sparse, With, dense, part};
use crate::layers::{Attend, Correction, Experts, Groups, LatentAttention, MoeLayer, Normed, Routing, Scoring};
use crate::{Backend, DecoderConfig, Dims};

/// Fields that DeepSeek's configs have beside those of all families.
#[derive(Debug, Clone)]
pub(crate) struct DeepseekFields {
    pub(crate) moe: MoeConfig,
    pub(crate) latent: LatentFields,
}

impl<'de> Deserialize<'de> for DeepseekFields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = serde_json::Value::deserialize(deserializer)?;
        Ok(Self { moe: part(&config)?, latent: part(&config)? })
    }
}

/// A DeepSeek of either version.
#[derive(Debug, Clone)]
pub(crate) struct Deepseek {
    pub(crate) base: DecoderConfig,
    pub(crate) own: DeepseekFields,
    pub(crate) sparse: Sparse,
    /// Width inside the shared experts together.
    shared: usize,
}

impl Deepseek {
    /// Of these fields, with what the version makes of silence.
    pub(crate) fn new(With { mut base, own }: With<DeepseekFields>, sparse: Sparse, shared_experts: usize) -> Self {
        // Heads have a width of their own here.
        base.head_dim = Some(own.latent.attention(&base).qk_rope_head_dim);
        base.num_key_value_heads = Some(None);
        let shared = shared_width(&sparse, own.moe.n_shared_experts.unwrap_or(shared_experts));
        Self { base, own, sparse, shared }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.own.latent.check(&self.base)?;
        self.own.moe.check()?;
        self.sparse.routing.check(self.sparse.count, ["n_routed_experts", "num_experts_per_tok"])
    }

    pub(crate) fn dims(&self) -> Dims {
        let dims = self.own.latent.dims(&self.base);
        Dims { intermediate_size: dims.intermediate_size.max(self.shared), ..dims }
    }

    pub(crate) fn is_sparse(&self, index: usize, dense_layers: usize) -> bool {
        index >= self.own.moe.first_k_dense_replace.unwrap_or(dense_layers)
    }

    pub(crate) fn layer<B: Backend>(&self, is_sparse: bool, device: &B::Device) -> MoeLayer<B> {
        let attention = LatentAttention::new(&self.own.latent.attention(&self.base), device);
        let mlp = match is_sparse {
            true => self.sparse.feed_forward_beside(self.shared, &self.base, device),
            false => dense(&self.base, device),
        };
        MoeLayer::with_attention(&self.base, Attend::Latent(attention), mlp, device)
    }

    pub(crate) fn experts(&self) -> Experts {
        self.sparse.experts(&self.base)
    }
}

/// Experts as DeepSeek-V3 and those that followed it choose them: by sigmoids, corrected for the choice, from the groups
/// whose best two are best.
pub(crate) fn v3_experts(own: &MoeConfig, defaults: &V3Defaults) -> Sparse {
    let normed = own.norm_topk_prob.unwrap_or(true).then_some(Normed::Plus(1e-20));
    let groups = Groups {
        count: own.n_group.unwrap_or(defaults.n_group),
        top_k: own.topk_group.unwrap_or(defaults.topk_group),
        best: 2,
    };
    let routing = Routing {
        top_k: own.num_experts_per_tok.unwrap_or(defaults.num_experts_per_tok),
        scoring: Scoring::Sigmoid,
        groups: Some(groups),
        normed,
        scale: own.routed_scaling_factor.unwrap_or(defaults.routed_scaling_factor),
        weighs_input: false,
    };
    Sparse {
        count: own.n_routed_experts.or(own.num_local_experts).unwrap_or(defaults.n_routed_experts),
        routing,
        width: own.moe_intermediate_size.unwrap_or(defaults.moe_intermediate_size),
        correction: Correction::Vector,
        ..Sparse::default()
    }
}

/// Width inside so many experts that all tokens share, which are one MLP.
pub(crate) fn shared_width(sparse: &Sparse, experts: usize) -> usize {
    sparse.width.saturating_mul(experts).min(1 << 40)
}

/// What silence means to one of these families.
pub(crate) struct V3Defaults {
    pub(crate) n_group: usize,
    pub(crate) topk_group: usize,
    pub(crate) num_experts_per_tok: usize,
    pub(crate) routed_scaling_factor: f32,
    pub(crate) n_routed_experts: usize,
    pub(crate) moe_intermediate_size: usize,
}
