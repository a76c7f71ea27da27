//! Granite 4: Granite 3 with an MLP for every token beside the experts, if there are any, and a state space in the place of
//! attention in most layers.
//!
//! Reference: `transformers/models/granitemoehybrid/modeling_granitemoehybrid.py`.

use serde::Deserialize;

use crate::config::{Both, Float, MoeConfig, Sparse, StateSpace, Width, With, unsupported};
use crate::granite_moe::{GraniteMoeLayer, check_scaling, granite_experts};
use crate::layers::{
    Experts, GatedMlp, Mamba2Mixer, Mamba2MixerConfig, RmsNorm, SelfAttention, SelfAttentionConfig, StateShape,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims, WeightMap};

/// The `config.json` of a Granite 4.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Both<MoeConfig, HybridFields>>")]
pub struct GraniteMoeHybrid {
    base: DecoderConfig,
    own: MoeConfig,
    sparse: Sparse,
    mixer: StateSpace,
    layer_types: Option<Vec<String>>,
    /// Width inside the MLP that every token goes through.
    shared: usize,
}

/// Fields that other families do not have.
#[derive(Debug, Clone, Deserialize)]
struct HybridFields {
    #[serde(alias = "layers_block_type")]
    layer_types: Option<Vec<String>>,
    shared_intermediate_size: Option<usize>,
    position_embedding_type: Option<String>,
    mamba_n_heads: Option<usize>,
    mamba_n_groups: Option<usize>,
    mamba_d_state: Option<usize>,
    mamba_d_head: Option<Width>,
    mamba_d_conv: Option<usize>,
    mamba_expand: Option<f64>,
    mamba_conv_bias: Option<bool>,
    mamba_proj_bias: Option<bool>,
    time_step_limit: Option<[Float; 2]>,
}

/// The kinds of layers, in the spelling of either version: first those with a state.
const KINDS: [&str; 4] = ["mamba", "linear_attention", "attention", "full_attention"];

impl From<With<Both<MoeConfig, HybridFields>>> for GraniteMoeHybrid {
    fn from(With { mut base, own: Both(own, hybrid) }: With<Both<MoeConfig, HybridFields>>) -> Self {
        let sparse = granite_experts(&mut base, &own);
        base.layer_types = None;
        base.style.no_rope = hybrid.position_embedding_type.as_deref() != Some("rope");
        let (num_heads, expand) = (hybrid.mamba_n_heads.unwrap_or(128), hybrid.mamba_expand.unwrap_or(2.0));
        let head_dim = (expand * base.hidden_size as f64) as usize / num_heads.max(1);
        let head_dim = Width::or(hybrid.mamba_d_head.as_ref(), head_dim);
        let mixer = StateSpace {
            fields: [
                "mamba_n_heads",
                "mamba_d_head",
                "mamba_d_state",
                "mamba_n_groups",
                "mamba_d_conv",
                "mamba_expand",
            ],
            expand,
            config: Mamba2MixerConfig {
                hidden_size: base.hidden_size,
                num_heads,
                head_dim,
                state_size: hybrid.mamba_d_state.unwrap_or(256),
                groups: hybrid.mamba_n_groups.unwrap_or(1),
                kernel: hybrid.mamba_d_conv.unwrap_or(4),
                bias: hybrid.mamba_proj_bias.unwrap_or(false),
                conv_bias: hybrid.mamba_conv_bias.unwrap_or(true),
                hidden_act: base.hidden_act,
                norm_eps: base.rms_norm_eps(),
                time_step_limit: StateSpace::limit(hybrid.time_step_limit),
            },
        };
        let shared = hybrid.shared_intermediate_size.unwrap_or(1024);
        Self { base, own, sparse, mixer, layer_types: hybrid.layer_types, shared }
    }
}

impl GraniteMoeHybrid {
    fn has_state(&self, index: usize) -> bool {
        self.layer_types.as_ref().is_none_or(|kinds| KINDS[..2].contains(&kinds[index].as_str()))
    }
}

impl Architecture for GraniteMoeHybrid {
    const FAMILY: &'static str = "Granite 4";
    const MODEL_TYPES: &'static [&'static str] = &["granitemoehybrid"];
    type Layer<B: Backend> = GraniteMoeLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        check_scaling(&self.own)?;
        self.base.check_kinds(self.layer_types.as_deref(), &KINDS)?;
        self.mixer.check()?;
        if self.shared == 0 || self.shared > i32::MAX as usize {
            let expected = format!("a positive number up to {}", i32::MAX);
            return Err(unsupported("shared_intermediate_size", self.shared, expected));
        }
        match self.sparse.count {
            0 => Ok(()),
            count => self.sparse.routing.check(count, ["num_local_experts", "num_experts_per_tok"]),
        }
    }

    fn dims(&self) -> Dims {
        let dims = self.base.dims();
        Dims { intermediate_size: dims.intermediate_size.max(self.shared), ..dims }
    }

    fn state(&self, index: usize) -> Option<StateShape> {
        self.has_state(index).then(|| self.mixer.config.state())
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> GraniteMoeLayer<B> {
        let (base, has_state) = (&self.base, self.has_state(index));
        let scale = self.own.attention_multiplier.unwrap_or(1.0);
        let attention = SelfAttentionConfig { scale, ..SelfAttentionConfig::new(base) };
        let norm = || RmsNorm::new(base.hidden_size, base.rms_norm_eps(), device);
        GraniteMoeLayer {
            input_layernorm: norm(),
            self_attn: (!has_state).then(|| SelfAttention::new(&attention, device)),
            mamba: has_state.then(|| Mamba2Mixer::new(&self.mixer.config, device)),
            post_attention_layernorm: norm(),
            shared_mlp: Some(GatedMlp::with_width(base, self.shared, device)),
            mlp: (self.sparse.count > 0).then(|| self.sparse.block(base, device)),
            embedding_multiplier: self.own.embedding_multiplier.filter(|_| index == 0).unwrap_or(1.0),
            residual_multiplier: self.own.residual_multiplier.unwrap_or(1.0),
        }
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        (self.sparse.count > 0).then(|| self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        let names = [
            ("mlp.gate", "block_sparse_moe.router.layer"),
            ("shared_mlp.down_proj", "shared_mlp.output_linear"),
            ("mamba.a_log", "mamba.A_log"),
            ("mamba.d", "mamba.D"),
        ];
        let halves = [("shared_mlp.gate_proj", self.shared), ("shared_mlp.up_proj", self.shared)];
        WeightMap::renamed(&names).fused("shared_mlp.input_linear", &halves)
    }
}
