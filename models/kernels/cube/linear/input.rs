use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::product::Product;
use crate::kernels::cube::tensor::array;

/// Rows of input as kernels read them, and what they are normed with on the way.
#[derive(CubeType, CubeLaunch)]
pub struct Input<X: Float, G: Float, N: Size> {
    /// `[rows, inputs]`.
    pub x: Array<Vector<X, N>>,
    /// `[inputs]`, if there is a norm.
    pub gain: ComptimeOption<Array<Vector<G, N>>>,
    /// Vectors of a row.
    pub vectors: usize,
    /// Numbers of a row.
    pub numbers: f32,
    pub rows: usize,
    /// What the rows' mean squares are raised by.
    pub eps: f32,
}

/// A product's input in vectors of `width`, for a kernel.
pub fn input<R: CubeRuntime, X: Float, G: Float, N: Size>(
    product: &Product<R>,
    width: usize,
) -> InputLaunch<X, G, N, R> {
    InputLaunch::new(
        array(&product.x),
        product.norm.as_ref().map(|(gain, _)| array(gain)).into(),
        product.inputs / width,
        product.inputs as f32,
        product.rows,
        product.norm.as_ref().map_or(0.0, |(_, eps)| *eps) as f32,
    )
}

#[cube]
impl<X: Float, G: Float, N: Size> Input<X, G, N> {
    /// Vector `column` of a row, times the norm's weight where there is one; its squares are added to those of row `r`.
    pub fn normed(
        &self,
        row: usize,
        column: usize,
        squares: &mut Array<f32>,
        #[comptime] r: usize,
        #[comptime] norm: bool,
    ) -> Vector<f32, N> {
        let mut value = Vector::<f32, N>::cast_from(self.x[row * self.vectors + column]);
        if norm {
            let square = value * value;
            #[unroll]
            for j in 0..N::value() {
                squares[r] += square[j];
            }
            value *= Vector::cast_from(self.gain.as_ref().unwrap()[column]);
        }
        value
    }
}
