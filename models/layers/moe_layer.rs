use burn::module::Module;
use burn::prelude::Tensor;

use super::{FeedForward, Input, LatentAttention, Norm, SelfAttention, SelfAttentionConfig, Step};
use crate::config::DecoderConfig;
use crate::{Backend, DecoderLayer};

/// The layer of Llama and its kin with a mixture of experts in the place of some MLPs. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct MoeLayer<B: Backend> {
    input_layernorm: Norm<B>,
    self_attn: Attend<B>,
    post_attention_layernorm: Norm<B>,
    mlp: FeedForward<B>,
}

/// Attention of either kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one in a layer, and it stays where it was made")]
pub enum Attend<B: Backend> {
    /// Heads with keys and values of their own, or shared among some.
    Heads(SelfAttention<B>),
    /// Heads whose keys and values are kept compressed.
    Latent(LatentAttention<B>),
}

impl<B: Backend> Attend<B> {
    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual`.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        match self {
            Self::Heads(attention) => attention.forward(input, residual, step),
            Self::Latent(attention) => attention.forward(input, residual, step),
        }
    }
}

impl<B: Backend> MoeLayer<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(
        config: &DecoderConfig,
        attention: &SelfAttentionConfig,
        mlp: FeedForward<B>,
        device: &B::Device,
    ) -> Self {
        Self::with_attention(config, Attend::Heads(SelfAttention::new(attention, device)), mlp, device)
    }

    /// The same with attention of any kind.
    pub fn with_attention(
        config: &DecoderConfig,
        self_attn: Attend<B>,
        mlp: FeedForward<B>,
        device: &B::Device,
    ) -> Self {
        let norm = || Norm::new(config.style.norm, config.hidden_size, config.norm_eps(), device);
        Self { input_layernorm: norm(), self_attn, post_attention_layernorm: norm(), mlp }
    }
}

impl<B: Backend> DecoderLayer<B> for MoeLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = self.self_attn.forward(self.input_layernorm.before(x.clone()), x, step);
        self.mlp.forward(self.post_attention_layernorm.before(x.clone()), x, step)
    }
}
