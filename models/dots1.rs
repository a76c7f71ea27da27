//! dots.llm1: Qwen3's attention, and experts that are chosen as DeepSeek-V3 does.
//!
//! Reference: `transformers/models/dots1/modeling_dots1.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, V3Defaults, With, dense, shared_width, v3_experts};
use crate::layers::{Experts, MoeLayer, Normed, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims};

/// The `config.json` of a dots.llm1.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct Dots1 {
    base: DecoderConfig,
    own: MoeConfig,
    sparse: Sparse,
    /// Width inside the shared experts together.
    shared: usize,
}

impl From<With<MoeConfig>> for Dots1 {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(32));
        base.max_position_embeddings.get_or_insert(2048);
        base.sliding_window.get_or_insert(Some(4096));
        base.mlp_bias = false;
        let defaults = V3Defaults {
            n_group: 1,
            topk_group: 1,
            num_experts_per_tok: 0,
            routed_scaling_factor: 1.0,
            n_routed_experts: 0,
            moe_intermediate_size: 1408,
        };
        let mut sparse = v3_experts(&own, &defaults);
        sparse.routing.normed = (own.norm_topk_prob == Some(true)).then_some(Normed::Plus(1e-20));
        let shared = shared_width(&sparse, own.n_shared_experts.unwrap_or(0));
        Self { base, own, sparse, shared }
    }
}

impl Architecture for Dots1 {
    const FAMILY: &'static str = "dots.llm1";
    const MODEL_TYPES: &'static [&'static str] = &["dots1"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.own.check()?;
        self.sparse.routing.check(self.sparse.count, ["n_routed_experts", "num_experts_per_tok"])
    }

    fn dims(&self) -> Dims {
        let dims = self.base.dims();
        Dims { intermediate_size: dims.intermediate_size.max(self.shared), ..dims }
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        let sliding = match &self.base.layer_types {
            Some(kinds) => kinds[index] == "sliding_attention",
            None => index >= self.base.max_window_layers.unwrap_or(62),
        };
        self.base.sliding_window.flatten().filter(|_| sliding)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        let base = SelfAttentionConfig::new(&self.base);
        let (sliding_window, qk_norm_eps) = (self.sliding_window(index), Some(self.base.rms_norm_eps()));
        let attention = SelfAttentionConfig { sliding_window, qk_norm_eps, ..base };
        let mlp = match self.experts(index) {
            Some(_) => self.sparse.feed_forward_beside(self.shared, &self.base, device),
            None => dense(&self.base, device),
        };
        MoeLayer::new(&self.base, &attention, mlp, device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        (index >= self.own.first_k_dense_replace.unwrap_or(0)).then(|| self.sparse.experts(&self.base))
    }
}
