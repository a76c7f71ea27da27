//! Compares each operation of a backend with its portable body on the CPU, over plain and odd shapes.
//!
//! `cargo test -p leveret-models --features cuda -- --ignored --test-threads 1`, on a machine with a GPU.

mod recurrence;

use burn::backend::{Cuda, Flex};
use burn::module::{Param, ParamId};
use burn::prelude::Tensor;
use burn::tensor::{DType, Distribution};

use crate::config::Activation;
use crate::layers::{
    Attention, AttentionInput, Eager, Heads, Input, Linear, Mask, PAD, Positions, RmsNorm, Rope, RopeParameters,
};
use crate::weight::{Format, Packed, Weight};
use crate::{Backend, portable};

const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// What a linear layer's weights are stored in.
#[derive(Debug, Clone, Copy)]
enum Stored {
    Dense(DType),
    Packed(Format),
}

impl Stored {
    fn all() -> impl Iterator<Item = Self> {
        DTYPES.into_iter().map(Self::Dense).chain(Format::ALL.into_iter().map(Self::Packed))
    }

    /// The dtype of biases beside it.
    fn bias(self, x: DType) -> DType {
        if let Self::Dense(dtype) = self { dtype } else { x }
    }
}

/// The same layer on both backends; on the CPU in f32.
fn layers<B: Backend>(stored: Stored, x: DType, shape: [usize; 2], bias: bool) -> (Linear<Flex>, Linear<B>) {
    let [outputs, inputs] = shape;
    let weight = random(shape, DType::F32) * (inputs as f64).powf(-0.5);
    let (here_weight, there_weight) = match stored {
        Stored::Dense(dtype) => {
            let weight = weight.cast(dtype).cast(DType::F32);
            (weight.clone(), Weight::Dense(param(there::<B, 2>(weight, dtype))))
        }
        Stored::Packed(format) => {
            let weight = weight.into_data().into_vec::<f32>().unwrap();
            let packed = Packed::<Flex>::pack(format, &weight, shape, &Default::default());
            (packed.unpack(), Weight::Packed(Packed::pack(format, &weight, shape, &Default::default())))
        }
    };
    let bias = bias.then(|| random([outputs], stored.bias(x)));
    let there_bias = bias.clone().map(|bias| param(there::<B, 1>(bias, stored.bias(x))));
    (Linear::of(Weight::Dense(param(here_weight)), bias.map(param)), Linear::of(there_weight, there_bias))
}

fn param<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Param<Tensor<B, D>> {
    Param::initialized(ParamId::new(), tensor)
}

fn norms<B: Backend>(size: usize, dtype: DType) -> (RmsNorm<Flex>, RmsNorm<B>) {
    let weight = random([size], dtype);
    (RmsNorm::of(param(weight.clone()), 1e-5), RmsNorm::of(param(there(weight, dtype)), 1e-5))
}

