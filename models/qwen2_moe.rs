//! Qwen1.5-MoE and Qwen2-MoE: Qwen2 with a mixture of experts in the place of some MLPs, and beside it an expert that
//! all tokens share, weighed by a gate of its own.
//!
//! Reference: `transformers/models/qwen2_moe/modeling_qwen2_moe.py`.

use serde::Deserialize;

use crate::config::{MoeConfig, Sparse, With, dense};
use crate::layers::{Experts, FeedForward, GatedMlp, Linear, MoeLayer, Normed, Routing, SelfAttentionConfig};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims, WeightMap};

/// The `config.json` of a Qwen2-MoE.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<MoeConfig>")]
pub struct Qwen2Moe {
    base: DecoderConfig,
    own: MoeConfig,
    sparse: Sparse,
    /// Width inside the shared expert.
    shared: usize,
}

impl From<With<MoeConfig>> for Qwen2Moe {
    fn from(With { mut base, own }: With<MoeConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(16));
        base.max_position_embeddings.get_or_insert(32_768);
        base.sliding_window.get_or_insert(Some(4096));
        base.mlp_bias = false;
        let normed = (own.norm_topk_prob == Some(true)).then_some(Normed::Plus(0.0));
        let sparse = Sparse {
            count: own.num_experts.or(own.num_local_experts).unwrap_or(60),
            routing: Routing { normed, ..Routing::softmax(own.num_experts_per_tok.unwrap_or(4)) },
            width: own.moe_intermediate_size.unwrap_or(1408),
            ..Sparse::default()
        };
        let shared = own.shared_expert_intermediate_size.unwrap_or(5632);
        Self { base, own, sparse, shared }
    }
}

impl Architecture for Qwen2Moe {
    const FAMILY: &'static str = "Qwen1.5-MoE, Qwen2-MoE";
    const MODEL_TYPES: &'static [&'static str] = &["qwen2_moe"];
    type Layer<B: Backend> = MoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.base.check_qwen_window()?;
        self.own.check()?;
        match self.sparse.count {
            0 => Ok(()),
            count => self.sparse.routing.check(count, ["num_experts", "num_experts_per_tok"]),
        }
    }

    fn dims(&self) -> Dims {
        let dims = self.base.dims();
        Dims { intermediate_size: dims.intermediate_size.max(self.shared), ..dims }
    }

    /// Where the config does not name the kinds of layers, every other one below `max_window_layers`, unlike in Qwen2.
    fn sliding_window(&self, index: usize) -> Option<usize> {
        let window = self.base.sliding_window.flatten().filter(|_| self.base.use_sliding_window == Some(true))?;
        let sliding = match &self.base.layer_types {
            Some(kinds) => kinds[index] == "sliding_attention",
            None => index.is_multiple_of(2) && index < self.base.max_window_layers.unwrap_or(28),
        };
        sliding.then_some(window)
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MoeLayer<B> {
        let base = SelfAttentionConfig::new(&self.base);
        let (sliding_window, qkv_bias) = (self.sliding_window(index), self.own.qkv_bias.unwrap_or(true));
        let attention = SelfAttentionConfig { sliding_window, qkv_bias, o_bias: false, ..base };
        let mlp = match self.experts(index) {
            Some(_) => {
                let shared = GatedMlp::with_width(&self.base, self.shared, device);
                let gate = Linear::new(self.base.hidden_size, 1, false, device);
                FeedForward::Moe(self.sparse.block(&self.base, device).with_shared(shared, Some(gate)))
            }
            None => dense(&self.base, device),
        };
        MoeLayer::new(&self.base, &attention, mlp, device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        let is_sparse = self.sparse.count > 0 && self.own.qwen_is_sparse(index);
        is_sparse.then(|| self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[("mlp.shared_experts", "mlp.shared_expert")])
    }
}
