//! The operations that Burn's own are too slow or too hungry for, each with a portable body.

use burn::prelude::Tensor;

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
        linear(x, weight, bias)
    }
}

/// The portable body of [`Backend::linear`].
pub(crate) fn linear<B: burn::tensor::backend::Backend>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 3> {
    let dtype = x.dtype();
    // The transposed view is what GPU kernels read best for one token; nothing is copied.
    let y = x.matmul(weight.cast(dtype).transpose().unsqueeze());
    match bias {
        Some(bias) => y + bias.cast(dtype).unsqueeze(),
        None => y,
    }
}

#[cfg(feature = "ndarray")]
impl Backend for burn::backend::NdArray {}

#[cfg(feature = "cuda")]
impl Backend for burn::backend::Cuda {}

#[cfg(feature = "wgpu")]
impl Backend for burn::backend::Wgpu {}
