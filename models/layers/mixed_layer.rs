use burn::module::Module;
use burn::prelude::Tensor;

use super::{Attend, DeltaNet, FeedForward, GatedConv, KimiDelta, Mamba, Norm, Step};
use crate::config::DecoderConfig;
use crate::{Backend, DecoderLayer};

/// A layer of families in which some have attention and others a state. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct MixedLayer<B: Backend> {
    input_layernorm: Norm<B>,
    self_attn: Option<Attend<B>>,
    linear_attn: Option<DeltaNet<B>>,
    conv: Option<GatedConv<B>>,
    mamba: Option<Mamba<B>>,
    kda: Option<KimiDelta<B>>,
    post_attention_layernorm: Norm<B>,
    mlp: FeedForward<B>,
}

/// What brings the columns of a sequence together.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it becomes a part of a layer at once")]
pub enum Mixer<B: Backend> {
    /// Attention over keys and values.
    Attention(Attend<B>),
    /// The gated delta rule.
    Delta(DeltaNet<B>),
    /// A short convolution.
    Conv(GatedConv<B>),
    /// A state space.
    Mamba(Mamba<B>),
    /// The delta rule with rows that are forgotten apart.
    Kimi(KimiDelta<B>),
}

impl<B: Backend> MixedLayer<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, mixer: Mixer<B>, mlp: FeedForward<B>, device: &B::Device) -> Self {
        let norm = || Norm::new(config.style.norm, config.hidden_size, config.norm_eps(), device);
        let mut layer = Self {
            input_layernorm: norm(),
            self_attn: None,
            linear_attn: None,
            conv: None,
            mamba: None,
            kda: None,
            post_attention_layernorm: norm(),
            mlp,
        };
        match mixer {
            Mixer::Attention(mixer) => layer.self_attn = Some(mixer),
            Mixer::Delta(mixer) => layer.linear_attn = Some(mixer),
            Mixer::Conv(mixer) => layer.conv = Some(mixer),
            Mixer::Mamba(mixer) => layer.mamba = Some(mixer),
            Mixer::Kimi(mixer) => layer.kda = Some(mixer),
        }
        layer
    }
}

impl<B: Backend> DecoderLayer<B> for MixedLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let input = self.input_layernorm.before(x.clone());
        let x = if let Some(mixer) = &self.self_attn {
            mixer.forward(input, x, step)
        } else if let Some(mixer) = &self.linear_attn {
            mixer.forward(input, x, step)
        } else if let Some(mixer) = &self.conv {
            mixer.forward(input, x, step)
        } else if let Some(mixer) = &self.mamba {
            mixer.forward(input, x, step)
        } else if let Some(mixer) = &self.kda {
            mixer.forward(input, x, step)
        } else {
            unreachable!("a layer has a mixer")
        };
        self.mlp.forward(self.post_attention_layernorm.before(x.clone()), x, step)
    }
}
