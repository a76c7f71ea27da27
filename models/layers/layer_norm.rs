use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;

use super::{NormKind, parameter};
use crate::Backend;

/// Norm by mean and deviation over the last dimension, computed in f32 (Ba et al. 2016, arXiv 1607.06450).
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    weight: Option<Param<Tensor<B, 1>>>,
    bias: Option<Param<Tensor<B, 1>>>,
    eps: f64,
    plus_one: bool,
}

impl<B: Backend> LayerNorm<B> {
    /// A norm over `size` numbers whose parameters are not yet loaded.
    pub fn new(kind: NormKind, size: usize, eps: f64, device: &B::Device) -> Self {
        let has_bias = matches!(kind, NormKind::LayerBias | NormKind::LayerBiasPlusOne);
        Self {
            weight: (kind != NormKind::LayerPlain).then(|| parameter([size], device)),
            bias: has_bias.then(|| parameter([size], device)),
            eps,
            plus_one: kind == NormKind::LayerBiasPlusOne,
        }
    }

    /// The weight `[size]`, if it has one.
    pub(super) fn weight(&self) -> Option<Tensor<B, 1>> {
        self.weight.as_ref().map(Param::val)
    }

    /// `[.., size]` → `[.., size]`, in the dtype of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let dtype = x.dtype();
        let mut y = standardised(x.cast(DType::F32), self.eps);
        if let Some(weight) = self.weight() {
            let weight = weight.cast(DType::F32) + f64::from(u8::from(self.plus_one));
            y = y * weight.unsqueeze();
        }
        if let Some(bias) = &self.bias {
            y = y + bias.val().cast(DType::F32).unsqueeze();
        }
        y.cast(dtype)
    }
}

/// With mean 0 and variance 1 over the last dimension.
pub(super) fn standardised<B: Backend, const D: usize>(x: Tensor<B, D>, eps: f64) -> Tensor<B, D> {
    let x = x.clone() - x.mean_dim(D - 1);
    let variance = x.clone().square().mean_dim(D - 1);
    x / (variance + eps).sqrt()
}
