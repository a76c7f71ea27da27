use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::product::{Layer, Matrix, Product};
use crate::kernels::cube::tensor::{array, array_of};
use crate::weight::Format;

/// A matrix `[outputs, inputs]` as kernels read it, and what belongs to it.
#[derive(CubeType, CubeLaunch)]
pub struct Weights<W: Numeric, S: Numeric, A: Float, M: Size> {
    /// Numbers, or words of codes.
    pub codes: Array<Vector<W, M>>,
    /// Of packed weights alone.
    pub scales: ComptimeOption<Array<S>>,
    /// `[outputs]`, if there is a bias.
    pub bias: ComptimeOption<Array<A>>,
    /// Rows.
    pub outputs: usize,
    /// [`ONE`], which the compiler is not to know: it masks bits and adds these in one instruction only if one of both
    /// is in a register.
    pub one: u32,
}

/// The bits of 1.
pub const ONE: u32 = 0x3f80_0000;

/// The dtype of a matrix's numbers or words of codes.
pub fn codes_dtype<R: CubeRuntime>(matrix: &Matrix<R>) -> DType {
    matrix.format().map_or(matrix.codes().dtype, |_| DType::U32)
}

/// The dtype of a packed matrix's scales; for a dense one that of its numbers.
pub fn scales_dtype<R: CubeRuntime>(matrix: &Matrix<R>) -> DType {
    match matrix.format() {
        Some(Format::Int8) => DType::BF16,
        Some(Format::Int4) => DType::U16,
        Some(Format::Fp8) => DType::F32,
        None => matrix.codes().dtype,
    }
}

/// The dtypes of a product's codes, scales and biases; a kernel may read them as others, see [`weights`].
pub fn dtypes<R: CubeRuntime>(product: &Product<R>) -> [DType; 3] {
    let Layer { weight, bias, .. } = &product.layers[0];
    [codes_dtype(weight), scales_dtype(weight), bias.as_ref().map_or(product.x.dtype, |bias| bias.dtype)]
}

/// A product's matrices, for a kernel that reads numbers or codes, and scales, as these dtypes.
pub fn weights<R: CubeRuntime, W: Numeric, S: Numeric, A: Float, M: Size>(
    product: &Product<R>,
    [codes, scales]: [DType; 2],
) -> SequenceArg<R, Weights<W, S, A, M>> {
    let one = |layer: &Layer<R>| {
        WeightsLaunch::new(
            array_of(layer.weight.codes(), codes),
            layer.weight.scales().map(|x| array_of(x, scales)).into(),
            layer.bias.as_ref().map(array).into(),
            layer.outputs,
            ONE,
        )
    };
    product.layers.iter().map(one).collect()
}

/// The bias of a row of a matrix.
#[cube]
pub fn bias_of<W: Numeric, S: Numeric, A: Float, M: Size>(
    matrices: &Sequence<Weights<W, S, A, M>>,
    matrix: usize,
    row: usize,
    #[comptime] layers: usize,
) -> f32 {
    let mut bias = 0.0f32;
    #[unroll]
    for m in 0..layers {
        if matrix == m {
            bias = f32::cast_from(matrices.index(m).bias.as_ref().unwrap()[row]);
        }
    }
    bias
}
