//! Kimi Linear: DeepSeek-V3 that knows no positions, with delta attention in the place of latent attention in most layers.
//!
//! Reference: `transformers/models/kimi_linear/modeling_kimi_linear.py`.

use serde::Deserialize;

use crate::config::{
    Both, LatentFields, MoeConfig, Sparse, V3Defaults, With, check_sizes, dense, shared_width, unsupported, v3_experts,
};
use crate::layers::{
    Attend, ExpertNames, Experts, KimiDelta, KimiDeltaConfig, LatentAttention, MixedLayer, Mixer, RopeParameters,
    StateShape,
};
use crate::{Architecture, Backend, ConfigError, DecoderConfig, Dims, WeightMap};

/// The `config.json` of a Kimi Linear.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "With<Both<MoeConfig, Both<LatentFields, KimiFields>>>")]
pub struct KimiLinear {
    base: DecoderConfig,
    moe: MoeConfig,
    latent: LatentFields,
    own: KimiFields,
    sparse: Sparse,
    /// Width inside the shared experts together.
    shared: usize,
}

/// Fields that other families do not have, in the spelling of the family's own code and of transformers.
#[derive(Debug, Clone, Deserialize)]
struct KimiFields {
    linear_attn_config: Option<LinearFields>,
    linear_head_dim: Option<usize>,
    linear_num_heads: Option<usize>,
    linear_conv_kernel_dim: Option<usize>,
    layer_types: Option<Vec<String>>,
    mlp_layer_types: Option<Vec<String>>,
    num_experts_per_token: Option<usize>,
    num_shared_experts: Option<usize>,
    num_expert_group: Option<usize>,
    moe_renormalize: Option<bool>,
    model_max_length: Option<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct LinearFields {
    head_dim: Option<usize>,
    num_heads: Option<usize>,
    short_conv_kernel_size: Option<usize>,
    /// Numbered from one.
    full_attn_layers: Option<Vec<usize>>,
}

impl KimiFields {
    fn has_attention(&self, index: usize) -> bool {
        let full = self.linear_attn_config.as_ref().and_then(|linear| linear.full_attn_layers.as_ref());
        match (&self.layer_types, full) {
            (Some(kinds), _) => kinds[index] == "full_attention",
            (None, Some(layers)) => layers.contains(&(index + 1)),
            (None, None) => index > 0 && index.is_multiple_of(4),
        }
    }