fn linear<B: Backend>(dtype: DType, stored: Stored) {
    let shapes = [(1, 4096, 384), (1, 96, 33), (2, 64, 1), (3, 992, 7), (8, 96, 17), (9, 128, 5), (31, 32, 40)];
    // Rows that no vector divides, and mixed 16-bit dtypes beyond 64 rows, are for dense weights of few rows.
    let odd = [(1, 100, 33), (3, 1001, 7), (9, 70, 5), (31, 33, 40)];
    let odd = odd.into_iter().filter(|_| matches!(stored, Stored::Dense(_)));
    let mixed = matches!(stored, Stored::Dense(weight) if weight != dtype && dtype != DType::F32);
    let many = [(64, 512, 64), (100, 160, 40), (600, 128, 72)].into_iter().filter(|(rows, ..)| *rows <= 64 || !mixed);
    for (rows, inputs, outputs) in shapes.into_iter().chain(odd).chain(many) {
        let x = random([1, rows, inputs], dtype);
        let there_x = || there::<B, 3>(x.clone(), dtype);
        let (norm, there_norm) = norms::<B>(inputs, dtype);
        for bias in [false, true] {
            let (a, there_a) = layers::<B>(stored, dtype, [outputs, inputs], bias);
            let (b, there_b) = layers::<B>(stored, dtype, [outputs, inputs], bias);
            let (c, there_c) = layers::<B>(stored, dtype, [outputs + 3, inputs], bias);
            let label = format!("{rows} {inputs} {outputs} {stored:?} bias {bias}");
            let one = |x: &Tensor<Flex, 3>, layer| portable::linear(x.clone(), layer);
            for normed in [false, true] {
                let input = match normed {
                    false => Input { x: there_x(), norm: None },
                    true => there_norm.before(there_x()),
                };
                let x = if normed { norm.forward(x.clone()) } else { x.clone() };
                let got = B::linears(input.clone(), [&there_a, &there_b, &there_c]);
                for (got, layer) in got.into_iter().zip([&a, &b, &c]) {
                    summed(got, one(&x, layer), dtype, &format!("linears {label} normed {normed}"));
                }
                let [got] = B::linears(input.clone(), [&there_c]);
                summed(got, one(&x, &c), dtype, &format!("one linear {label} normed {normed}"));
                let got = B::gated_linears(Activation::Silu, input, &there_a, &there_b);
                let (gate, up) = (one(&x, &a), one(&x, &b));
                let want = portable::gated(Activation::Silu, gate.clone(), up.clone());
                // What one factor's rounding costs grows with the other.
                let size = (gate.abs() + 1.0) * (up.abs() + 1.0) * 4.0;
                within(here(got, dtype), want, size, dtype, &format!("gated {label} normed {normed}"));
            }
            let residual = random([1, rows, outputs], dtype);
            let got = B::linear_add(there_x(), &there_a, there(residual.clone(), dtype));
            summed(got, one(&x, &a) + residual, dtype, &format!("linear_add {label}"));
        }
    }
}

fn rms_norm<B: Backend>(dtype: DType, weight_dtype: DType) {
    for shape in [[1, 1, 4096], [2, 3, 128], [1, 5, 33], [3, 1, 2], [1, 2, 5000]] {
        let (x, weight) = (random(shape, dtype), random([shape[2]], weight_dtype));
        let want = portable::rms_norm(x.clone(), weight.clone(), 1e-5);
        let got = B::rms_norm(there::<B, 3>(x, dtype), there(weight, weight_dtype), 1e-5);
        same(got, want, dtype, &format!("rms_norm {shape:?} {weight_dtype:?}"));
    }
}

fn heads<B: Backend>(dtype: DType) {
    for [batch, num_heads, kv_heads, seq, head_dim] in
        [[1, 32, 8, 1, 128], [2, 3, 1, 5, 80], [1, 2, 2, 33, 6], [3, 2, 1, 1, 2], [16, 8, 2, 1, 64]]
    {
        let ([q_norm, k_norm], at) = ([(); 2].map(|()| norms::<B>(head_dim, dtype)), 3);
        let positions = Positions::new(batch, (0..batch * seq).map(|i| i as i32 % 50).collect());
        let rope = Rope::new(&RopeParameters::default(), head_dim, &positions, 50, &Default::default());
        let there_rope = Rope::new(&RopeParameters::default(), head_dim, &positions, 50, &Default::default());
        let [q, k, v] = [num_heads, kv_heads, kv_heads].map(|n| random([batch, seq, n, head_dim], dtype));
        let buffers = [(); 2].map(|()| random([batch, kv_heads, at + seq + 2, head_dim], dtype));
        for normed in [false, true] {
            let view = |x: &Tensor<Flex, 4>| x.clone().swap_dims(1, 2);
            let want = Flex::append_heads(
                Heads {
                    q: view(&q),
                    k: view(&k),
                    v: view(&v),
                    q_norm: normed.then_some(&q_norm.0),
                    k_norm: normed.then_some(&k_norm.0),
                    rope: &rope,
                },
                buffers[0].clone(),
                buffers[1].clone(),
                at,
            );
            let view = |x: &Tensor<Flex, 4>| there::<B, 4>(x.clone(), dtype).swap_dims(1, 2);
            let got = B::append_heads(
                Heads {
                    q: view(&q),
                    k: view(&k),
                    v: view(&v),
                    q_norm: normed.then_some(&q_norm.1),
                    k_norm: normed.then_some(&k_norm.1),
                    rope: &there_rope,
                },
                there(buffers[0].clone(), dtype),
                there(buffers[1].clone(), dtype),
                at,
            );
            for (got, want) in got.into_iter().zip(want) {
                same(got, want, dtype, &format!("heads {batch} {num_heads} {seq} {head_dim} normed {normed}"));
            }
        }
    }
}

