//! CUDA: the kernels of [`cube`](super::cube) where they suit, else the portable bodies.

use burn::backend::Cuda;
use burn::prelude::{Int, Shape, Tensor};
use burn::tensor::{DType, TensorPrimitive};
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;

use super::cube;
use crate::config::Activation;
use crate::layers::{Attention, AttentionInput, Sdpa};
use crate::{Backend, portable};

impl Backend for Cuda {
    fn linear(x: Tensor<Self, 3>, weight: Tensor<Self, 2>, bias: Option<Tensor<Self, 1>>) -> Tensor<Self, 3> {
        let y = cube::linear(&inner(&x), &inner(&weight), bias.as_ref().map(inner).as_ref());
        y.map_or_else(|| portable::linear(x, weight, bias), outer)
    }

    fn add(x: Tensor<Self, 3>, y: Tensor<Self, 3>) -> Tensor<Self, 3> {
        cube::add(&inner(&x), &inner(&y)).map_or_else(|| x + y, outer)
    }

    fn rms_norm<const D: usize>(x: Tensor<Self, D>, weight: Tensor<Self, 1>, eps: f64) -> Tensor<Self, D> {
        let y = cube::rms_norm(&inner(&x), &inner(&weight), eps);
        y.map_or_else(|| portable::rms_norm(x, weight, eps), outer)
    }

    fn rotate(x: Tensor<Self, 4>, cos: Tensor<Self, 4>, sin: Tensor<Self, 4>) -> Tensor<Self, 4> {
        let y = cube::rotate(&inner(&x), &inner(&cos), &inner(&sin));
        y.map_or_else(|| portable::rotate(x, cos, sin), outer)
    }

    fn gated(activation: Activation, gate: Tensor<Self, 3>, up: Tensor<Self, 3>) -> Tensor<Self, 3> {
        let y = cube::gated(activation, &inner(&gate), &inner(&up));
        y.map_or_else(|| portable::gated(activation, gate, up), outer)
    }

    fn unwritten(shape: [usize; 4], device: &Self::Device, dtype: DType) -> Tensor<Self, 4> {
        outer(cube::unwritten(device, Shape::from(shape), dtype))
    }

    fn append(buffer: Tensor<Self, 4>, columns: Tensor<Self, 4>, at: usize) -> Tensor<Self, 4> {
        let target = buffer.into_primitive().tensor();
        let target = if target.can_mut() && target.is_nonoverlapping() { target } else { target.copy() };
        let written = cube::append(&target, &inner(&columns), at);
        let buffer = outer(target);
        if written { buffer } else { portable::append(buffer, columns, at) }
    }

    fn attend(input: AttentionInput<'_, Self>) -> Tensor<Self, 4> {
        let (mask, device) = (input.mask, input.q.device());
        let positions = |tensor: Tensor<Self, 1, Int>| tensor.into_primitive();
        let out = cube::attention(&cube::AttentionInput {
            q: inner(&input.q),
            k: inner(&input.k),
            v: inner(&input.v),
            query_positions: positions(mask.query_positions().on_device(&device)),
            key_positions: positions(mask.key_positions().on_device(&device)),
            start: input.columns.start,
            keys: input.columns.len(),
            dropped: mask.dropped(),
            window: mask.sliding_window(),
            scale: input.scale,
        });
        out.map_or_else(|| Sdpa::default().forward(input), outer)
    }

    fn fuses_attention(head_dim: usize) -> bool {
        cube::suits_attention(head_dim)
    }
}

fn inner<const D: usize>(x: &Tensor<Cuda, D>) -> CubeTensor<CudaRuntime> {
    x.clone().into_primitive().tensor()
}

fn outer<const D: usize>(x: CubeTensor<CudaRuntime>) -> Tensor<Cuda, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}
