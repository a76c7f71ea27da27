//! Qwen3-MoE: Qwen3 with a mixture of experts in the place of some MLPs.
//!
//! Reference: `transformers/models/qwen3_moe/modeling_qwen3_moe.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, With, dense};
use crate::layers::{Experts, MoeLayer, Normed, Routing, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig};

/// The `config.json` of a Qwen3-MoE.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct Qwen3Moe {
    base: DecoderConfig,
    own: MoeConfig,
    sparse: Sparse,
}

impl From<With<MoeConfig>> for Qwen3Moe {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(4));
        base.max_position_embeddings.get_or_insert(32_768);
        base.sliding_window.get_or_insert(Some(4096));
        base.mlp_bias = false;
        let normed = (own.norm_topk_prob == Some(true)).then_some(Normed::Plus(0.0));
        let sparse = Sparse {
            count: own.num_experts.or(own.num_local_experts).unwrap_or(128),
            routing: Routing { normed, ..Routing::softmax(own.num_experts_per_tok.unwrap_or(8)) },
            width: own.moe_intermediate_size.unwrap_or(768),
            ..Sparse::default()
        };
        Self { base, own, sparse }
    }
}

impl Architecture for Qwen3Moe {
    const FAMILY: &'static str = "Qwen3-MoE";
    const MODEL_TYPES: &'static [&'static str] = &["qwen3_moe"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.own.check()?;
        match self.sparse.count {
            0 => Ok(()),
            count => self.sparse.routing.check(count, ["num_experts", "num_experts_per_tok"]),
        }
    }

    /// All layers see the same.
    fn sliding_window(&self, _index: usize) -> Option<usize> {
        self.base.sliding_window.flatten().filter(|_| self.base.use_sliding_window == Some(true))
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        let base = SelfAttentionConfig::new(&self.base);
        let (sliding_window, qk_norm_eps) = (self.sliding_window(index), Some(self.base.rms_norm_eps()));
        let attention = SelfAttentionConfig { sliding_window, qk_norm_eps, ..base };
        let mlp = match self.experts(index) {
            Some(_) => self.sparse.feed_forward(&self.base, device),
            None => dense(&self.base, device),
        };
        MoeLayer::new(&self.base, &attention, mlp, device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        let is_sparse = self.sparse.count > 0 && self.own.qwen_is_sparse(index);
        is_sparse.then(|| self.sparse.experts(&self.base))
    }
}
