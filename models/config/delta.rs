//! What the `config.json` files of families with gated delta nets have in common.

use serde::Deserialize;

use super::{ConfigError, Sparse, check_sizes, unsupported};
use crate::layers::{
    Attend, DeltaNet, DeltaNetConfig, FeedForward, GatedMlp, Linear, MixedLayer, Mixer, NormKind, QkNorm,
    SelfAttention, SelfAttentionConfig, StateShape,
};
use crate::{Backend, DecoderConfig, Names, WeightMap};

/// The kinds of layers, as `layer_types` names them.
const KINDS: [&str; 2] = ["full_attention", "linear_attention"];

/// Fields that describe layers with a state, and which layers these are.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct DeltaConfig {
    linear_conv_kernel_dim: Option<usize>,
    linear_key_head_dim: Option<usize>,
    linear_value_head_dim: Option<usize>,
    linear_num_key_heads: Option<usize>,
    linear_num_value_heads: Option<usize>,
    layer_types: Option<Vec<String>>,
    full_attention_interval: Option<usize>,
}

impl DeltaConfig {
    /// Whether layer `index` has a state.
    fn is_linear(&self, index: usize) -> bool {
        match &self.layer_types {
            Some(kinds) => kinds[index] == "linear_attention",
            None => !(index + 1).is_multiple_of(self.full_attention_interval.unwrap_or(4)),
        }
    }

    /// Fills in what these families share, with as many key and value heads where the config is silent.
    pub(crate) fn fill_in(base: &mut DecoderConfig, num_kv_heads: usize) {
        base.num_key_value_heads.get_or_insert(Some(num_kv_heads));
        base.head_dim.get_or_insert(256);
        base.max_position_embeddings.get_or_insert(32_768);
        base.sliding_window = None;
        base.mlp_bias = false;
        // Read and checked here.
        base.layer_types = None;
        base.style.norm = NormKind::RmsPlusOne;
        base.style.partial_rotary = Some(0.25);
    }

    /// Refuses sizes and kinds of layers that there are not.
    pub(crate) fn check(&self, base: &DecoderConfig) -> Result<(), ConfigError> {
        let DeltaNetConfig { num_key_heads, num_value_heads, key_head_dim, value_head_dim, kernel, .. } =
            self.net(base, false);
        let sizes = [
            ("linear_conv_kernel_dim", kernel),
            ("linear_key_head_dim", key_head_dim),
            ("linear_value_head_dim", value_head_dim),
            ("linear_num_key_heads", num_key_heads),
            ("linear_num_value_heads", num_value_heads),
            ("full_attention_interval", self.full_attention_interval.unwrap_or(4)),
        ];
        check_sizes(sizes)?;
        if !num_value_heads.is_multiple_of(num_key_heads) {
            let expected = format!("a multiple of linear_num_key_heads = {num_key_heads}");
            return Err(unsupported("linear_num_value_heads", num_value_heads, expected));
        }
        base.check_kinds(self.layer_types.as_deref(), &KINDS)
    }

    /// The state of layer `index`, if it has one.
    pub(crate) fn state(&self, base: &DecoderConfig, index: usize) -> Option<StateShape> {
        self.is_linear(index).then(|| self.net(base, false).state())
    }

    fn net(&self, base: &DecoderConfig, grouped: bool) -> DeltaNetConfig {
        DeltaNetConfig {
            hidden_size: base.hidden_size,
            num_key_heads: self.linear_num_key_heads.unwrap_or(16),
            num_value_heads: self.linear_num_value_heads.unwrap_or(32),
            key_head_dim: self.linear_key_head_dim.unwrap_or(128),
            value_head_dim: self.linear_value_head_dim.unwrap_or(128),
            kernel: self.linear_conv_kernel_dim.unwrap_or(4),
            hidden_act: base.hidden_act,
            norm_eps: base.rms_norm_eps(),
            grouped,
        }
    }

    /// Checkpoints of these families also have layers that predict further tokens.
    pub(crate) fn names() -> Names {
        Names { unused: &["mtp."], ..Names::default() }
    }

    pub(crate) fn weight_map() -> WeightMap {
        let names = [("mlp.shared_experts", "mlp.shared_expert"), ("linear_attn.a_log", "linear_attn.A_log")];
        WeightMap::renamed(&names)
    }

    /// Layer `index` before this MLP; `grouped` says how a checkpoint has the matrices of a delta net.
    pub(crate) fn layer<B: Backend>(
        &self,
        base: &DecoderConfig,
        index: usize,
        grouped: bool,
        mlp: FeedForward<B>,
        device: &B::Device,
    ) -> MixedLayer<B> {
        let mixer = match self.is_linear(index) {
            true => Mixer::Delta(DeltaNet::new(&self.net(base, grouped), device)),
            false => {
                let qk_norm = Some((QkNorm::Each(NormKind::RmsPlusOne), base.rms_norm_eps()));
                let attention = SelfAttentionConfig { gated: true, qk_norm, ..SelfAttentionConfig::new(base) };
                Mixer::Attention(Attend::Heads(SelfAttention::new(&attention, device)))
            }
        };
        MixedLayer::new(base, mixer, mlp, device)
    }
}

/// Experts with one beside them that all tokens share, weighed by a gate of its own.
pub(crate) fn experts_beside<B: Backend>(
    sparse: &Sparse,
    shared: usize,
    base: &DecoderConfig,
    device: &B::Device,
) -> FeedForward<B> {
    let gate = Linear::new(base.hidden_size, 1, false, device);
    let shared = GatedMlp::with_width(base, shared, device);
    FeedForward::Moe(sparse.block(base, device).with_shared(shared, Some(gate)))
}
