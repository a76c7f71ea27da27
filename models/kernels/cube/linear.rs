use burn::prelude::Shape;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::tensor::{contiguous, empty, has_planes, readable, width};
use super::{linear_planes, linear_tiles};

/// Rows of input up to which weights are multiplied as they are read, whatever the dtypes.
const FEW_ROWS: usize = 64;

/// Rows of input up to which tensor cores read tiles of the weights again for other rows.
const SOME_ROWS: usize = 512;

/// `x [batch, seq, in]` by `weight [out, in]`, plus `bias [out]`; `None` where Burn's matrix product is the better one.
///
/// That one rounds f32 to 19 bits, so f32 is always multiplied here.
pub fn linear<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
) -> Option<CubeTensor<R>> {
    let ([batch, seq, inputs], outputs) = (x.meta.shape().dims(), weight.meta.shape()[0]);
    let rows = batch * seq;
    let suits = readable(&[x, weight, bias.unwrap_or(weight)]) && has_planes(&x.client);
    let f32 = x.dtype == DType::F32;
    if rows == 0 || (rows > SOME_ROWS && !f32) || !suits {
        return None;
    }
    // A weight of the record loader lies in one piece.
    let (x, weight) = (contiguous(x), contiguous(weight));
    let y = empty(&x, Shape::from([batch, seq, outputs]));
    let product = Product { x, weight, bias: bias.cloned(), y, rows, inputs, outputs };
    let width = width(&[&product.x, &product.weight], &[inputs]);
    if rows > 1 && linear_tiles::suits(&product, width) {
        linear_tiles::launch(&product);
    } else if rows <= FEW_ROWS || f32 {
        linear_planes::launch(&product, width);
    } else {
        return None;
    }
    Some(product.y)
}

/// `y [rows, outputs] = x [rows, inputs] · weightᵀ [outputs, inputs] + bias [outputs]`, all in one piece.
pub struct Product<R: CubeRuntime> {
    pub x: CubeTensor<R>,
    pub weight: CubeTensor<R>,
    pub bias: Option<CubeTensor<R>>,
    pub y: CubeTensor<R>,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl<R: CubeRuntime> Product<R> {
    /// The bias, or without one some array that a kernel is given and does not read.
    pub fn bias_array(&self) -> &CubeTensor<R> {
        self.bias.as_ref().unwrap_or(&self.weight)
    }
}
