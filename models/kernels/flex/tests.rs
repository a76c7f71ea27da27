use burn::backend::Flex;
use burn::module::{Param, ParamId};
use burn::prelude::Tensor;
use burn::tensor::{DType, Distribution, Tolerance};

use super::tensors::numbers;
use crate::config::Activation;
use crate::layers::{Attention as _, AttentionInput, Eager, Heads, Linear, Mask, PAD, Positions, RmsNorm, Rope};
use crate::weight::{Format, Packed, Weight};
use crate::{Backend, portable};

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

/// Attention of any lengths, widths, grouped heads, windows, padding, caps and sinks, in any dtype and over a part of the
/// buffers, gives what the definition gives.
#[test]
fn attend_equals_the_definition() {
    let cases = [(1, 0, 8), (1, 300, 64), (2, 13, 20), (7, 1, 128), (64, 70, 64), (129, 0, 40), (40, 100, 24)];
    for (queries, past, head_dim) in cases {
        for (heads, kv_heads) in [(6, 2), (3, 3), (20, 1)] {
            for (left, window, dtype, softcap, has_sinks) in [
                (0, None, DType::BF16, None, false),
                (3, None, DType::F32, Some(1.5), false),
                (0, Some(5), DType::F16, None, true),
                (2, Some(90), DType::F32, Some(20.0), true),
            ] {
                let columns = past + queries;
                let padded = |i: usize| i < left.min(columns - 1);
                let row = (0..columns).map(|i| if padded(i) { PAD } else { i as i32 });
                let keys = Positions::new(2, row.chain((0..columns).map(|i| i as i32)).collect());
                let last = keys.narrow(past..columns);
                let mask = Mask::new(&last, &keys, 0, window);
                let random = |shape| random::<4>(shape).cast(dtype);
                let q = random([2, queries, heads, head_dim]).swap_dims(1, 2);
                let buffer = || random([2, kv_heads, columns + 5, head_dim]);
                let (k, v, columns) = (buffer(), buffer(), 3..columns + 3);
                let sinks = has_sinks.then(|| self::random([heads]).cast(dtype));
                let input = || AttentionInput {
                    q: q.clone(),
                    k: k.clone(),
                    v: v.clone(),
                    columns: columns.clone(),
                    mask: &mask,
                    scale: 0.35,
                    softcap,
                    alibi: None,
                    sinks: sinks.clone(),
                };
                let (got, want) = (Flex::attend(input()), Eager.forward(input()));
                assert_eq!((got.dims(), got.dtype()), (want.dims(), dtype));
                // What padding attends to is nobody's business, as long as it is a number.
                assert!(numbers(got.clone()).into_iter().all(f32::is_finite));
                for row in 0..2 {
                    for i in (0..queries).filter(|i| last.row(row)[*i] != PAD) {
                        let at = |x: &Tensor<Flex, 4>| x.clone().narrow(0, row, 1).narrow(2, i, 1);
                        assert_near(at(&got), at(&want), dtype);
                    }
                }
            }
        }
    }
}

/// Heads are normed, rotated and appended as by the portable bodies; a buffer that somebody else holds stays as it is.
#[test]
fn append_heads_equals_the_portable_body() {
    for (seq, head_dim, normed) in [(1, 64, true), (5, 20, false), (300, 32, true)] {
        for dtype in DTYPES {
            let positions = Positions::new(2, (0..2 * seq).map(|i| i as i32).collect());
            let parameters = serde_json::from_str(r#"{"rope_theta": 10000.0}"#).expect("parameters");
            let rope = Rope::<Flex>::new(&parameters, head_dim, &positions, 2 * seq, &Default::default());
            let norm = RmsNorm::of(Param::initialized(ParamId::new(), random([head_dim]).cast(dtype)), 1e-5);
            let norm = normed.then_some(&norm);
            let random = |shape: [usize; 4]| random::<4>(shape).cast(dtype);
            let heads = |n| random([2, seq, n, head_dim]).swap_dims(1, 2);
            let heads = Heads { q: heads(6), k: heads(2), v: heads(2), q_norm: norm, k_norm: norm, rope: &rope };
            let buffer = random([2, 2, seq + 4, head_dim]);
            let before = buffer.to_data();
            let (q, k) = heads.rotated();
            let want =
                [q, portable::append(buffer.clone(), k, 3), portable::append(buffer.clone(), heads.v.clone(), 3)];
            let got = Flex::append_heads(heads, buffer.clone(), buffer.clone(), 3);
            got.into_iter().zip(want).for_each(|(got, want)| assert_near(got, want, dtype));
            assert_eq!(buffer.into_data(), before);
        }
    }
}

/// Norms of rows of any length are those of the portable body.
#[test]
fn rms_norm_equals_the_portable_body() {
    for shape in [[1, 1, 64], [3, 11, 37], [2, 40, 2048]] {
        for dtype in DTYPES {
            let (x, weight) = (random(shape).cast(dtype), random([shape[2]]).cast(dtype));
            let want = portable::rms_norm(x.clone(), weight.clone(), 1e-5);
            assert_near(Flex::rms_norm(x, weight, 1e-5), want, dtype);
        }
    }
}
