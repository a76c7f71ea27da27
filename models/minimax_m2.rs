//! MiniMax-M2: norms over all queries and all keys of a token, heads of which a part turns, and experts that are chosen by
//! corrected sigmoids.
//!
//! Reference: `transformers/models/minimax_m2/modeling_minimax_m2.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, With};
use crate::layers::{
    Correction, ExpertNames, Experts, MoeLayer, NormKind, Normed, QkNorm, RopeParameters, Routing, Scoring,
    SelfAttentionConfig,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, WeightMap};

/// The `config.json` of a MiniMax-M2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct MiniMaxM2 {
    base: DecoderConfig,
    own: MoeConfig,
    sparse: Sparse,
}

impl From<With<MoeConfig>> for MiniMaxM2 {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.max_position_embeddings.get_or_insert(196_608);
        base.head_dim.get_or_insert(128);
        (base.attention_bias, base.mlp_bias) = (false, false);
        let routing = Routing::softmax(own.num_experts_per_tok.unwrap_or(8));
        let sparse = Sparse {
            count: own.num_local_experts.or(own.num_experts).unwrap_or(256),
            routing: Routing { scoring: Scoring::Sigmoid, normed: Some(Normed::Plus(0.0)), ..routing },
            width: base.intermediate_size,
            names: ExpertNames::MIXTRAL,
            correction: Correction::Vector,
            ..Sparse::default()
        };
        Self { base, own, sparse }
    }
}

impl Architecture for MiniMaxM2 {
    const FAMILY: &'static str = "MiniMax-M2";
    const MODEL_TYPES: &'static [&'static str] = &["minimax_m2"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.rope().check()?;
        self.sparse.routing.check(self.sparse.count, ["num_local_experts", "num_experts_per_tok"])
    }

    fn rope(&self) -> RopeParameters {
        let head_dim = self.base.head_dim();
        let part = self.own.rotary_dim.map(|rotary_dim| rotary_dim as f64 / head_dim.max(1) as f64);
        let mut rope = self.base.rope().partial(head_dim, part.or(self.own.partial_rotary_factor), 1.0);
        rope.rope_theta.get_or_insert(5_000_000.0);
        rope
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> MoeLayer<B> {
        let qk_norm = Some((QkNorm::Whole(NormKind::Rms), self.base.rms_norm_eps()));
        let attention = SelfAttentionConfig { qk_norm, ..SelfAttentionConfig::new(&self.base) };
        MoeLayer::new(&self.base, &attention, self.sparse.feed_forward(&self.base, device), device)
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        Some(self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("mlp.gate.e_score_correction_bias", "block_sparse_moe.e_score_correction_bias"),
            ("mlp.gate", "block_sparse_moe.gate"),
        ])
    }
}
