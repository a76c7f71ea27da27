use burn::backend::Flex;
use burn::prelude::Tensor;

use super::arrays::Arrays;
use super::heads;
use super::tensors::{exact, numbers, rounded};
use crate::config::Activation;
use crate::kernels::cpu::{Exact, gate_by_silu, multiply_each, rms_norm, team};
use crate::layers::{AttentionInput, Heads, Input, Linear};
use crate::{Backend, portable};

/// Numbers that a thread takes at a time where one follows from another.
const RUN: usize = 1 << 14;

impl Backend for Flex {
    const USES_HOST_MEMORY: bool = true;

    fn linears<const N: usize>(input: Input<'_, Self>, layers: [&Linear<Self>; N]) -> [Tensor<Self, 3>; N] {
        let (shape, dtype, x) = (input.x.dims(), input.x.dtype(), normed(input));
        let products = products(&x, exact(dtype), &layers);
        let mut layers = products.into_iter().zip(layers);
        std::array::from_fn(|_| {
            let (y, layer) = layers.next().expect("a product for each layer");
            rounded(y, shape_of(shape, layer), dtype)
        })
    }

    fn linear_add(x: Tensor<Self, 3>, layer: &Linear<Self>, residual: Tensor<Self, 3>) -> Tensor<Self, 3> {
        let (shape, dtype, x) = (x.dims(), x.dtype(), numbers(x));
        let mut y = products(&x, exact(dtype), &[layer]).remove(0);
        combine(&mut y, &numbers(residual), |y, residual| y.iter_mut().zip(residual).for_each(|(y, r)| *y += r));
        rounded(y, shape_of(shape, layer), dtype)
    }

    fn gated_linears(
        activation: Activation,
        input: Input<'_, Self>,
        gate: &Linear<Self>,
        up: &Linear<Self>,
    ) -> Tensor<Self, 3> {
        let (shape, dtype, x) = (input.x.dims(), input.x.dtype(), normed(input));
        let mut products = products(&x, exact(dtype), &[gate, up]);
        let (other, mut y) = (products.remove(1), products.remove(0));
        if activation != Activation::Silu {
            let [gate, up] = [(y, gate), (other, up)].map(|(y, layer)| rounded(y, shape_of(shape, layer), dtype));
            return portable::gated(activation, gate, up);
        }
        combine(&mut y, &other, gate_by_silu);
        rounded(y, shape_of(shape, gate), dtype)
    }

    fn rms_norm<const D: usize>(x: Tensor<Self, D>, weight: Tensor<Self, 1>, eps: f64) -> Tensor<Self, D> {
        let (shape, dtype, mut x) = (x.dims(), x.dtype(), numbers(x));
        rms_norm(&mut x, &numbers(weight), eps as f32, Exact::F32);
        rounded(x, shape, dtype)
    }

    fn append_heads(
        heads: Heads<'_, Self>,
        keys: Tensor<Self, 4>,
        values: Tensor<Self, 4>,
        at: usize,
    ) -> [Tensor<Self, 4>; 3] {
        heads::append(heads, keys, values, at)
    }

    fn attend(input: AttentionInput<'_, Self>) -> Tensor<Self, 4> {
        heads::attend(input)
    }

    fn fuses_attention(_head_dim: usize) -> bool {
        true
    }
}

/// The numbers of an input, normed, as exact as its dtype is.
fn normed(input: Input<'_, Flex>) -> Vec<f32> {
    let exact = exact(input.x.dtype());
    let mut x = numbers(input.x);
    if let Some(norm) = input.norm {
        rms_norm(&mut x, &numbers(norm.weight()), norm.eps() as f32, exact);
    }
    x
}

/// The shape of what a layer makes of an input `[batch, seq, in]`.
fn shape_of([batch, seq, _]: [usize; 3], layer: &Linear<Flex>) -> [usize; 3] {
    [batch, seq, layer.weight().shape()[0]]
}

/// The products of `x [.., in]` with some layers' weights, biases added.
fn products(x: &[f32], exact: Exact, layers: &[&Linear<Flex>]) -> Vec<Vec<f32>> {
    let arrays: Vec<_> = layers.iter().map(|layer| Arrays::of(layer.weight())).collect();
    let shapes = layers.iter().map(|layer| layer.weight().shape());
    let matrices = arrays.iter().zip(shapes).map(|(arrays, [outputs, inputs])| arrays.matrix(outputs, inputs));
    let mut products = multiply_each(x, exact, &matrices.collect::<Vec<_>>());
    for (y, layer) in products.iter_mut().zip(layers) {
        if let Some(bias) = layer.bias().map(numbers) {
            y.chunks_mut(bias.len().max(1)).for_each(|row| row.iter_mut().zip(&bias).for_each(|(y, b)| *y += b));
        }
    }
    products
}

/// Makes numbers out of pairs of them, with all threads where there are many.
fn combine(y: &mut [f32], other: &[f32], pairs: impl Fn(&mut [f32], &[f32]) + Sync) {
    match y.len() {
        ..=RUN => pairs(y, other),
        _ => team::each(y.chunks_mut(RUN).zip(other.chunks(RUN)), |(y, other)| pairs(y, other)),
    }
}
