use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::product::{Layer, Product};
use crate::kernels::cube::tensor::{array, array_of};
use crate::weight::Format;

/// A matrix `[outputs, inputs]` as kernels read it, and what belongs to it.
#[derive(CubeType, CubeLaunch)]
pub struct Weights<W: Numeric, S: Numeric, A: Float, M: Size> {
    /// Numbers, or words of codes.
    pub codes: Array<Vector<W, M>>,
    /// One array if the weights are packed, else none.
    pub scales: Sequence<Array<S>>,
    /// One array `[outputs]` if there is a bias, else none.
    pub bias: Sequence<Array<A>>,
    /// Rows.
    pub outputs: usize,
    /// [`ONE`], which the compiler is not to know: it masks bits and adds these in one instruction only if one of both
    /// is in a register.
    pub one: u32,
}

/// The bits of 1.
const ONE: u32 = 0x3f80_0000;

/// The dtypes of a product's codes, scales and biases, as kernels read them.
pub fn dtypes<R: CubeRuntime>(product: &Product<R>) -> [DType; 3] {
    let layer = &product.layers[0];
    let codes = layer.weight.format().map_or(layer.weight.codes().dtype, |_| DType::U32);
    let scales = match layer.weight.format() {
        Some(Format::Int8) => DType::BF16,
        Some(Format::Int4) => DType::U16,
        Some(Format::Fp8) => DType::F32,
        None => codes,
    };
    [codes, scales, layer.bias.as_ref().map_or(product.x.dtype, |bias| bias.dtype)]
}

/// A product's matrices, for a kernel.
pub fn weights<R: CubeRuntime, W: Numeric, S: Numeric, A: Float, M: Size>(
    product: &Product<R>,
) -> SequenceArg<R, Weights<W, S, A, M>> {
    let [codes, ..] = dtypes(product);
    let one = |layer: &Layer<R>| {
        WeightsLaunch::new(
            array_of(layer.weight.codes(), codes),
            layer.weight.scales().map(array).into_iter().collect(),
            layer.bias.as_ref().map(array).into_iter().collect(),
            layer.outputs,
            ONE,
        )
    };
    product.layers.iter().map(one).collect()
}
