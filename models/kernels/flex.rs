//! The CPU: weights are multiplied where they lie, by the kernels of [`cpu`](super::cpu).

use burn::backend::Flex;
use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData, TensorPrimitive};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::cpu::{Exact, Matrix, Weights, multiply_each};
use crate::config::Activation;
use crate::layers::{Input, Linear};
use crate::weight::{Format, Weight};
use crate::{Backend, portable};

/// Numbers that a thread takes at a time where one follows from another.
const RUN: usize = 1 << 14;

impl Backend for Flex {
    const USES_HOST_MEMORY: bool = true;

    fn linears<const N: usize>(input: Input<'_, Self>, layers: [&Linear<Self>; N]) -> [Tensor<Self, 3>; N] {
        let (shape, dtype, x) = (input.x.dims(), input.x.dtype(), numbers(input.normed()));
        let products = products(&x, exact(dtype), &layers);
        let mut layers = products.into_iter().zip(layers);
        std::array::from_fn(|_| {
            let (y, layer) = layers.next().expect("a product for each layer");
            tensor(y, shape, layer, dtype)
        })
    }

    fn linear_add(x: Tensor<Self, 3>, layer: &Linear<Self>, residual: Tensor<Self, 3>) -> Tensor<Self, 3> {
        let (shape, dtype, x) = (x.dims(), x.dtype(), numbers(x));
        let mut y = products(&x, exact(dtype), &[layer]).remove(0);
        combine(&mut y, &numbers(residual), |y, residual| *y += residual);
        tensor(y, shape, layer, dtype)
    }

    fn gated_linears(
        activation: Activation,
        input: Input<'_, Self>,
        gate: &Linear<Self>,
        up: &Linear<Self>,
    ) -> Tensor<Self, 3> {
        let (shape, dtype, x) = (input.x.dims(), input.x.dtype(), numbers(input.normed()));
        let mut products = products(&x, exact(dtype), &[gate, up]);
        let (other, mut y) = (products.remove(1), products.remove(0));
        if activation != Activation::Silu {
            let [gate, up] = [(y, gate), (other, up)].map(|(y, layer)| tensor(y, shape, layer, dtype));
            return portable::gated(activation, gate, up);
        }
        combine(&mut y, &other, |gate, up| *gate = *gate / (1.0 + (-*gate).exp()) * up);
        tensor(y, shape, gate, dtype)
    }

    fn rms_norm<const D: usize>(x: Tensor<Self, D>, weight: Tensor<Self, 1>, eps: f64) -> Tensor<Self, D> {
        let (shape, dtype, weight) = (x.shape(), x.dtype(), numbers(weight));
        let mut x = numbers(x);
        x.par_chunks_mut(weight.len().max(1)).with_min_len(8).for_each(|row| {
            let mean = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
            let root = (mean + eps as f32).sqrt();
            row.iter_mut().zip(&weight).for_each(|(x, weight)| *x = *x / root * weight);
        });
        Tensor::<Self, D>::from_data(TensorData::new(x, shape), &Default::default()).cast(dtype)
    }
}

/// A tensor's numbers in f32, row by row.
fn numbers<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    x.cast(DType::F32).into_data().into_vec().expect("a cast tensor is f32")
}

/// What numbers of this type are exact in.
fn exact(dtype: DType) -> Exact {
    if dtype == DType::BF16 { Exact::Bf16 } else { Exact::F32 }
}

/// What a layer has made of an input `[batch, seq, in]`.
fn tensor(y: Vec<f32>, [batch, seq, _]: [usize; 3], layer: &Linear<Flex>, dtype: DType) -> Tensor<Flex, 3> {
    let [outputs, _] = layer.weight().shape();
    Tensor::<Flex, 3>::from_data(TensorData::new(y, [batch, seq, outputs]), &Default::default()).cast(dtype)
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
fn combine(y: &mut [f32], other: &[f32], pair: impl Fn(&mut f32, f32) + Sync) {
    let runs = y.par_chunks_mut(RUN).zip(other.par_chunks(RUN));
    runs.for_each(|(y, other)| y.iter_mut().zip(other).for_each(|(y, other)| pair(y, *other)));
}

/// The memory that a weight lies in.
enum Arrays {
    Dense(FlexTensor),
    Packed(Format, FlexTensor, FlexTensor),
}

impl Arrays {
    fn of(weight: &Weight<Flex>) -> Self {
        match weight {
            Weight::Dense(weight) => match weight.val().into_primitive() {
                TensorPrimitive::Float(tensor) => Self::Dense(tensor.to_contiguous()),
                other => Self::Dense(Tensor::<Flex, 2>::from_primitive(other).into_primitive().tensor()),
            },
            Weight::Transposed(weight) => Self::of(&Weight::Dense(weight.clone().map(|weight| weight.transpose()))),
            Weight::Packed(packed) => {
                let [codes, scales] = [packed.codes(), packed.scales()].map(|x| x.into_primitive().to_contiguous());
                Self::Packed(packed.format(), codes, scales)
            }
        }
    }

    fn matrix(&self, outputs: usize, inputs: usize) -> Matrix<'_> {
        let weights = match self {
            Self::Dense(weights) => match weights.dtype() {
                DType::BF16 => Weights::Bf16(slice(weights)),
                DType::F16 => Weights::F16(slice(weights)),
                _ => Weights::F32(slice(weights)),
            },
            Self::Packed(Format::Int8, codes, scales) => Weights::Int8 { codes: slice(codes), scales: slice(scales) },
            Self::Packed(Format::Int4, codes, scales) => Weights::Int4 { codes: slice(codes), scales: slice(scales) },
            Self::Packed(Format::Fp8, codes, scales) => Weights::Fp8 { codes: slice(codes), scales: slice(scales) },
        };
        Matrix::new(weights, outputs, inputs)
    }
}

