use burn::module::{Module, Param};
use burn::prelude::Tensor;

use super::{Input, parameter};
use crate::Backend;

/// Root-mean-square norm over the last dimension, computed in f32 (Zhang & Sennrich 2019, arXiv 1910.07467).
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    weight: Param<Tensor<B, 1>>,
    eps: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// A norm over `size` numbers whose weight is not yet loaded.
    pub fn new(size: usize, eps: f64, device: &B::Device) -> Self {
        Self { weight: parameter([size], device), eps }
    }

    /// A norm of this weight `[size]`.
    pub fn of(weight: Param<Tensor<B, 1>>, eps: f64) -> Self {
        Self { weight, eps }
    }

    /// What the normed numbers are multiplied by, `[size]`.
    pub fn weight(&self) -> Tensor<B, 1> {
        self.weight.val()
    }

    /// What the mean square is raised by.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Hidden states to be normed on their way into linear layers.
    pub fn before(&self, x: Tensor<B, 3>) -> Input<'_, B> {
        Input { x, norm: Some(self) }
    }

    /// `[.., size]` → `[.., size]`, in the dtype of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        B::rms_norm(x, self.weight.val(), self.eps)
    }
}
