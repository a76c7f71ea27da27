use burn::module::{Module, Param};
use burn::prelude::Tensor;

use super::{RmsNorm, parameter};
use crate::Backend;
use crate::weight::Weight;

/// `x · weightᵀ + bias`, the weight `[out, in]` as safetensors stores it, in any dtype or packed.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    weight: Weight<B>,
    bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// A linear layer whose parameters are not yet loaded.
    pub fn new(inputs: usize, outputs: usize, bias: bool, device: &B::Device) -> Self {
        Self { weight: Weight::new([outputs, inputs], device), bias: bias.then(|| parameter([outputs], device)) }
    }

    /// The same, its weight stored `[in, out]` if `transposed`.
    pub fn stored(transposed: bool, inputs: usize, outputs: usize, bias: bool, device: &B::Device) -> Self {
        let layer = Self::new(inputs, outputs, bias, device);
        match transposed {
            true => Self { weight: Weight::Transposed(parameter([inputs, outputs], device)), ..layer },
            false => layer,
        }
    }

    /// A linear layer of these parameters.
    pub fn of(weight: Weight<B>, bias: Option<Param<Tensor<B, 1>>>) -> Self {
        Self { weight, bias }
    }

    /// The matrix `[out, in]`.
    pub fn weight(&self) -> &Weight<B> {
        &self.weight
    }

    /// The bias `[out]`, if it has one.
    pub fn bias(&self) -> Option<Tensor<B, 1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// `[batch, seq, in]` → `[batch, seq, out]`, in the dtype of the input.
    pub fn forward<'a>(&self, input: impl Into<Input<'a, B>>) -> Tensor<B, 3> {
        let [y] = B::linears(input.into(), [self]);
        y
    }

    /// The same, added to `residual` if there is one.
    pub fn onto(&self, x: Tensor<B, 3>, residual: Option<Tensor<B, 3>>) -> Tensor<B, 3> {
        match residual {
            Some(residual) => B::linear_add(x, self, residual),
            None => self.forward(x),
        }
    }
}

/// Hidden states `[batch, seq, in]` on their way into linear layers: as they are, or to be normed first.
///
/// Layers hand over both, so that a backend can norm while it multiplies.
#[derive(Debug, Clone)]
pub struct Input<'a, B: Backend> {
    /// As they come.
    pub x: Tensor<B, 3>,
    /// What to norm them with.
    pub norm: Option<&'a RmsNorm<B>>,
}

impl<B: Backend> Input<'_, B> {
    /// The hidden states, normed.
    pub fn normed(self) -> Tensor<B, 3> {
        match self.norm {
            Some(norm) => norm.forward(self.x),
            None => self.x,
        }
    }
}

impl<B: Backend> From<Tensor<B, 3>> for Input<'_, B> {
    fn from(x: Tensor<B, 3>) -> Self {
        Self { x, norm: None }
    }
}
