//! GLM-4.5, 4.6 and their Air: only a part of each head turns, and experts are chosen as DeepSeek-V3 does.
//!
//! Reference: `transformers/models/glm4_moe/modeling_glm4_moe.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, V3Defaults, With, dense, shared_width, v3_experts};
use crate::layers::{Experts, MoeLayer, RopeParameters, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims};

/// The `config.json` of a GLM-4.5.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct Glm4Moe {
    base: DecoderConfig,
    own: MoeConfig,
    sparse: Sparse,
    /// Width inside the shared experts together.
    shared: usize,
}

impl From<With<MoeConfig>> for Glm4Moe {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(131_072);
        base.mlp_bias = false;
        let defaults = V3Defaults {
            n_group: 1,
            topk_group: 1,
            num_experts_per_tok: 8,
            routed_scaling_factor: 1.0,
            n_routed_experts: 128,
            moe_intermediate_size: 1408,
        };
        let sparse = v3_experts(&own, &defaults);
        let shared = shared_width(&sparse, own.n_shared_experts.unwrap_or(1));
        Self { base, own, sparse, shared }
    }
}

impl Architecture for Glm4Moe {
    const FAMILY: &'static str = "GLM-4.5, GLM-4.6";
    const MODEL_TYPES: &'static [&'static str] = &["glm4_moe"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.own.check()?;
        self.rope().check()?;
        self.sparse.routing.check(self.sparse.count, ["n_routed_experts", "num_experts_per_tok"])
    }

    fn dims(&self) -> Dims {
        let dims = self.base.dims();
        Dims { intermediate_size: dims.intermediate_size.max(self.shared), ..dims }
    }

    fn rope(&self) -> RopeParameters {
        self.base.rope().partial(self.base.head_dim(), self.own.partial_rotary_factor, 0.5)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        let base = SelfAttentionConfig::new(&self.base);
        let qk_norm_eps = (self.own.use_qk_norm == Some(true)).then_some(self.base.rms_norm_eps());
        let attention = SelfAttentionConfig { qk_norm_eps, o_bias: false, ..base };
        let mlp = match self.experts(index) {
            Some(_) => self.sparse.feed_forward_beside(self.shared, &self.base, device),
            None => dense(&self.base, device),
        };
        MoeLayer::new(&self.base, &attention, mlp, device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        (index >= self.own.first_k_dense_replace.unwrap_or(1)).then(|| self.sparse.experts(&self.base))
    }

    /// Layers that predict further tokens, behind the last.
    fn unused_layers(&self) -> usize {
        self.own.predicting_layers()
    }
}
