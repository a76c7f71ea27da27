//! Qwen3.5 with experts, its text part: Qwen3-Next with experts in each layer and four matrices in each delta net.
//!
//! Reference: `transformers/models/qwen3_5_moe/modeling_qwen3_5_moe.py`.

use serde::Deserialize;

use crate::config::{Both, DeltaConfig, MoeConfig, Sparse, With, experts_beside};
use crate::layers::{Experts, MixedLayer, Normed, Routing, StateShape};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Qwen3.5-MoE, or its `text_config`.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Both<MoeConfig, DeltaConfig>>")]
pub struct Qwen35Moe {
    base: DecoderConfig,
    own: MoeConfig,
    delta: DeltaConfig,
    sparse: Sparse,
}

impl From<With<Both<MoeConfig, DeltaConfig>>> for Qwen35Moe {
    fn from(With { mut base, own: Both(own, delta) }: With<Both<MoeConfig, DeltaConfig>>) -> Self {
        DeltaConfig::fill_in(&mut base, 2);
        // No layer has another MLP than the shared expert.
        base.intermediate_size = own.shared_expert_intermediate_size.unwrap_or(512);
        let normed = Some(Normed::Plus(0.0));
        let sparse = Sparse {
            count: own.num_experts.or(own.num_local_experts).unwrap_or(256),
            routing: Routing { normed, ..Routing::softmax(own.num_experts_per_tok.unwrap_or(8)) },
            width: own.moe_intermediate_size.unwrap_or(512),
            ..Sparse::default()
        };
        Self { base, own, delta, sparse }
    }
}

impl Architecture for Qwen35Moe {
    const FAMILY: &'static str = "Qwen3.5 with experts (text)";
    const MODEL_TYPES: &'static [&'static str] = &["qwen3_5_moe_text"];
    type Layer<B: Backend> = MixedLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.own.check()?;
        self.base.check()?;
        self.delta.check(&self.base)?;
        self.sparse.routing.check(self.sparse.count, ["num_experts", "num_experts_per_tok"])
    }

    fn state(&self, index: usize) -> Option<StateShape> {
        self.delta.state(&self.base, index)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MixedLayer<B> {
        let mlp = experts_beside(&self.sparse, self.base.intermediate_size, &self.base, device);
        self.delta.layer(&self.base, index, false, mlp, device)
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        Some(self.sparse.experts(&self.base))
    }

    fn names(&self) -> Names {
        DeltaConfig::names()
    }

    fn weight_map(&self) -> WeightMap {
        DeltaConfig::weight_map()
    }
}
