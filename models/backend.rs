//! The operations that Burn's own are too slow or too hungry for, each with a portable body.

use burn::prelude::Tensor;
use burn::tensor::DType;

use crate::config::Activation;
use crate::layers::{Attention, AttentionInput, Sdpa};
use crate::portable;

/// A Burn backend with the few fused operations that decoders need.
///
/// Every operation has a default body in plain Burn operations, so `impl Backend for MyBackend {}` is enough for any
/// backend; a faster one overrides what it can.
pub trait Backend: burn::tensor::backend::Backend {
    /// Whether tensors made from host bytes use them where they lie, without a copy.
    const USES_HOST_MEMORY: bool = false;

    /// `x · weightᵀ + bias` in the dtype of `x`, whatever the dtype of the weight.
    ///
    /// Shapes: `x [batch, seq, in]`, `weight [out, in]` as safetensors stores it, `bias [out]`; the result is
    /// `[batch, seq, out]`.
    fn linear(x: Tensor<Self, 3>, weight: Tensor<Self, 2>, bias: Option<Tensor<Self, 1>>) -> Tensor<Self, 3> {
        portable::linear(x, weight, bias)
    }

    /// The sum of two tensors of one shape and dtype, `[batch, seq, hidden_size]`.
    fn add(x: Tensor<Self, 3>, y: Tensor<Self, 3>) -> Tensor<Self, 3> {
        x + y
    }

    /// `x / sqrt(mean(x²) + eps) · weight` over the last dimension, computed in f32, in the dtype of `x`.
    ///
    /// Shapes: `x [.., size]`, `weight [size]`; the result is `[.., size]`.
    fn rms_norm<const D: usize>(x: Tensor<Self, D>, weight: Tensor<Self, 1>, eps: f64) -> Tensor<Self, D> {
        portable::rms_norm(x, weight, eps)
    }

    /// Rotates the pairs `(x[i], x[i + head_dim / 2])` in f32 and gives them back in the dtype of `x`.
    ///
    /// Shapes: `x [batch, heads, seq, head_dim]`, `cos` and `sin` `[batch, 1, seq, head_dim / 2]` in f32; the result
    /// is `[batch, heads, seq, head_dim]`.
    fn rotate(x: Tensor<Self, 4>, cos: Tensor<Self, 4>, sin: Tensor<Self, 4>) -> Tensor<Self, 4> {
        portable::rotate(x, cos, sin)
    }

    /// `activation(gate) · up`, all `[batch, seq, intermediate_size]`.
    fn gated(activation: Activation, gate: Tensor<Self, 3>, up: Tensor<Self, 3>) -> Tensor<Self, 3> {
        portable::gated(activation, gate, up)
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