fn append<B: Backend>(dtype: DType) {
    for ([batch, heads, capacity, head_dim], seq, at) in
        [([1, 8, 64, 128], 1, 63), ([2, 3, 9, 5], 4, 2), ([1, 2, 300, 6], 255, 1)]
    {
        let buffer = random([batch, heads, capacity, head_dim], dtype);
        let columns = random([batch, seq, heads, head_dim], dtype);
        let want = portable::append(buffer.clone(), columns.clone().swap_dims(1, 2), at);
        let columns = there::<B, 4>(columns, dtype).swap_dims(1, 2);
        let (mine, shared) = (there::<B, 4>(buffer.clone(), dtype), there::<B, 4>(buffer.clone(), dtype));
        let label = format!("append {batch} {heads} {capacity} {head_dim} {seq} {at}");
        equal(B::append(mine, columns.clone(), at), want.clone(), dtype, &label);
        // Somebody else's view of the buffer keeps its numbers.
        let kept = shared.clone();
        equal(B::append(shared, columns, at), want, dtype, &label);
        equal(kept, buffer, dtype, &label);
    }
}

fn attention<B: Backend>(dtype: DType) {
    for (head_dim, heads, kv_heads) in [(128, 8, 2), (64, 4, 4), (80, 3, 1), (256, 2, 1), (96, 6, 1), (6, 4, 2)] {
        for (queries, past) in [(1, 0), (1, 700), (2, 3), (7, 0), (9, 40), (70, 150)] {
            for (left, dropped, window) in [(0, 0, None), (2, 0, None), (0, 0, Some(5)), (0, 3, Some(40))] {
                let shape = [2, heads, kv_heads, head_dim];
                attention_of::<B>(dtype, shape, queries, past.max(dropped), left, dropped, window);
            }
        }
    }
}

/// Two sequences, the first padded at the left, over buffers whose columns begin and end with something else.
fn attention_of<B: Backend>(
    dtype: DType,
    [batch, heads, kv_heads, head_dim]: [usize; 4],
    queries: usize,
    past: usize,
    left: usize,
    dropped: usize,
    window: Option<usize>,
) {
    let (start, total) = (2, past + queries);
    let keys = total - dropped;
    let left = left.min(total - 1);
    let row = |pad: usize| (0..total).map(move |i| if i < pad { PAD } else { (i - pad) as i32 });
    let positions = Positions::new(batch, row(left).chain(row(0)).collect());
    let last = positions.narrow(past..total);
    let mask = Mask::new(&last, &positions, dropped, window);

    let q = random([batch, queries, heads, head_dim], dtype);
    let [k, v] = [(); 2].map(|()| random([batch, kv_heads, start + keys + 3, head_dim], dtype));
    let (columns, scale) = (start..start + keys, (head_dim as f64).powf(-0.5));
    let want = {
        let (q, k, v, columns) = (q.clone().swap_dims(1, 2), k.clone(), v.clone(), columns.clone());
        Eager.forward(AttentionInput { q, k, v, columns, mask: &mask, scale, sinks: None, softcap: None, alibi: None })
    };
    let there = |x| there::<B, 4>(x, dtype);
    let input = AttentionInput {
        q: there(q).swap_dims(1, 2),
        k: there(k),
        v: there(v),
        columns,
        mask: &mask,
        scale,
        sinks: None,
        softcap: None,
        alibi: None,
    };
    let got = here(B::attend(input), dtype);
    let label = format!("attention {head_dim} {heads}/{kv_heads} {queries}+{past} {left} {dropped} {window:?}");
    assert!(got.clone().into_data().iter::<f32>().all(f32::is_finite), "{label}");
    // What padding attends to is nobody's business, as long as it is a number.
    for row in 0..batch {
        let pads = last.row(row).iter().take_while(|position| **position == PAD).count();
        if pads < queries {
            let seen = |x: &Tensor<Flex, 4>| x.clone().narrow(0, row, 1).narrow(2, pads, queries - pads);
            near(seen(&got), seen(&want), dtype, &label);
        }
    }
}

/// Random numbers that `dtype` can hold, in f32.
fn random<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<Flex, D> {
    let x = Tensor::<Flex, D>::random(shape, Distribution::Normal(0.0, 1.0), &Default::default());
    x.cast(dtype).cast(DType::F32)
}

