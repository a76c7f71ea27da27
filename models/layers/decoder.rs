use burn::module::Module;
use burn::prelude::Tensor;

use super::{GatedMlp, RmsNorm, SelfAttention, SelfAttentionConfig, Step};
use crate::config::DecoderConfig;
use crate::{Backend, DecoderLayer};

/// The layer of Llama and its kin: norm, attention, residual; norm, MLP, residual. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct PreNormLayer<B: Backend> {
    input_layernorm: RmsNorm<B>,
    self_attn: SelfAttention<B>,
    post_attention_layernorm: RmsNorm<B>,
    mlp: GatedMlp<B>,
}

impl<B: Backend> PreNormLayer<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, attention: &SelfAttentionConfig, device: &B::Device) -> Self {
        let norm = || RmsNorm::new(config.hidden_size, config.rms_norm_eps, device);
        Self {
            input_layernorm: norm(),
            self_attn: SelfAttention::new(attention, device),
            post_attention_layernorm: norm(),
            mlp: GatedMlp::new(config, device),
        }
    }
}

impl<B: Backend> DecoderLayer<B> for PreNormLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = self.self_attn.forward(self.input_layernorm.before(x.clone()), x, step);
        self.mlp.forward(self.post_attention_layernorm.before(x.clone()), x)
    }
}
