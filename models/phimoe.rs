//! Phi-3.5-MoE: Mixtral with layer norms, biases, and experts that are weighed against those alone that come close.
//!
//! Reference: `transformers/models/phimoe/modeling_phimoe.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, With, unsupported};
use crate::layers::{ExpertNames, Experts, MoeLayer, NormKind, RopeParameters, Routing, Scoring, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, WeightMap};

/// The `config.json` of a Phi-3.5-MoE.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct PhiMoe {
    base: DecoderConfig,
    sparse: Sparse,
}

/// Experts that a token chooses, whatever the config says.
const CHOSEN: usize = 2;

impl From<With<MoeConfig>> for PhiMoe {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(131_072);
        base.mlp_bias = false;
        base.layer_norm_eps = Some(base.rms_norm_eps());
        base.style.norm = NormKind::LayerBias;
        base.style.head_bias = own.lm_head_bias == Some(true);
        let jitter = own.router_jitter_noise.unwrap_or(0.01);
        let sparse = Sparse {
            count: own.num_local_experts.or(own.num_experts).unwrap_or(16),
            routing: Routing { scoring: Scoring::SparseMixer { jitter }, ..Routing::softmax(CHOSEN) },
            width: base.intermediate_size,
            names: ExpertNames::MIXTRAL,
            ..Sparse::default()
        };
        Self { base, sparse }
    }
}

impl Architecture for PhiMoe {
    const FAMILY: &'static str = "Phi-3.5-MoE";
    const MODEL_TYPES: &'static [&'static str] = &["phimoe"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        let rope = self.base.rope();
        if rope.short_mscale != rope.long_mscale {
            let told = |mscale: Option<f64>| mscale.map_or_else(|| "missing".to_owned(), |mscale| mscale.to_string());
            let expected = format!("the same as short_mscale, which is {}", told(rope.short_mscale));
            return Err(unsupported("rope_scaling.long_mscale", told(rope.long_mscale), expected));
        }
        self.sparse.routing.check(self.sparse.count, ["num_local_experts", "num_experts_per_tok"])
    }

    /// The reference divides by the factors for short sequences, whatever the length.
    fn rope(&self) -> RopeParameters {
        let mut rope = self.base.rope().short();
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
