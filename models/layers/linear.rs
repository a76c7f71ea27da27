use burn::module::{Module, Param};
use burn::prelude::Tensor;

use super::parameter;
use crate::Backend;

/// `x · weightᵀ + bias`, the weight `[out, in]` as safetensors stores it and in any dtype.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    weight: Param<Tensor<B, 2>>,
    bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// A linear layer whose parameters are not yet loaded.
    pub fn new(inputs: usize, outputs: usize, bias: bool, device: &B::Device) -> Self {
        Self { weight: parameter([outputs, inputs], device), bias: bias.then(|| parameter([outputs], device)) }
    }

    /// `[batch, seq, in]` → `[batch, seq, out]`, in the dtype of `x`.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        Backend::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val))
    }
}
