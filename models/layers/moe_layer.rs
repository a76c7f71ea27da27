use burn::module::Module;
use burn::prelude::Tensor;

use super::{FeedForward, RmsNorm, SelfAttention, SelfAttentionConfig, Step};
use crate::config::DecoderConfig;
use crate::{Backend, DecoderLayer};

/// The layer of Llama and its kin with a mixture of experts in the place of some MLPs. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct MoeLayer<B: Backend> {
    input_layernorm: RmsNorm<B>,
    self_attn: SelfAttention<B>,
    post_attention_layernorm: RmsNorm<B>,
    mlp: FeedForward<B>,
}

impl<B: Backend> MoeLayer<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(
        config: &DecoderConfig,
        attention: &SelfAttentionConfig,
        mlp: FeedForward<B>,
        device: &B::Device,
    ) -> Self {
        let norm = || RmsNorm::new(config.hidden_size, config.rms_norm_eps, device);
        Self {
            input_layernorm: norm(),
            self_attn: SelfAttention::new(attention, device),
            post_attention_layernorm: norm(),
            mlp,
        }
    }
}

impl<B: Backend> DecoderLayer<B> for MoeLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = self.self_attn.forward(self.input_layernorm.before(x.clone()), x, step);
        self.mlp.forward(self.post_attention_layernorm.before(x.clone()), x, step)
    }
}
