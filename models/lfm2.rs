//! LFM2: most layers have a gated convolution over three columns in the place of attention, the others Llama's with
//! norms of queries and keys.
//!
//! Reference: `transformers/models/lfm2/modeling_lfm2.py`.

use serde::Deserialize;

use crate::config::{With, check_sizes};
use crate::layers::{
    Attend, FeedForward, GatedConv, GatedMlp, MixedLayer, Mixer, SelfAttention, SelfAttentionConfig, StateShape,
    conv_state,
};
use crate::{Activation, Architecture, Backend, ConfigError, DecoderConfig, Names, WeightMap};

/// The `config.json` of an LFM2.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<ConvConfig>")]
pub struct Lfm2 {
    base: DecoderConfig,
    own: ConvConfig,
}

/// Fields that other families do not have.
#[derive(Debug, Clone, Deserialize)]
struct ConvConfig {
    conv_bias: Option<bool>,
    #[serde(rename = "conv_L_cache")]
    columns: Option<usize>,
    block_ff_dim: Option<usize>,
    block_multiple_of: Option<usize>,
    block_ffn_dim_multiplier: Option<f64>,
    block_auto_adjust_ff_dim: Option<bool>,
    full_attn_idxs: Option<Vec<usize>>,
    layer_types: Option<Vec<String>>,
}

/// How `layer_types` calls a layer without attention.
const CONV: &str = "conv";

impl ConvConfig {
    /// Columns that a convolution sees.
    fn columns(&self) -> usize {
        self.columns.unwrap_or(3)
    }

    fn multiple(&self) -> usize {
        self.block_multiple_of.unwrap_or(256)
    }

    /// Width inside the MLP where the config says so much.
    fn adjusted(&self, width: usize) -> usize {
        if !self.block_auto_adjust_ff_dim.unwrap_or(true) {
            return width;
        }
        let width = (2.0 * width as f64 / 3.0) as usize;
        let width = (self.block_ffn_dim_multiplier.unwrap_or(1.0) * width as f64) as usize;
        width.div_ceil(self.multiple().max(1)).saturating_mul(self.multiple())
    }

    fn is_conv(&self, index: usize) -> bool {
        match (&self.layer_types, &self.full_attn_idxs) {
            (Some(kinds), _) => kinds[index] == CONV,
            (None, Some(full)) => !full.contains(&index),
            (None, None) => false,
        }
    }
}

impl From<With<ConvConfig>> for Lfm2 {
    fn from(With { mut base, own }: With<ConvConfig>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.max_position_embeddings.get_or_insert(128_000);
        base.rope_theta.get_or_insert(1_000_000.0);
        base.rms_norm_eps = Some(base.layer_norm_eps.unwrap_or(1e-5));
        base.intermediate_size = own.adjusted(own.block_ff_dim.unwrap_or(base.intermediate_size));
        base.hidden_act = Activation::Silu;
        (base.attention_bias, base.mlp_bias) = (false, false);
        base.sliding_window = None;
        base.layer_types = None;
        Self { base, own }
    }
}

impl Architecture for Lfm2 {
    const FAMILY: &'static str = "LFM2";
    const MODEL_TYPES: &'static [&'static str] = &["lfm2"];
    const TIED_BY_DEFAULT: bool = true;
    type Layer<B: Backend> = MixedLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        let sizes = [("conv_L_cache", self.own.columns()), ("block_multiple_of", self.own.multiple())];
        check_sizes(sizes)?;
        self.base.check_kinds(self.own.layer_types.as_deref(), &["full_attention", CONV])?;
        self.base.check()
    }

    fn state(&self, index: usize) -> Option<StateShape> {
        self.own.is_conv(index).then(|| conv_state(self.base.hidden_size, self.own.columns()))
    }

    fn names(&self) -> Names {
        Names { norm: "embedding_norm", ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("input_layernorm", "operator_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.o_proj", "self_attn.out_proj"),
            ("self_attn.q_norm", "self_attn.q_layernorm"),
            ("self_attn.k_norm", "self_attn.k_layernorm"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.up_proj", "feed_forward.w3"),
            ("mlp.down_proj", "feed_forward.w2"),
        ])
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MixedLayer<B> {
        let (base, bias) = (&self.base, self.own.conv_bias.unwrap_or(false));
        let mixer = match self.own.is_conv(index) {
            true => Mixer::Conv(GatedConv::new(base.hidden_size, self.own.columns(), bias, device)),
            false => {
                let qk_norm_eps = Some(base.rms_norm_eps());
                let attention = SelfAttentionConfig { qk_norm_eps, ..SelfAttentionConfig::new(base) };
                Mixer::Attention(Attend::Heads(SelfAttention::new(&attention, device)))
            }
        };
        MixedLayer::new(base, mixer, FeedForward::Dense(GatedMlp::new(base, device)), device)
    }
}
