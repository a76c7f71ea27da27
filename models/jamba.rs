//! Jamba: most layers have a state space in the place of attention, every other layer experts in the place of an MLP, and
//! none knows positions.
//!
//! Reference: `transformers/models/jamba/modeling_jamba.py`.

use serde::Deserialize;

use crate::config::{Both, MoeConfig, Sparse, Width, With, check_sizes, dense};
use crate::layers::{
    Attend, ExpertNames, Experts, Mamba, MambaConfig, MixedLayer, Mixer, Routing, SelfAttention, SelfAttentionConfig,
    StateShape,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of a Jamba.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Both<MoeConfig, JambaFields>>")]
pub struct Jamba {
    base: DecoderConfig,
    own: JambaFields,
    sparse: Sparse,
}

/// Fields that other families do not have.
#[derive(Debug, Clone, Deserialize)]
struct JambaFields {
    expert_layer_period: Option<usize>,
    expert_layer_offset: Option<usize>,
    attn_layer_period: Option<usize>,
    attn_layer_offset: Option<usize>,
    mamba_d_state: Option<usize>,
    mamba_d_conv: Option<usize>,
    mamba_expand: Option<usize>,
    mamba_dt_rank: Option<Width>,
    mamba_conv_bias: Option<bool>,
    mamba_proj_bias: Option<bool>,
}

/// As Jamba's checkpoints spell experts.
const NAMES: ExpertNames = ExpertNames {
    apart: [
        "feed_forward.experts.{}.gate_proj.weight",
        "feed_forward.experts.{}.up_proj.weight",
        "feed_forward.experts.{}.down_proj.weight",
    ],
    together: ["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"],
};

impl JambaFields {
    fn has_attention(&self, index: usize) -> bool {
        index % self.attn_layer_period.unwrap_or(8) == self.attn_layer_offset.unwrap_or(4)
    }

    fn has_experts(&self, index: usize) -> bool {
        index % self.expert_layer_period.unwrap_or(2) == self.expert_layer_offset.unwrap_or(1)
    }

    fn mamba(&self, base: &DecoderConfig) -> MambaConfig {
        MambaConfig {
            hidden_size: base.hidden_size,
            inner: self.mamba_expand.unwrap_or(2).saturating_mul(base.hidden_size),
            state_size: self.mamba_d_state.unwrap_or(16),
            time_step_rank: Width::or(self.mamba_dt_rank.as_ref(), base.hidden_size.div_ceil(16)),
            kernel: self.mamba_d_conv.unwrap_or(4),
            bias: self.mamba_proj_bias.unwrap_or(false),
            conv_bias: self.mamba_conv_bias.unwrap_or(true),
            hidden_act: base.hidden_act,
            norm_eps: base.rms_norm_eps(),
        }
    }
}

impl From<With<Both<MoeConfig, JambaFields>>> for Jamba {
    fn from(With { mut base, own: Both(moe, own) }: With<Both<MoeConfig, JambaFields>>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.max_position_embeddings.get_or_insert(262_144);
        (base.attention_bias, base.mlp_bias) = (false, false);
        (base.layer_types, base.sliding_window) = (None, None);
        base.style.no_rope = true;
        let sparse = Sparse {
            count: moe.num_experts.or(moe.num_local_experts).unwrap_or(16),
            routing: Routing::softmax(moe.num_experts_per_tok.unwrap_or(2)),
            width: base.intermediate_size,
            names: NAMES,
            ..Sparse::default()
        };
        Self { base, own, sparse }
    }
}

impl Architecture for Jamba {
    const FAMILY: &'static str = "Jamba";
    const MODEL_TYPES: &'static [&'static str] = &["jamba"];
    type Layer<B: Backend> = MixedLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        let MambaConfig { state_size, time_step_rank, kernel, .. } = self.own.mamba(&self.base);
        let sizes = [
            ("mamba_d_state", state_size),
            ("mamba_dt_rank", time_step_rank),
            ("mamba_d_conv", kernel),
            ("mamba_expand", self.own.mamba_expand.unwrap_or(2)),
            ("attn_layer_period", self.own.attn_layer_period.unwrap_or(8)),
            ("expert_layer_period", self.own.expert_layer_period.unwrap_or(2)),
        ];
        check_sizes(sizes)?;
        match self.sparse.count {
            0 | 1 => Ok(()),
            count => self.sparse.routing.check(count, ["num_experts", "num_experts_per_tok"]),
        }
    }

    fn state(&self, index: usize) -> Option<StateShape> {
        (!self.own.has_attention(index)).then(|| self.own.mamba(&self.base).state())
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MixedLayer<B> {
        let base = &self.base;
        let mixer = match self.own.has_attention(index) {
            true => Mixer::Attention(Attend::Heads(SelfAttention::new(&SelfAttentionConfig::new(base), device))),
            false => Mixer::Mamba(Mamba::new(&self.own.mamba(base), device)),
        };
        let mlp = match self.experts(index) {
            Some(_) => self.sparse.feed_forward(base, device),
            None => dense(base, device),
        };
        MixedLayer::new(base, mixer, mlp, device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        (self.sparse.count > 1 && self.own.has_experts(index)).then(|| self.sparse.experts(&self.base))
    }

    fn names(&self) -> Names {
        Names { norm: "final_layernorm", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("post_attention_layernorm", "pre_ff_layernorm"),
            ("mlp.gate", "feed_forward.router"),
            ("mlp", "feed_forward"),
            ("mamba.a_log", "mamba.A_log"),
            ("mamba.d", "mamba.D"),
        ])
    }
}
