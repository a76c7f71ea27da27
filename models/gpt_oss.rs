//! gpt-oss: every other layer sees a sliding window, heads have sinks, and experts cut off what passes their gate.
//!
//! Of dense weights; the hub's own checkpoints have experts in MXFP4.
//!
//! Reference: `transformers/models/gpt_oss/modeling_gpt_oss.py`.

use serde::Deserialize;
use serde_json::json;

use crate::config::{MoeConfig, Sparse, With, unsupported};
use crate::layers::{ExpertKind, Experts, MoeLayer, RopeParameters, Routing, Scoring, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, WeightMap};

/// The `config.json` of a gpt-oss.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct GptOss {
    base: DecoderConfig,
    sparse: Sparse,
    limit: f32,
}

impl From<With<MoeConfig>> for GptOss {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(131_072);
        base.sliding_window.get_or_insert(Some(128));
        base.head_dim.get_or_insert(64);
        base.attention_bias = own.attention_bias.unwrap_or(true);
        let (alpha, limit) = (own.swiglu_alpha.unwrap_or(1.702), own.swiglu_limit.unwrap_or(7.0));
        let routing = Routing::softmax(own.num_experts_per_tok.unwrap_or(4));
        let sparse = Sparse {
            count: own.num_local_experts.or(own.num_experts).unwrap_or(128),
            routing: Routing { scoring: Scoring::SoftmaxOfChosen, ..routing },
            width: base.intermediate_size,
            kind: Some(ExpertKind::Clamped { alpha, limit }),
            router_bias: true,
            ..Sparse::default()
        };
        Self { base, sparse, limit }
    }
}

impl Architecture for GptOss {
    const FAMILY: &'static str = "gpt-oss (dense weights)";
    const MODEL_TYPES: &'static [&'static str] = &["gpt_oss"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        if self.limit <= 0.0 {
            return Err(unsupported("swiglu_limit", self.limit, "a positive number"));
        }
        self.sparse.routing.check(self.sparse.count, ["num_local_experts", "num_experts_per_tok"])
    }

    fn rope(&self) -> RopeParameters {
        let mut rope = match self.base.has_rope() {
            true => self.base.rope(),
            false => {
                let yarn = json!({
                    "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
                    "original_max_position_embeddings": 4096,
                });
                let mut yarn = RopeParameters::deserialize(yarn).unwrap_or_default();
                yarn.rope_theta = self.base.rope().rope_theta;
                yarn
            }
        };
        rope.max_position_embeddings = self.base.rope().max_position_embeddings;
        rope.rope_theta.get_or_insert(150_000.0);
        rope
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        let sliding = match &self.base.layer_types {
            Some(kinds) => kinds[index] == "sliding_attention",
            None => index.is_multiple_of(2),
        };
        self.base.sliding_window.flatten().filter(|_| sliding)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        let base = SelfAttentionConfig::new(&self.base);
        let attention = SelfAttentionConfig { sliding_window: self.sliding_window(index), sinks: true, ..base };
        MoeLayer::new(&self.base, &attention, self.sparse.feed_forward(&self.base, device), device)
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        Some(self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[("mlp.gate", "mlp.router")])
    }
}
