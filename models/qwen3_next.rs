//! Qwen3-Next: Qwen2-MoE, in which three layers of four have a gated delta net in the place of attention, and the rest
//! attention with norms of queries and keys, a gate, and a rotation of a quarter of each head.
//!
//! Reference: `transformers/models/qwen3_next/modeling_qwen3_next.py`.

use serde::Deserialize;

use crate::config::{Both, DeltaConfig, MoeConfig, Sparse, With, dense, experts_beside};
use crate::layers::{Experts, MixedLayer, Normed, Routing, StateShape};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims, Names, WeightMap};

/// The `config.json` of a Qwen3-Next.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Both<MoeConfig, DeltaConfig>>")]
pub struct Qwen3Next {
    base: DecoderConfig,
    own: MoeConfig,
    delta: DeltaConfig,
    sparse: Sparse,
    /// Width inside the shared expert.
    shared: usize,
}

impl From<With<Both<MoeConfig, DeltaConfig>>> for Qwen3Next {
    fn from(With { mut base, own: Both(own, delta) }: With<Both<MoeConfig, DeltaConfig>>) -> Self {
        DeltaConfig::fill_in(&mut base, 2);
        if base.intermediate_size == 0 {
            base.intermediate_size = 5632;
        }
        let normed = own.norm_topk_prob.unwrap_or(true).then_some(Normed::Plus(0.0));
        let sparse = Sparse {
            count: own.num_experts.or(own.num_local_experts).unwrap_or(512),
            routing: Routing { normed, ..Routing::softmax(own.num_experts_per_tok.unwrap_or(10)) },
            width: own.moe_intermediate_size.unwrap_or(512),
            ..Sparse::default()
        };
        let shared = own.shared_expert_intermediate_size.unwrap_or(512);
        Self { base, own, delta, sparse, shared }
    }
}

impl Architecture for Qwen3Next {
    const FAMILY: &'static str = "Qwen3-Next";
    const MODEL_TYPES: &'static [&'static str] = &["qwen3_next"];
    type Layer<B: Backend> = MixedLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.own.check()?;
        self.delta.check(&self.base)?;
        match self.sparse.count {
            0 => Ok(()),
            count => self.sparse.routing.check(count, ["num_experts", "num_experts_per_tok"]),
        }
    }

    fn dims(&self) -> Dims {
        let dims = self.base.dims();
        Dims { intermediate_size: dims.intermediate_size.max(self.shared), ..dims }
    }

    fn state(&self, index: usize) -> Option<StateShape> {
        self.delta.state(&self.base, index)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MixedLayer<B> {
        let mlp = match self.experts(index) {
            Some(_) => experts_beside(&self.sparse, self.shared, &self.base, device),
            None => dense(&self.base, device),
        };
        self.delta.layer(&self.base, index, true, mlp, device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        let is_sparse = self.sparse.count > 0 && self.own.qwen_is_sparse(index);
        is_sparse.then(|| self.sparse.experts(&self.base))
    }

    fn names(&self) -> Names {
        DeltaConfig::names()
    }

    fn weight_map(&self) -> WeightMap {
        DeltaConfig::weight_map()
    }
}