/// The numbers of a tensor that fills its memory, whatever they are called there.
fn slice<T: bytemuck::Pod>(tensor: &FlexTensor) -> &[T] {
    bytemuck::cast_slice(tensor.bytes())
}

#[cfg(test)]
mod tests {
    use burn::module::{Param, ParamId};
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::weight::Packed;

    const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

    fn layer(weight: Weight<Flex>, bias: Option<Tensor<Flex, 1>>) -> Linear<Flex> {
        Linear::of(weight, bias.map(|bias| Param::initialized(ParamId::new(), bias)))
    }

    fn dense(weight: Tensor<Flex, 2>) -> Weight<Flex> {
        Weight::Dense(Param::initialized(ParamId::new(), weight))
    }

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
    }

    /// One matrix in every format that suits it, each with the weights in f32 that it stands for.
    fn weights(outputs: usize, inputs: usize) -> Vec<(Weight<Flex>, Weight<Flex>)> {
        let weight = random([outputs, inputs]) * (inputs as f64).powf(-0.5);
        let dense_ones = DTYPES.map(|dtype| weight.clone().cast(dtype));
        let dense_ones = dense_ones.map(|weight| (dense(weight.clone()), dense(weight.cast(DType::F32))));
        let numbers = numbers(weight);
        let formats = Format::ALL.into_iter().filter(|format| format.suits([outputs, inputs]));
        let packed = formats.map(|format| {
            let packed = Packed::pack(format, &numbers, [outputs, inputs], &Default::default());
            let unpacked = packed.unpack();
            (Weight::Packed(packed), dense(unpacked))
        });
        dense_ones.into_iter().chain(packed.collect::<Vec<_>>()).collect()
    }

    fn assert_near<const D: usize>(got: Tensor<Flex, D>, want: Tensor<Flex, D>, dtype: DType) {
        assert_eq!(got.dtype(), dtype);
        let tolerance = if dtype == DType::F32 { Tolerance::absolute(2e-4) } else { Tolerance::rel_abs(0.02, 0.03) };
        let [got, want] = [got, want].map(|x| x.cast(DType::F32).into_data());
        got.assert_approx_eq::<f32>(&want, tolerance);
    }

    /// Every path and format gives what the portable body gives in f32.
    #[test]
    fn linear_equals_the_portable_body() {
        for (rows, inputs, outputs) in
            [(1, 64, 32), (3, 37, 5), (8, 100, 257), (9, 33, 65), (40, 70000, 19), (1, 256, 130), (40, 416, 130)]
        {
            let x = random([1, rows, inputs]);
            let bias = random([outputs]);
            for (weight, same) in weights(outputs, inputs) {
                let (layer, same) = (layer(weight, Some(bias.clone())), layer(same, Some(bias.clone())));
                for dtype in [DType::F32, DType::BF16] {
                    let x = x.clone().cast(dtype);
                    let want = portable::linear(x.clone().cast(DType::F32), &same);
                    let [got] = Flex::linears(x.into(), [&layer]);
                    assert_near(got, want, dtype);
                }
            }
        }
    }

    /// A residual is added, and a gate multiplied, as by the portable bodies in f32.
    #[test]
    fn linear_add_and_gated_linears_equal_the_portable_bodies() {
        for (rows, inputs, outputs) in [(1, 64, 40), (7, 128, 32), (30, 288, 130)] {
            let (x, residual) = (random([1, rows, inputs]), random([1, rows, outputs]));
            for ((weight, same), (up, same_up)) in weights(outputs, inputs).into_iter().zip(weights(outputs, inputs)) {
                let [gate, same, up, same_up] = [weight, same, up, same_up].map(|weight| layer(weight, None));
                for dtype in [DType::F32, DType::BF16] {
                    let [x, residual] = [&x, &residual].map(|x| x.clone().cast(dtype));
                    let [wide, wide_residual] = [&x, &residual].map(|x| x.clone().cast(DType::F32));
                    let want = portable::linear(wide.clone(), &same) + wide_residual;
                    assert_near(Flex::linear_add(x.clone(), &gate, residual), want, dtype);
                    for activation in [Activation::Silu, Activation::Gelu] {
                        let [first, last] = [&same, &same_up].map(|layer| portable::linear(wide.clone(), layer));
                        let want = portable::gated(activation, first, last);
                        assert_near(Flex::gated_linears(activation, x.clone().into(), &gate, &up), want, dtype);
                    }
                }
            }
        }
    }

    /// A row's result does not depend on its neighbours, to the bit, on any path.
    #[test]
    fn rows_are_independent() {
        for (weight, _) in weights(50, 96) {
            let layer = layer(weight, None);
            for (rows, dtype) in [(5, DType::F32), (20, DType::F32), (20, DType::BF16)] {
                let x = random([1, rows, 96]).cast(dtype);
                let others = random([1, rows - 1, 96]).cast(dtype);
                let other = Tensor::cat(vec![x.clone().narrow(1, 0, 1), others], 1);
                let first = |x: Tensor<Flex, 3>| layer.forward(x).narrow(1, 0, 1).into_data();
                assert_eq!(first(x), first(other));
            }
        }
    }
}
