use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::launch;
use super::tensor::{array, contiguous, empty, readable, width};
use crate::config::Activation;

/// Units of a cube.
const UNITS: u32 = 256;

/// `x + y`.
pub fn add<R: CubeRuntime>(x: &CubeTensor<R>, y: &CubeTensor<R>) -> Option<CubeTensor<R>> {
    pairwise(x, y, Pairwise::Add)
}

/// `activation(gate) · up`.
pub fn gated<R: CubeRuntime>(
    activation: Activation,
    gate: &CubeTensor<R>,
    up: &CubeTensor<R>,
) -> Option<CubeTensor<R>> {
    pairwise(gate, up, Pairwise::Gated(activation))
}

/// What becomes of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pairwise {
    Add,
    Gated(Activation),
}

fn pairwise<R: CubeRuntime>(x: &CubeTensor<R>, y: &CubeTensor<R>, operation: Pairwise) -> Option<CubeTensor<R>> {
    let same = x.meta.shape() == y.meta.shape() && x.dtype == y.dtype;
    if !same || x.meta.num_elements() == 0 || !readable(&[x, y]) {
        return None;
    }
    let (x, y) = (contiguous(x.clone()), contiguous(y.clone()));
    let z = empty(&x, x.meta.shape().clone());
    // The width follows from the model's size, not from the number of tokens.
    let last = x.meta.shape().last().copied().unwrap_or(1);
    let width = width(&[&x, &y], &[last]);
    let (units, dtype) = (x.meta.num_elements() / width, x.dtype.into());
    // SAFETY: units beyond the last vector do nothing.
    unsafe {
        launch!(
            combine::Combine beside &z,
            CubeCount::Static((units as u32).div_ceil(UNITS), 1, 1),
            CubeDim::new_1d(UNITS);
            X = dtype; N = width;
            x: Array<Vector<combine::X, combine::N>> = array(&x),
            y: Array<Vector<combine::X, combine::N>> = array(&y),
            z: Array<Vector<combine::X, combine::N>> = array(&z),
            units: usize = units;
            operation = operation, dtype = dtype,
        );
    }
    Some(z)
}

/// One unit combines one vector of each.
#[cube(launch_unchecked)]
fn combine<X: Float, N: Size>(
    x: &Array<Vector<X, N>>,
    y: &Array<Vector<X, N>>,
    z: &mut Array<Vector<X, N>>,
    units: usize,
    #[comptime] operation: Pairwise,
    #[define(X)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < units {
        let a = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
        let b = Vector::<f32, N>::cast_from(y[ABSOLUTE_POS]);
        z[ABSOLUTE_POS] = Vector::cast_from(combined::<N>(a, b, operation));
    }
}

#[cube]
pub fn combined<N: Size>(a: Vector<f32, N>, b: Vector<f32, N>, #[comptime] operation: Pairwise) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    match operation {
        Pairwise::Add => a + b,
        Pairwise::Gated(Activation::Silu) => a / (one + Vector::exp(Vector::new(0.0f32) - a)) * b,
        Pairwise::Gated(Activation::Gelu) => {
            let erf = Vector::erf(a * Vector::new(std::f32::consts::FRAC_1_SQRT_2));
            a * Vector::new(0.5f32) * (one + erf) * b
        }
        Pairwise::Gated(Activation::GeluPytorchTanh) => {
            let cubed = a * a * a * Vector::new(0.044715f32);
            let tanh = Vector::tanh((a + cubed) * Vector::new(0.797_884_6f32)); // √(2/π)
            a * Vector::new(0.5f32) * (one + tanh) * b
        }
        Pairwise::Gated(Activation::Relu) => max(a, Vector::new(0.0f32)) * b,
        Pairwise::Gated(Activation::Relu2) => max(a, Vector::new(0.0f32)) * max(a, Vector::new(0.0f32)) * b,
    }
}
