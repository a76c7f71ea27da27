use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;

use super::{Input, LayerNorm, parameter};
use crate::Backend;

/// A norm of any kind.
#[derive(Module, Debug)]
pub enum Norm<B: Backend> {
    /// By the root mean square.
    Rms(RmsNorm<B>),
    /// By mean and deviation.
    Layer(LayerNorm<B>),
}

/// Which norm, and what of it a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// [`RmsNorm`].
    Rms,
    /// [`RmsNorm`] that multiplies by one more than its weight.
    RmsPlusOne,
    /// [`LayerNorm`] without parameters.
    LayerPlain,
    /// [`LayerNorm`] with a weight.
    Layer,
    /// [`LayerNorm`] with a weight and a bias.
    LayerBias,
    /// The same, that multiplies by one more than its weight.
    LayerBiasPlusOne,
}

impl<B: Backend> Norm<B> {
    /// A norm over `size` numbers whose parameters are not yet loaded.
    pub fn new(kind: NormKind, size: usize, eps: f64, device: &B::Device) -> Self {
        match kind {
            NormKind::Rms => Self::Rms(RmsNorm::new(size, eps, device)),
            NormKind::RmsPlusOne => Self::Rms(RmsNorm::plus_one(size, eps, device)),
            _ => Self::Layer(LayerNorm::new(kind, size, eps, device)),
        }
    }

    /// Hidden states to be normed on their way into linear layers.
    pub fn before(&self, x: Tensor<B, 3>) -> Input<'_, B> {
        match self {
            Self::Rms(norm) => norm.before(x),
            Self::Layer(norm) => norm.forward(x).into(),
        }
    }

    /// `[.., size]` → `[.., size]`, in the dtype of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Rms(norm) => norm.forward(x),
            Self::Layer(norm) => norm.forward(x),
        }
    }
}

/// Root-mean-square norm over the last dimension, computed in f32 (Zhang & Sennrich 2019, arXiv 1910.07467).
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    weight: Param<Tensor<B, 1>>,
    eps: f64,
    plus_one: bool,
}

impl<B: Backend> RmsNorm<B> {
    /// A norm over `size` numbers whose weight is not yet loaded.
    pub fn new(size: usize, eps: f64, device: &B::Device) -> Self {
        Self::of(parameter([size], device), eps)
    }

    /// A norm that multiplies by one more than its weight, which is not yet loaded.
    pub fn plus_one(size: usize, eps: f64, device: &B::Device) -> Self {
        Self { plus_one: true, ..Self::new(size, eps, device) }
    }

    /// A norm of this weight `[size]`.
    pub fn of(weight: Param<Tensor<B, 1>>, eps: f64) -> Self {
        Self { weight, eps, plus_one: false }
    }

    /// What the normed numbers are multiplied by, `[size]`.
    pub fn weight(&self) -> Tensor<B, 1> {
        let weight = self.weight.val();
        // In f32: near one, the dtypes of checkpoints are coarse.
        if self.plus_one { weight.cast(DType::F32) + 1.0 } else { weight }
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
        B::rms_norm(x, self.weight(), self.eps)
    }
}

/// `x / sqrt(mean(x²) + eps)` over the last dimension, computed in f32.
pub(super) fn rms<B: Backend, const D: usize>(x: Tensor<B, D>, eps: f64) -> Tensor<B, D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean = x.clone().square().mean_dim(D - 1);
    (x / (mean + eps).sqrt()).cast(dtype)
}
