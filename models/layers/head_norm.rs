use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;

use super::layer_norm::standardised;
use super::{LayerNorm, Norm, NormKind, RmsNorm, parameter};
use crate::Backend;

/// What queries or keys are normed with.
#[derive(Module, Debug)]
pub enum HeadNorm<B: Backend> {
    /// Each head by the same norm over its numbers.
    Each(Norm<B>),
    /// All heads of a token together.
    Whole(Norm<B>),
    /// Each head with a weight of its own, in one tensor.
    Own(OwnWeights<B>),
    /// Each head by a norm of its own.
    List(NormList<B>),
}

/// How queries and keys are normed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QkNorm {
    /// Each head by the same norm.
    Each(NormKind),
    /// The same, behind the rotation.
    EachRotated(NormKind),
    /// All heads of a token together.
    Whole(NormKind),
    /// Each head by mean and deviation and a weight of its own.
    Own,
    /// The same, a tensor for each weight.
    List,
}

impl<B: Backend> HeadNorm<B> {
    /// A norm for `heads` heads whose parameters are not yet loaded.
    pub fn new(norm: QkNorm, [heads, head_dim]: [usize; 2], eps: f64, device: &B::Device) -> Self {
        match norm {
            QkNorm::Each(kind) | QkNorm::EachRotated(kind) => Self::Each(Norm::new(kind, head_dim, eps, device)),
            QkNorm::Whole(kind) => Self::Whole(Norm::new(kind, heads * head_dim, eps, device)),
            QkNorm::Own => Self::Own(OwnWeights { weight: parameter([heads, head_dim], device), eps }),
            QkNorm::List => {
                let norm = |_| LayerNorm::new(NormKind::Layer, head_dim, eps, device);
                Self::List(NormList { norms: (0..heads).map(norm).collect(), eps })
            }
        }
    }

    /// The norm that kernels know, if it is that.
    pub fn fusible(&self) -> Option<&RmsNorm<B>> {
        match self {
            Self::Each(Norm::Rms(norm)) => Some(norm),
            _ => None,
        }
    }

    /// `[batch, heads, seq, head_dim]` → the same.
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        match self {
            Self::Each(norm) => norm.forward(x),
            Self::Whole(norm) => {
                let [batch, heads, seq, head_dim] = x.dims();
                let x = x.swap_dims(1, 2).reshape([batch, seq, heads * head_dim]);
                norm.forward(x).reshape([batch, seq, heads, head_dim]).swap_dims(1, 2)
            }
            Self::Own(norm) => own(x, norm.weight.val(), norm.eps),
            Self::List(list) => {
                let weights = list.norms.iter().filter_map(LayerNorm::weight).map(|weight| weight.unsqueeze::<2>());
                own(x, Tensor::cat(weights.collect(), 0), list.eps)
            }
        }
    }
}

/// A weight for each head, `[heads, head_dim]`.
#[derive(Module, Debug)]
pub struct OwnWeights<B: Backend> {
    weight: Param<Tensor<B, 2>>,
    eps: f64,
}

/// A norm for each head.
#[derive(Module, Debug)]
pub struct NormList<B: Backend> {
    norms: Vec<LayerNorm<B>>,
    eps: f64,
}

/// Heads `[batch, heads, seq, head_dim]` with mean 0 and variance 1, times a weight `[heads, head_dim]`.
fn own<B: Backend>(x: Tensor<B, 4>, weight: Tensor<B, 2>, eps: f64) -> Tensor<B, 4> {
    let (dtype, [heads, head_dim]) = (x.dtype(), weight.dims());
    let weight = weight.cast(DType::F32).reshape([1, heads, 1, head_dim]);
    (standardised(x.cast(DType::F32), eps) * weight).cast(dtype)
}
