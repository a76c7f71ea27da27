use burn::module::Module;
use burn::prelude::Tensor;

use super::{DeltaNet, FeedForward, GatedConv, Mamba, Norm, SelfAttention, Step};
use crate::config::DecoderConfig;
use crate::{Backend, DecoderLayer};

/// A layer of families in which some have attention and others a state. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct MixedLayer<B: Backend> {
    input_layernorm: Norm<B>,
    self_attn: Option<SelfAttention<B>>,
    linear_attn: Option<DeltaNet<B>>,
    conv: Option<GatedConv<B>>,
    mamba: Option<Mamba<B>>,
    post_attention_layernorm: Norm<B>,
    mlp: FeedForward<B>,
}

/// What brings the columns of a sequence together.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it becomes a part of a layer at once")]
pub enum Mixer<B: Backend> {
    /// Attention over keys and values.
    Attention(SelfAttention<B>),
    /// The gated delta rule.
    Delta(DeltaNet<B>),
    /// A short convolution.
    Conv(GatedConv<B>),
    /// A state space.
    Mamba(Mamba<B>),
}

impl<B: Backend> MixedLayer<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, mixer: Mixer<B>, mlp: FeedForward<B>, device: &B::Device) -> Self {
        let norm = || Norm::new(config.style.norm, config.hidden_size, config.norm_eps(), device);
        let (mut self_attn, mut linear_attn, mut conv, mut mamba) = (None, None, None, None);
        match mixer {
            Mixer::Attention(mixer) => self_attn = Some(mixer),
            Mixer::Delta(mixer) => linear_attn = Some(mixer),
            Mixer::Conv(mixer) => conv = Some(mixer),
            Mixer::Mamba(mixer) => mamba = Some(mixer),
        }
        Self { input_layernorm: norm(), self_attn, linear_attn, conv, mamba, post_attention_layernorm: norm(), mlp }
    }
}

impl<B: Backend> DecoderLayer<B> for MixedLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let input = self.input_layernorm.before(x.clone());
        let x = match (&self.self_attn, &self.linear_attn, &self.conv, &self.mamba) {
            (Some(mixer), ..) => mixer.forward(input, x, step),
            (_, Some(mixer), ..) => mixer.forward(input, x, step),
            (_, _, Some(mixer), _) => mixer.forward(input, x, step),
            (.., Some(mixer)) => mixer.forward(input, x, step),
            _ => unreachable!("a layer has a mixer"),
        };
        self.mlp.forward(self.post_attention_layernorm.before(x.clone()), x, step)
    }
}
