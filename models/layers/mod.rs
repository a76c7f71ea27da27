//! Parts shared by every architecture.

pub mod attention;
mod attention_config;
mod cache;
mod channel_recurrence;
mod closing;
mod decoder;
mod delta_net;
mod gated_conv;
mod head;
mod head_norm;
mod heads;
mod kimi_delta;
mod layer_cache;
mod layer_input;
mod layer_norm;
mod lightning;
mod linear;
mod mamba;
mod mamba2;
mod mask;
mod mixed_layer;
mod mla;
mod mlp;
mod moe;
mod moe_layer;
mod norm;
mod opening;
mod positions;
pub(crate) mod recurrence;
mod rope;
mod self_attention;
mod short_conv;
mod state;
mod xielu;

pub use attention::{Alibi, Attention, AttentionInput, AttentionShape, Eager, Flash, Sdpa};
pub use attention_config::{Qkv, QueryGrowth, SelfAttentionConfig};
pub use cache::{Alive, KvCache};
pub use closing::Closing;
pub use decoder::DenseLayer;
pub use delta_net::{DeltaNet, DeltaNetConfig};
pub use gated_conv::{GatedConv, conv_state};
pub use head::Head;
pub use head_norm::{HeadNorm, NormList, OwnWeights, QkNorm};
pub use heads::Heads;
pub use kimi_delta::{KimiDelta, KimiDeltaConfig};
pub use layer_cache::LayerCache;
pub use layer_input::{LayerInput, LayerInputSize, LayerInputs};
pub use layer_norm::LayerNorm;
pub use lightning::{Lightning, LightningConfig};
pub use linear::{Input, Linear};
pub use mamba::{Mamba, MambaConfig};
pub use mamba2::{Mamba2Mixer, Mamba2MixerConfig};
pub use mask::{Mask, PAD, Visibility};
pub use mixed_layer::{MixedLayer, Mixer};
pub use mla::{LatentAttention, LatentConfig};
pub use mlp::{GatedMlp, Mlp, PlainMlp};
pub use moe::{
    Choice, Correction, Expert, ExpertKind, ExpertNames, Experts, FeedForward, Groups, Mixture, Moe, Normed, Part,
    Place, Routed, Router, Routing, Scoring, TransposedExpert,
};
pub use moe_layer::{Attend, MoeLayer};
pub use norm::{Norm, NormKind, RmsNorm};
pub use opening::Opening;
pub use positions::Positions;
pub use rope::{Rope, RopeParameters, RopeType};
pub use self_attention::SelfAttention;
pub use short_conv::ShortConv;
pub use state::{State, StateShape};
pub use xielu::Xielu;

use burn::module::{Param, ParamId};
use burn::prelude::{Shape, Tensor};

use crate::Backend;

/// What one layer needs for its part of a pass.
pub struct Step<'a, B: Backend> {
    /// Rotations of this pass's positions.
    pub rope: &'a Rope<B>,
    /// What the layer keeps of the tokens before.
    pub cache: &'a mut LayerCache<B>,
    /// Positions of this pass's queries, row by row `[batch, seq]`, [`PAD`] where there is none.
    pub queries: &'a Positions,
    /// Positions of all columns so far, this pass's included, `[batch, past + seq]`.
    pub keys: &'a Positions,
    /// How scores become a mixture of values.
    pub attention: &'a dyn Attention<B>,
    /// What layers read of the tokens beside hidden states, `[batch, seq, width]`, where the model has a second embedding:
    /// its rows, and from the first layer on what that makes of them.
    pub layer_inputs: &'a mut Option<Tensor<B, 3>>,
    /// What the layer leaves to experts that its tokens chose; they run after it.
    pub routed: Option<Routed<B>>,
}

/// A parameter that has a shape and no value until the record loader brings one.
pub(crate) fn parameter<B: Backend, const D: usize>(shape: [usize; D], device: &B::Device) -> Param<Tensor<B, D>> {
    let unread = move |_: &B::Device, _| unreachable!("a parameter of shape {shape:?} was read before it was loaded");
    Param::uninitialized(ParamId::new(), unread, device.clone(), false, Shape::from(shape))
}
