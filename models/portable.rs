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

/// Turns the pairs `(x[i], x[i + pairs])` by the angles whose `pairs` cosines and sines are given; what is beyond
/// them stays.
pub fn rotate<B: Backend>(x: Tensor<B, 4>, cos: Tensor<B, 4>, sin: Tensor<B, 4>) -> Tensor<B, 4> {
    let (pairs, [_, _, _, head_dim], dtype) = (cos.dims()[3], x.dims(), x.dtype());
    let rest = (head_dim > 2 * pairs).then(|| x.clone().narrow(3, 2 * pairs, head_dim - 2 * pairs));
    let (a, b) = (x.clone().narrow(3, 0, pairs), x.narrow(3, pairs, pairs));
    let turned = turned([a, b], cos, sin).map(|part| part.cast(dtype));
    Tensor::cat(turned.into_iter().chain(rest).collect(), 3)
}

/// Turns the pairs `(x[2 i], x[2 i + 1])`; what is beyond them stays.
pub fn rotate_neighbours<B: Backend>(x: Tensor<B, 4>, cos: Tensor<B, 4>, sin: Tensor<B, 4>) -> Tensor<B, 4> {
    let (pairs, [batch, heads, seq, head_dim], dtype) = (cos.dims()[3], x.dims(), x.dtype());
    let rest = (head_dim > 2 * pairs).then(|| x.clone().narrow(3, 2 * pairs, head_dim - 2 * pairs));
    let x = x.narrow(3, 0, 2 * pairs).reshape([batch, heads, seq, pairs, 2]);
    let [a, b] = [0, 1].map(|i| x.clone().narrow(4, i, 1).squeeze_dim::<4>(4));
    let turned = Tensor::stack::<5>(turned([a, b], cos, sin).to_vec(), 4).reshape([batch, heads, seq, 2 * pairs]);
    Tensor::cat(std::iter::once(turned.cast(dtype)).chain(rest).collect(), 3)
}

/// The pairs `(a, b)`, each `[batch, heads, seq, pairs]`, turned, in f32.
fn turned<B: Backend>([a, b]: [Tensor<B, 4>; 2], cos: Tensor<B, 4>, sin: Tensor<B, 4>) -> [Tensor<B, 4>; 2] {
    let (a, b) = (a.cast(DType::F32), b.cast(DType::F32));
    [a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin]
}

/// `activation(gate) · up`.
pub fn gated<B: Backend>(activation: Activation, gate: Tensor<B, 3>, up: Tensor<B, 3>) -> Tensor<B, 3> {
    activated(activation, gate) * up
}

/// `activation(x)`.
pub fn activated<B: Backend>(activation: Activation, x: Tensor<B, 3>) -> Tensor<B, 3> {
    match activation {
        Activation::Silu => silu(x),
        Activation::Gelu => gelu(x),
        Activation::GeluPytorchTanh => gelu_approximate(x),
        Activation::Relu => relu(x),
        Activation::Relu2 => relu(x).square(),
    }
}

/// The same numbers in a shape of more dimensions.
///
/// By way of one dimension, since Burn 0.21 may mistake the strides (`split_strides` of burn-std) of numbers that do not
/// lie in order where one of the dimensions is 1.
pub fn split<B: Backend, const D: usize, const E: usize>(x: Tensor<B, D>, shape: [usize; E]) -> Tensor<B, E> {
    let count = shape.iter().product::<usize>();
    x.reshape([count]).reshape(shape)
}

/// Overwrites the columns from `at` on.
pub fn append<B: Backend>(buffer: Tensor<B, 4>, columns: Tensor<B, 4>, at: usize) -> Tensor<B, 4> {
    let end = at + columns.dims()[2];
    buffer.slice_assign(s![.., .., at..end, ..], columns)
}

/// `ln(1 + exp(x))`, for numbers of any size.
pub fn softplus<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p()
}

/// Heads `[batch, heads, seq, width]`, each divided by its length.
pub fn of_length_one<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let length = (x.clone().square().sum_dim(3) + 1e-6).sqrt();
    x / length
}
