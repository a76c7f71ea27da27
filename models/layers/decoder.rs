use burn::module::Module;
use burn::prelude::Tensor;

use super::{Closing, Input, Mlp, Norm, Opening, SelfAttention, SelfAttentionConfig, Step};
use crate::config::{DecoderConfig, Order};
use crate::{Backend, DecoderLayer};

/// The layer of all dense families: attention and MLP, each added to the hidden states, with norms before and behind.
///
/// Llama has `input_layernorm` before attention and `post_attention_layernorm` before the MLP. Field names are those of
/// the checkpoints that have all four norms.
#[derive(Module, Debug)]
pub struct DenseLayer<B: Backend> {
    opening: Option<Opening<B>>,
    input_layernorm: Option<Norm<B>>,
    self_attn: SelfAttention<B>,
    post_self_attn_layernorm: Option<Norm<B>>,
    post_attention_layernorm: Option<Norm<B>>,
    mlp: Mlp<B>,
    post_mlp_layernorm: Option<Norm<B>>,
    closing: Option<Closing<B>>,
    /// Whether the MLP reads what attention reads.
    parallel: bool,
    /// Whether norms behind attention and MLP are of the sums.
    norms_sums: bool,
    residual_scale: f64,
}

impl<B: Backend> DenseLayer<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, attention: &SelfAttentionConfig, device: &B::Device) -> Self {
        let order = config.style.order;
        let norm = |orders: &[Order]| {
            let norm = || Norm::new(config.style.norm, config.hidden_size, config.norm_eps(), device);
            orders.contains(&order).then(norm)
        };
        Self {
            opening: None,
            input_layernorm: norm(&[Order::Pre, Order::Around, Order::Parallel, Order::ParallelApart]),
            self_attn: SelfAttention::new(attention, device),
            post_self_attn_layernorm: norm(&[Order::Post, Order::PostSum, Order::Around]),
            post_attention_layernorm: norm(&[Order::Pre, Order::Around, Order::ParallelApart]),
            mlp: Mlp::new(config, device),
            post_mlp_layernorm: norm(&[Order::Post, Order::PostSum, Order::Around]),
            closing: None,
            norms_sums: order == Order::PostSum,
            parallel: matches!(order, Order::Parallel | Order::ParallelApart),
            residual_scale: config.style.residual_scale,
        }
    }

    /// The same with what makes hidden states of embeddings, if it is the first layer.
    pub fn opened(self, index: usize, opening: impl FnOnce() -> Opening<B>) -> Self {
        Self { opening: (index == 0).then(opening), ..self }
    }

    /// The same with what makes of hidden states what the head reads, if it is the last layer.
    pub fn closed(self, closing: Option<Closing<B>>) -> Self {
        Self { closing, ..self }
    }

    /// Adds a branch to `residual`, normed and scaled where the family asks for it.
    fn add(
        &self,
        residual: Tensor<B, 3>,
        norm: Option<&Norm<B>>,
        branch: impl FnOnce(Option<Tensor<B, 3>>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        match norm {
            None if self.residual_scale == 1.0 => branch(Some(residual)),
            None => residual + branch(None) * self.residual_scale,
            Some(norm) if self.norms_sums => norm.forward(branch(Some(residual))),
            Some(norm) => residual + norm.forward(branch(None)) * self.residual_scale,
        }
    }
}

impl<B: Backend> DecoderLayer<B> for DenseLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = match &self.opening {
            Some(opening) => opening.forward(x, step.queries),
            None => x,
        };
        let input = before(self.input_layernorm.as_ref(), x.clone());
        let y = self.add(x.clone(), self.post_self_attn_layernorm.as_ref(), |residual| {
            self.self_attn.forward(input.clone(), residual, step)
        });
        let input = match (self.parallel, &self.post_attention_layernorm) {
            (true, None) => input,
            (true, Some(norm)) => norm.before(x),
            (false, norm) => before(norm.as_ref(), y.clone()),
        };
        let y = self.add(y, self.post_mlp_layernorm.as_ref(), |residual| self.mlp.forward(input, residual));
        match &self.closing {
            Some(closing) => closing.forward(y),
            None => y,
        }
    }
}

fn before<B: Backend>(norm: Option<&Norm<B>>, x: Tensor<B, 3>) -> Input<'_, B> {
    match norm {
        Some(norm) => norm.before(x),
        None => x.into(),
    }
}
