//! The operations of [`Backend`](crate::Backend) in plain Burn operations, for any backend.

use burn::prelude::Tensor;
use burn::tensor::activation::{gelu, gelu_approximate, relu, silu};
use burn::tensor::{DType, s};

use crate::Backend;
use crate::config::Activation;
use crate::layers::Linear;

/// `x · weightᵀ + bias` for `x [batch, seq, in]` and a weight `[out, in]`.
pub fn linear<B: Backend>(x: Tensor<B, 3>, layer: &Linear<B>) -> Tensor<B, 3> {
    let dtype = x.dtype();
    // The transposed view is what GPU kernels read best for one token; nothing is copied.
    let y = x.matmul(layer.weight().dense().cast(dtype).transpose().unsqueeze());
    match layer.bias() {
        Some(bias) => y + bias.cast(dtype).unsqueeze(),
        None => y,
    }
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension.
pub fn rms_norm<B: Backend, const D: usize>(x: Tensor<B, D>, weight: Tensor<B, 1>, eps: f64) -> Tensor<B, D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = x.clone().square().mean_dim(D - 1);
    // Divided, not multiplied by `recip`: that is an approximation of 12 bits on ndarray.
    let x = x / (mean_square + eps).sqrt();
    (x * weight.cast(DType::F32).unsqueeze()).cast(dtype)
}

/// Turns the pairs `(x[i], x[i + head_dim / 2])` by the angles whose cosines and sines are given.
pub fn rotate<B: Backend>(x: Tensor<B, 4>, cos: Tensor<B, 4>, sin: Tensor<B, 4>) -> Tensor<B, 4> {
    let (dtype, half) = (x.dtype(), x.dims()[3] / 2);
    let x = x.cast(DType::F32);
    let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![first, b * cos + a * sin], 3).cast(dtype)
}

/// `activation(gate) · up`.
pub fn gated<B: Backend>(activation: Activation, gate: Tensor<B, 3>, up: Tensor<B, 3>) -> Tensor<B, 3> {
    let gate = match activation {
        Activation::Silu => silu(gate),
        Activation::Gelu => gelu(gate),
        Activation::GeluPytorchTanh => gelu_approximate(gate),
        Activation::Relu => relu(gate),
    };
    gate * up
}

/// Overwrites the columns from `at` on.
pub fn append<B: Backend>(buffer: Tensor<B, 4>, columns: Tensor<B, 4>, at: usize) -> Tensor<B, 4> {
    let end = at + columns.dims()[2];
    buffer.slice_assign(s![.., .., at..end, ..], columns)
}