/// The tensor on the other backend, as `dtype`.
fn there<B: Backend, const D: usize>(x: Tensor<Flex, D>, dtype: DType) -> Tensor<B, D> {
    let data = x.into_data().convert_dtype(dtype);
    Tensor::from_data(data, (&Default::default(), dtype))
}

/// The tensor on the CPU, in f32.
fn here<B: Backend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<Flex, D> {
    assert_eq!(x.dtype(), dtype);
    Tensor::from_data(x.into_data().convert_dtype(DType::F32), (&Default::default(), DType::F32))
}

fn same<B: Backend, const D: usize>(got: Tensor<B, D>, want: Tensor<Flex, D>, dtype: DType, label: &str) {
    near(here(got, dtype), want, dtype, label);
}

/// Of products: their inputs, what is multiplied before a bias and weights that were unpacked are rounded, too, and of
/// many thousand sums the unluckiest is looked at.
fn summed<B: Backend, const D: usize>(got: Tensor<B, D>, want: Tensor<Flex, D>, dtype: DType, label: &str) {
    let size = (want.clone().abs() + 1.0) * 4.0;
    within(here(got, dtype), want, size, dtype, label);
}

fn equal<B: Backend, const D: usize>(got: Tensor<B, D>, want: Tensor<Flex, D>, dtype: DType, label: &str) {
    let size = want.zeros_like();
    within(here(got, dtype), want, size, dtype, label);
}

/// Fails where `got` is further from `want` than the rounding of `dtype` explains.
fn near<const D: usize>(got: Tensor<Flex, D>, want: Tensor<Flex, D>, dtype: DType, label: &str) {
    let size = want.clone().abs() + 1.0;
    within(got, want, size, dtype, label);
}

/// Fails where `got` is further from `want` than rounding numbers of this size to `dtype` explains.
fn within<const D: usize>(
    got: Tensor<Flex, D>,
    want: Tensor<Flex, D>,
    size: Tensor<Flex, D>,
    dtype: DType,
    label: &str,
) {
    assert_eq!(got.dims(), want.dims(), "{label}");
    let epsilon = match dtype {
        // Twice what the result's own rounding costs: what a norm gives is rounded, too.
        DType::BF16 => 2f32.powi(-7),
        DType::F16 => 2f32.powi(-10),
        _ => 2e-5,
    };
    let (got, want, size) = (got.into_data(), want.into_data(), size.into_data());
    for (i, ((got, want), size)) in got.iter::<f32>().zip(want.iter::<f32>()).zip(size.iter::<f32>()).enumerate() {
        let bound = epsilon * size;
        assert!((got - want).abs() <= bound, "{label} {dtype:?}: {got} at {i}, expected {want}");
    }
}

/// Kernels that do not compile are told of in warnings alone.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

fn on_cuda(check: fn(DType)) {
    print_warnings();
    DTYPES.into_iter().for_each(check);
}

fn linear_of_all(x: DType) {
    print_warnings();
    Stored::all().for_each(|stored| linear::<Cuda>(x, stored));
}

fn print_warnings() {
    let _ = log::set_logger(&Printer);
    log::set_max_level(log::LevelFilter::Warn);
}

#[test]
#[ignore = "needs a GPU"]
fn linear_equals_the_portable_body_in_f32() {
    linear_of_all(DType::F32);
}

#[test]
#[ignore = "needs a GPU"]
fn linear_equals_the_portable_body_in_bf16() {
    linear_of_all(DType::BF16);
}

#[test]
#[ignore = "needs a GPU"]
fn linear_equals_the_portable_body_in_f16() {
    linear_of_all(DType::F16);
}

#[test]
#[ignore = "needs a GPU"]
fn rms_norm_equals_the_portable_body() {
    on_cuda(|x| DTYPES.into_iter().for_each(|weight| rms_norm::<Cuda>(x, weight)));
}

#[test]
#[ignore = "needs a GPU"]
fn heads_equal_the_portable_body() {
    on_cuda(heads::<Cuda>);
}

#[test]
#[ignore = "needs a GPU"]
fn append_equals_the_portable_body() {
    on_cuda(append::<Cuda>);
}

#[test]
#[ignore = "needs a GPU"]
fn attention_equals_the_definition() {
    on_cuda(attention::<Cuda>);
}
