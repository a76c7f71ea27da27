//! Mixtral: Mistral with a mixture of experts in the place of every MLP.
//!
//! Reference: `transformers/models/mixtral/modeling_mixtral.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, With};
use crate::layers::{ExpertNames, Experts, MoeLayer, Normed, RopeParameters, Routing, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, WeightMap};

/// The `config.json` of a Mixtral.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct Mixtral {
    base: DecoderConfig,
    sparse: Sparse,
}

impl From<With<MoeConfig>> for Mixtral {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(131_072);
        (base.attention_bias, base.mlp_bias) = (false, false);
        let normed = Some(Normed::Plus(0.0));
        let sparse = Sparse {
            count: own.num_local_experts.unwrap_or(8),
            routing: Routing { normed, ..Routing::softmax(own.num_experts_per_tok.unwrap_or(2)) },
            width: base.intermediate_size,
            names: ExpertNames::MIXTRAL,
            ..Sparse::default()
        };
        Self { base, sparse }
    }
}

impl Architecture for Mixtral {
    const FAMILY: &'static str = "Mixtral";
    const MODEL_TYPES: &'static [&'static str] = &["mixtral"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.sparse.routing.check(self.sparse.count, ["num_local_experts", "num_experts_per_tok"])
    }

    fn rope(&self) -> RopeParameters {
        let mut rope = self.base.rope();
        rope.rope_theta.get_or_insert(1_000_000.0);
        rope
    }

    fn sliding_window(&self, _index: usize) -> Option<usize> {
        self.base.sliding_window.flatten()
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        let sliding_window = self.sliding_window(index);
        let attention = SelfAttentionConfig { sliding_window, ..SelfAttentionConfig::new(&self.base) };
        MoeLayer::new(&self.base, &attention, self.sparse.feed_forward(&self.base, device), device)
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        Some(self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[("mlp.gate", "block_sparse_moe.gate")])
    }
}
