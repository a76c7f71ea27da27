use burn::module::Module;
use burn::prelude::Tensor;

use super::{Linear, RmsNorm};
use crate::Backend;

/// Final norm and language-model head, or some rows of the head.
///
/// A head may be wider than all layers together are deep: the engine cuts it into runs of rows, and only the first
/// carries the norm.
#[derive(Module, Debug)]
pub struct Head<B: Backend> {
    norm: Option<RmsNorm<B>>,
    lm_head: Linear<B>,
    logit_scale: f64,
}

impl<B: Backend> Head<B> {
    /// A head of which `norm` belongs to the first rows.
    pub fn new(norm: Option<RmsNorm<B>>, lm_head: Linear<B>) -> Self {
        Self { norm, lm_head, logit_scale: 1.0 }
    }

    /// The same with logits multiplied by `logit_scale`.
    pub fn scaled(self, logit_scale: f64) -> Self {
        Self { logit_scale, ..self }
    }

    /// The final norm, where this part of the head has it: `[batch, seq, hidden_size]` → the same.
    pub fn norm(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// Normed hidden states `[batch, seq, hidden_size]` → logits of these rows `[batch, seq, rows]`.
    pub fn logits(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let logits = self.lm_head.forward(x);
        if self.logit_scale == 1.0 { logits } else { logits * self.logit_scale }
    }
}
