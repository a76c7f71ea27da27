//! Compares each operation of a backend with its portable body on the CPU, over plain and odd shapes.
//!
//! `cargo test -p leveret-models --features cuda -- --ignored --test-threads 1`, on a machine with a GPU.

use burn::backend::{Cuda, Flex};
use burn::prelude::Tensor;
use burn::tensor::{DType, Distribution};

use crate::config::Activation;
use crate::layers::{Attention, AttentionInput, Eager, Mask, PAD, Positions};
use crate::{Backend, portable};

const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

fn linear<B: Backend>(dtype: DType, weight_dtype: DType) {
    let shapes = [(1, 4096, 384), (1, 100, 33), (2, 64, 1), (3, 1000, 7), (8, 96, 17), (9, 70, 5), (31, 33, 40)];
    // Mixed 16-bit dtypes are left to Burn beyond 64 rows.
    let many = (dtype == weight_dtype || dtype == DType::F32).then_some((100, 136, 40));
    for (rows, inputs, outputs) in shapes.into_iter().chain([(64, 512, 64)]).chain(many) {
        let x = random([1, rows, inputs], dtype);
        let weight = random([outputs, inputs], weight_dtype) * (inputs as f64).powf(-0.5);
        let weight = weight.cast(weight_dtype).cast(DType::F32);
        for bias in [None, Some(random([outputs], weight_dtype))] {
            let want = portable::linear(x.clone(), weight.clone(), bias.clone());
            let (x, weight) = (there::<B, 3>(x.clone(), dtype), there(weight.clone(), weight_dtype));
            let got = Backend::linear(x, weight, bias.map(|bias| there(bias, weight_dtype)));
            same(got, want, dtype, &format!("linear {rows} {inputs} {outputs} {weight_dtype:?}"));
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

fn rotate<B: Backend>(dtype: DType) {
    for [batch, heads, seq, head_dim] in [[1, 32, 1, 128], [2, 3, 5, 80], [1, 2, 33, 6], [3, 1, 1, 2]] {
        let x = random([batch, seq, heads, head_dim], dtype);
        let [cos, sin] = [(); 2].map(|()| random([batch, 1, seq, head_dim / 2], DType::F32));
        let want = portable::rotate(x.clone().swap_dims(1, 2), cos.clone(), sin.clone());
        let (cos, sin) = (there::<B, 4>(cos, DType::F32), there(sin, DType::F32));
        // As layers make it, a view; and in one piece.
        let view = there::<B, 4>(x.clone(), dtype).swap_dims(1, 2);
        let whole = there::<B, 4>(x.swap_dims(1, 2), dtype);
        for x in [view, whole] {
            let got = B::rotate(x, cos.clone(), sin.clone());
            same(got, want.clone(), dtype, &format!("rotate {batch} {heads} {seq} {head_dim}"));
        }
    }
}

fn elementwise<B: Backend>(dtype: DType) {
    for shape in [[1, 1, 14336], [2, 3, 33], [1, 7, 2]] {
        let (x, y) = (random(shape, dtype), random(shape, dtype));
        let there = |x: &Tensor<Flex, 3>| there::<B, 3>(x.clone(), dtype);
        same(B::add(there(&x), there(&y)), x.clone() + y.clone(), dtype, &format!("add {shape:?}"));
        for activation in [Activation::Silu, Activation::Gelu, Activation::GeluPytorchTanh, Activation::Relu] {
            let want = portable::gated(activation, x.clone(), y.clone());
            same(B::gated(activation, there(&x), there(&y)), want, dtype, &format!("{activation:?} {shape:?}"));
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
        same(B::append(mine, columns.clone(), at), want.clone(), dtype, &label);
        // Somebody else's view of the buffer keeps its numbers.
        let kept = shared.clone();
        same(B::append(shared, columns, at), want, dtype, &label);
        same(kept, buffer, dtype, &label);
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
        Eager.forward(AttentionInput { q, k, v, columns, mask: &mask, scale })
    };
    let there = |x| there::<B, 4>(x, dtype);
    let input = AttentionInput { q: there(q).swap_dims(1, 2), k: there(k), v: there(v), columns, mask: &mask, scale };
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

/// Fails where `got` is further from `want` than the rounding of `dtype` explains.
fn near<const D: usize>(got: Tensor<Flex, D>, want: Tensor<Flex, D>, dtype: DType, label: &str) {
    assert_eq!(got.dims(), want.dims(), "{label}");
    let epsilon = match dtype {
        DType::BF16 => 2f32.powi(-8),
        DType::F16 => 2f32.powi(-11),
        _ => 2e-5,
    };
    let (got, want) = (got.into_data(), want.into_data());
    for (i, (got, want)) in got.iter::<f32>().zip(want.iter::<f32>()).enumerate() {
        let bound = epsilon * (1.0 + want.abs());
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
    let _ = log::set_logger(&Printer);
    log::set_max_level(log::LevelFilter::Warn);
    DTYPES.into_iter().for_each(check);
}

#[test]
#[ignore = "needs a GPU"]
fn linear_equals_the_portable_body() {
    on_cuda(|x| DTYPES.into_iter().for_each(|weight| linear::<Cuda>(x, weight)));
}

#[test]
#[ignore = "needs a GPU"]
fn rms_norm_equals_the_portable_body() {
    on_cuda(|x| DTYPES.into_iter().for_each(|weight| rms_norm::<Cuda>(x, weight)));
}

#[test]
#[ignore = "needs a GPU"]
fn rotate_equals_the_portable_body() {
    on_cuda(rotate::<Cuda>);
}

#[test]
#[ignore = "needs a GPU"]
fn elementwise_equals_the_portable_body() {
    on_cuda(elementwise::<Cuda>);
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
