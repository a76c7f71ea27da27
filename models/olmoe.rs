//! OLMoE: Llama with norms over all queries and all keys of a token, and a mixture of experts in the place of every MLP.
//!
//! Reference: `transformers/models/olmoe/modeling_olmoe.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, With};
use crate::layers::{Experts, MoeLayer, NormKind, Normed, QkNorm, Routing, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig};

/// The `config.json` of an OLMoE.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct Olmoe {
    base: DecoderConfig,
    sparse: Sparse,
}

impl From<With<MoeConfig>> for Olmoe {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(4096);
        base.mlp_bias = false;
        let normed = (own.norm_topk_prob == Some(true)).then_some(Normed::Plus(0.0));
        let sparse = Sparse {
            count: own.num_experts.or(own.num_local_experts).unwrap_or(64),
            routing: Routing { normed, ..Routing::softmax(own.num_experts_per_tok.unwrap_or(8)) },
            width: base.intermediate_size,
            ..Sparse::default()
        };
        Self { base, sparse }
    }
}

impl Architecture for Olmoe {
    const FAMILY: &'static str = "OLMoE";
    const MODEL_TYPES: &'static [&'static str] = &["olmoe"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.sparse.routing.check(self.sparse.count, ["num_experts", "num_experts_per_tok"])
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> MoeLayer<B> {
        let qk_norm = Some((QkNorm::Whole(NormKind::Rms), self.base.rms_norm_eps()));
        let attention = SelfAttentionConfig { qk_norm, ..SelfAttentionConfig::new(&self.base) };
        MoeLayer::new(&self.base, &attention, self.sparse.feed_forward(&self.base, device), device)
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        Some(self.sparse.experts(&self.base))
    }
}
