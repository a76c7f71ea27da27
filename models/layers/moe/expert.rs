use burn::prelude::Tensor;

use super::super::GatedMlp;
use crate::Backend;

/// One expert: hidden states of the tokens that chose it in, what they get of it out.
pub trait Expert<B: Backend>: Send {
    /// `[1, tokens, hidden_size]` → the same shape.
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3>;
}

impl<B: Backend> Expert<B> for GatedMlp<B> {
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward(x.into(), None)
    }
}