    fn delta(&self, base: &DecoderConfig) -> KimiDeltaConfig {
        let linear = self.linear_attn_config.clone().unwrap_or_default();
        KimiDeltaConfig {
            hidden_size: base.hidden_size,
            num_heads: linear.num_heads.or(self.linear_num_heads).unwrap_or(32),
            head_dim: linear.head_dim.or(self.linear_head_dim).unwrap_or(128),
            kernel: linear.short_conv_kernel_size.or(self.linear_conv_kernel_dim).unwrap_or(4),
            hidden_act: base.hidden_act,
            norm_eps: base.rms_norm_eps(),
        }
    }
}

impl From<With<Both<MoeConfig, Both<LatentFields, KimiFields>>>> for KimiLinear {
    fn from(config: With<Both<MoeConfig, Both<LatentFields, KimiFields>>>) -> Self {
        let With { mut base, own: Both(mut moe, Both(mut latent, own)) } = config;
        moe.num_experts_per_tok = moe.num_experts_per_tok.or(own.num_experts_per_token);
        moe.n_shared_experts = moe.n_shared_experts.or(own.num_shared_experts);
        moe.n_group = moe.n_group.or(own.num_expert_group);
        moe.norm_topk_prob = moe.norm_topk_prob.or(own.moe_renormalize);
        moe.n_routed_experts = moe.num_local_experts.or(moe.num_experts);
        base.rms_norm_eps.get_or_insert(1e-5);
        latent.q_lora_rank.get_or_insert(None);
        base.max_position_embeddings = base.max_position_embeddings.or(own.model_max_length).or(Some(1 << 20));
        base.mlp_bias = false;
        base.layer_types = None;
        base.style.no_rope = true;
        // Heads have a width of their own here.
        base.head_dim = Some(latent.attention(&base).qk_rope_head_dim);
        base.num_key_value_heads = Some(None);
        let defaults = V3Defaults {
            n_group: 1,
            topk_group: 1,
            num_experts_per_tok: 8,
            routed_scaling_factor: 2.446,
            n_routed_experts: 256,
            moe_intermediate_size: 1024,
        };
        let sparse = Sparse { names: ExpertNames::MIXTRAL, ..v3_experts(&moe, &defaults) };
        let shared = shared_width(&sparse, moe.n_shared_experts.unwrap_or(1));
        Self { base, moe, latent, own, sparse, shared }
    }
}

impl KimiLinear {
    fn is_sparse(&self, index: usize) -> bool {
        match &self.own.mlp_layer_types {
            Some(kinds) => kinds[index] == "sparse",
            None => index >= self.moe.first_k_dense_replace.unwrap_or(1),
        }
    }
}

impl Architecture for KimiLinear {
    const FAMILY: &'static str = "Kimi Linear";
    const MODEL_TYPES: &'static [&'static str] = &["kimi_linear"];
    type Layer<B: Backend> = MixedLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.base
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.base.check()?;
        self.latent.check(&self.base)?;
        self.moe.check()?;
        self.base.check_kinds(self.own.layer_types.as_deref(), &["full_attention", "linear_attention"])?;
        if let Some(kinds) = self.own.mlp_layer_types.as_ref().filter(|it| it.len() != self.base.num_hidden_layers) {
            let expected = format!("one entry for each of {} layers", self.base.num_hidden_layers);
            return Err(unsupported("mlp_layer_types", format!("of length {}", kinds.len()), expected));
        }
        let KimiDeltaConfig { num_heads, head_dim, kernel, .. } = self.own.delta(&self.base);
        let sizes =
            [("linear_num_heads", num_heads), ("linear_head_dim", head_dim), ("linear_conv_kernel_dim", kernel)];
        check_sizes(sizes)?;
        self.sparse.routing.check(self.sparse.count, ["num_experts", "num_experts_per_tok"])
    }

    fn dims(&self) -> Dims {
        let dims = self.latent.dims(&self.base);
        Dims { intermediate_size: dims.intermediate_size.max(self.shared), ..dims }
    }

    /// Nothing turns, as wide as what would.
    fn rope(&self) -> RopeParameters {
        self.latent.rope(&self.base)
    }

    fn state(&self, index: usize) -> Option<StateShape> {
        (!self.own.has_attention(index)).then(|| self.own.delta(&self.base).state())
    }

    fn layer<B: Backend>(&self, index: usize, device: &B::Device) -> MixedLayer<B> {
        let base = &self.base;
        let mixer = match self.own.has_attention(index) {
            true => {
                let attention = LatentAttention::new(&self.latent.attention(base), device);
                Mixer::Attention(Attend::Latent(attention))
            }
            false => Mixer::Kimi(KimiDelta::new(&self.own.delta(base), device)),
        };
        let mlp = match self.is_sparse(index) {
            true => self.sparse.feed_forward_beside(self.shared, base, device),
            false => dense(base, device),
        };
        MixedLayer::new(base, mixer, mlp, device)
    }

    fn experts(&self, index: usize) -> Option<Experts> {
        self.is_sparse(index).then(|| self.sparse.experts(&self.base))
    }

    fn weight_map(&self) -> WeightMap {
        WeightMap::renamed(&[
            ("kda.a_log", "self_attn.A_log"),
            ("kda", "self_attn"),
            ("mlp.gate", "block_sparse_moe.gate"),
            ("mlp.shared_experts", "block_sparse_moe.shared_experts"),
        ])
    }
}
