//! The operations that Burn's own are too slow or too hungry for, each with a portable body.

use burn::prelude::Tensor;
use burn::tensor::DType;

use crate::config::Activation;
use crate::layers::{Attention, AttentionInput, Heads, Input, Linear, Sdpa};
use crate::portable;

/// A Burn backend with the few fused operations that decoders need.
///
/// Every operation has a default body in plain Burn operations, so `impl Backend for MyBackend {}` is enough for any
/// backend; a faster one overrides what it can.
pub trait Backend: burn::tensor::backend::Backend {
    /// Whether tensors made from host bytes use them where they lie, without a copy.
    const USES_HOST_MEMORY: bool = false;

    /// Positions that a layer computes at a time at most: enough that weights are read once for many, few enough that
    /// what a layer makes of them stays small.
    const CHUNK: usize = 512;

    /// Bytes that kernels may take beside their inputs and results.
    const KERNEL_SCRATCH: usize = 8 << 20;

    /// What several linear layers make of the same input, normed before where it says so: `x · weightᵀ + bias` in the
    /// dtype of `x`, whatever the dtypes of the weights, dense or packed.
    ///
    /// Shapes: the input `[batch, seq, in]`, each weight `[out, in]`, each result `[batch, seq, out]`.
    fn linears<const N: usize>(input: Input<'_, Self>, layers: [&Linear<Self>; N]) -> [Tensor<Self, 3>; N] {
        let x = input.normed();
        layers.map(|layer| portable::linear(x.clone(), layer))
    }

    /// `residual + x · weightᵀ + bias`, all in the dtype of `x`.
    ///
    /// Shapes: `x [batch, seq, in]`, the weight `[out, in]`, `residual` and the result `[batch, seq, out]`.
    fn linear_add(x: Tensor<Self, 3>, layer: &Linear<Self>, residual: Tensor<Self, 3>) -> Tensor<Self, 3> {
        let [y] = Self::linears(x.into(), [layer]);
        residual + y
    }

    /// `activation(gate(input)) · up(input)`, the first half of a gated MLP.
    ///
    /// Shapes: the input `[batch, seq, in]`, both weights `[intermediate_size, in]`, the result
    /// `[batch, seq, intermediate_size]`.
    fn gated_linears(
        activation: Activation,
        input: Input<'_, Self>,
        gate: &Linear<Self>,
        up: &Linear<Self>,
    ) -> Tensor<Self, 3> {
        let [gate, up] = Self::linears(input, [gate, up]);
        portable::gated(activation, gate, up)
    }

    /// `x / sqrt(mean(x²) + eps) · weight` over the last dimension, computed in f32, in the dtype of `x`.
    ///
    /// Shapes: `x [.., size]`, `weight [size]`; the result is `[.., size]`.
    fn rms_norm<const D: usize>(x: Tensor<Self, D>, weight: Tensor<Self, 1>, eps: f64) -> Tensor<Self, D> {
        portable::rms_norm(x, weight, eps)
    }

    /// The matrix products `a · b`, of f32 in all of its bits.
    fn matmul<const D: usize>(a: Tensor<Self, D>, b: Tensor<Self, D>) -> Tensor<Self, D> {
        a.matmul(b)
    }

    /// A tensor whose numbers are undefined until they are written.
    fn unwritten(shape: [usize; 4], device: &Self::Device, dtype: DType) -> Tensor<Self, 4> {
        Tensor::empty(shape, (device, dtype))
    }

    /// Writes `columns` over those of `buffer` from column `at` on, in place where nobody else holds the buffer.
    ///
    /// Shapes: `buffer [batch, num_kv_heads, capacity, head_dim]`, `columns [batch, num_kv_heads, seq, head_dim]`.
    fn append(buffer: Tensor<Self, 4>, columns: Tensor<Self, 4>, at: usize) -> Tensor<Self, 4> {
        portable::append(buffer, columns, at)
    }

    /// Norms queries and keys where that is asked for, rotates them, and writes keys and values over the columns of the
    /// buffers from `at` on, in place where nobody else holds these.
    ///
    /// Shapes: the buffers `[batch, num_kv_heads, capacity, head_dim]`. Gives the queries
    /// `[batch, num_heads, seq, head_dim]` and the buffers of keys and values.
    fn append_heads(
        heads: Heads<'_, Self>,
        keys: Tensor<Self, 4>,
        values: Tensor<Self, 4>,
        at: usize,
    ) -> [Tensor<Self, 4>; 3] {
        let (q, k) = heads.rotated();
        [q, Self::append(keys, k, at), Self::append(values, heads.v, at)]
    }

    /// Attention over the KV cache as it lies; the result is `[batch, num_heads, q, head_dim]` in the dtype of `q`.
    fn attend(input: AttentionInput<'_, Self>) -> Tensor<Self, 4> {
        Sdpa::default().forward(input)
    }

    /// Whether [`attend`](Self::attend) is one kernel for heads of this width, which needs no room for scores.
    fn fuses_attention(head_dim: usize) -> bool {
        let _ = head_dim;
        false
    }
}

#[cfg(feature = "ndarray")]
impl Backend for burn::backend::NdArray {}

#[cfg(feature = "wgpu")]
impl Backend for burn::backend::Wgpu {}
