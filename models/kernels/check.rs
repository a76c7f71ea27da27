//! Compares each operation of a backend with its portable body on the CPU, over plain and odd shapes.
//!
//! `cargo test -p leveret-models --features cuda -- --ignored --test-threads 1`, on a machine with a GPU.

mod attention;
mod heads;
mod linear;
mod norm;
mod recurrence;

use burn::backend::{Cuda, Flex};
use burn::module::{Param, ParamId};
use burn::prelude::Tensor;
use burn::tensor::{DType, Distribution};

use crate::layers::RmsNorm;
use crate::{Backend, portable};

const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

fn param<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Param<Tensor<B, D>> {
    Param::initialized(ParamId::new(), tensor)
}

fn norms<B: Backend>(size: usize, dtype: DType) -> (RmsNorm<Flex>, RmsNorm<B>) {
    let weight = random([size], dtype);
    (RmsNorm::of(param(weight.clone()), 1e-5), RmsNorm::of(param(there(weight, dtype)), 1e-5))
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

fn print_warnings() {
    let _ = log::set_logger(&Printer);
    log::set_max_level(log::LevelFilter::Warn);
}
