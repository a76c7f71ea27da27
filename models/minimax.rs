//! MiniMax-Text-01 and M1: Mixtral with lightning attention in every other layer, whose residuals begin behind the norms
//! and are scaled by numbers of the config.
//!
//! Reference: `transformers/models/minimax/modeling_minimax.py`.

use burn::module::Module;
use burn::prelude::Tensor;
use serde::Deserialize;

use crate::config::{Both, MoeConfig, Sparse, With};
use crate::layers::{
    ExpertNames, Experts, Lightning, LightningConfig, Moe, Normed, RmsNorm, Routing, SelfAttention,
    SelfAttentionConfig, StateShape, Step,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, DecoderLayer, Names, WeightMap};

/// The `config.json` of a MiniMax.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Both<MoeConfig, MiniMaxFields>>")]
pub struct MiniMax {
    base: DecoderConfig,
    own: MiniMaxFields,
    sparse: Sparse,
}

/// Fields that other families do not have.
#[derive(Debug, Clone, Deserialize)]
struct MiniMaxFields {
    layer_types: Option<Vec<String>>,
    full_attn_alpha_factor: Option<f64>,
    full_attn_beta_factor: Option<f64>,
    linear_attn_alpha_factor: Option<f64>,
    linear_attn_beta_factor: Option<f64>,
    mlp_alpha_factor: Option<f64>,
    mlp_beta_factor: Option<f64>,
}

impl From<With<Both<MoeConfig, MiniMaxFields>>> for MiniMax {
    fn from(With { mut base, own: Both(moe, own) }: With<Both<MoeConfig, MiniMaxFields>>) -> Self {
        base.num_key_value_heads.get_or_insert(Some(8));
        base.rms_norm_eps.get_or_insert(1e-5);
        base.max_position_embeddings.get_or_insert(131_072);
        base.rope_theta.get_or_insert(1_000_000.0);
        (base.attention_bias, base.mlp_bias) = (false, false);
        base.layer_types = None;
        let scale = own.mlp_beta_factor.unwrap_or(1.0) as f32;
        let normed = Some(Normed::Plus(0.0));
        let sparse = Sparse {
            count: moe.num_local_experts.or(moe.num_experts).unwrap_or(8),
            routing: Routing { normed, scale, ..Routing::softmax(moe.num_experts_per_tok.unwrap_or(2)) },
            width: base.intermediate_size,
            names: ExpertNames::MIXTRAL,
            ..Sparse::default()
        };
        Self { base, own, sparse }
    }
}

impl MiniMax {
    fn is_linear(&self, index: usize) -> bool {
        match &self.own.layer_types {
            Some(kinds) => kinds[index] == "linear_attention",
            None => !index.is_multiple_of(2),
        }
    }

    fn lightning(&self, index: usize) -> LightningConfig {
        let base = &self.base;
        let depth = index as f64 / (base.num_hidden_layers as f64 - 1.0 + 1e-5);
        LightningConfig {
            hidden_size: base.hidden_size,
            num_heads: base.num_attention_heads,
            head_dim: base.head_dim(),
            hidden_act: base.hidden_act,
            slope: 1.0 - depth + 1e-5,
        }
    }
}

impl Architecture for MiniMax {
    const FAMILY: &'static str = "MiniMax-Text-01, MiniMax-M1";
    const MODEL_TYPES: &'static [&'static str] = &["minimax"];
    type Layer<B: Backend> = MiniMaxLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check_kinds(self.own.layer_types.as_deref(), &["full_attention", "linear_attention"])?;
        self.base.check()?;
        self.sparse.routing.check(self.sparse.count, ["num_local_experts", "num_experts_per_tok"])
    }

    fn sliding_window(&self, index: usize) -> Option<usize> {
        self.base.sliding_window.flatten().filter(|_| !self.is_linear(index))
    }

    fn state(&self, index: usize) -> Option<StateShape> {
        self.is_linear(index).then(|| self.lightning(index).state())
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MiniMaxLayer<B> {
        let (base, own) = (&self.base, &self.own);
        let norm = || RmsNorm::new(base.hidden_size, base.rms_norm_eps(), device);
        let sliding_window = self.sliding_window(index);
        let attention = SelfAttentionConfig { sliding_window, ..SelfAttentionConfig::new(base) };
        let (self_attn, alpha, beta) = match self.is_linear(index) {
            true => {
                let lightning = Lightning::new(&self.lightning(index), device);
                (Mixing::Lightning(lightning), own.linear_attn_alpha_factor, own.linear_attn_beta_factor)
            }
            false => {
                let attention = SelfAttention::new(&attention, device);
                (Mixing::Full(attention), own.full_attn_alpha_factor, own.full_attn_beta_factor)
            }
        };
        MiniMaxLayer {
            input_layernorm: norm(),
            self_attn,
            post_attention_layernorm: norm(),
            mlp: self.sparse.block(base, device),
            attn_alpha_factor: alpha.unwrap_or(1.0),
            attn_beta_factor: beta.unwrap_or(1.0),
            mlp_alpha_factor: own.mlp_alpha_factor.unwrap_or(1.0),
        }
    }

    fn experts(&self, _index: usize) -> Option<Experts> {
        Some(self.sparse.experts(&self.base))
    }

    fn names(&self) -> Names {
        let ignored = &["rotary_emb.inv_freq", ".slope_rate", ".query_decay", ".key_decay", ".diagonal_decay"];
        Names { ignored, ..Names::default() }
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[("mlp.gate", "block_sparse_moe.gate")])
    }
}

/// One layer of a MiniMax. What experts add is scaled with their weights.
#[derive(Module, Debug)]
pub struct MiniMaxLayer<B: Backend> {
    input_layernorm: RmsNorm<B>,
    self_attn: Mixing<B>,
    post_attention_layernorm: RmsNorm<B>,
    mlp: Moe<B>,
    attn_alpha_factor: f64,
    attn_beta_factor: f64,
    mlp_alpha_factor: f64,
}

/// Attention of either kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one in a layer, and it stays where it was made")]
enum Mixing<B: Backend> {
    Full(SelfAttention<B>),
    Lightning(Lightning<B>),
}

impl<B: Backend> DecoderLayer<B> for MiniMaxLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = self.input_layernorm.forward(x);
        let mixed = match &self.self_attn {
            Mixing::Full(attention) => attention.forward(x.clone().into(), None, step),
            Mixing::Lightning(attention) => attention.forward(x.clone().into(), step),
        };
        let x = x * self.attn_alpha_factor + mixed * self.attn_beta_factor;
        let x = self.post_attention_layernorm.forward(x);
        self.mlp.forward(x.clone().into(), x * self.mlp_alpha_factor, step)
    }
}
