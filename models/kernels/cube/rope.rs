use burn::prelude::Shape;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{Strides, array, contiguous, empty, readable, strides, width};

/// Units of a cube.
const UNITS: u32 = 128;

/// Rotates `x [batch, heads, seq, head_dim]` by `cos` and `sin` `[batch, 1, seq, head_dim / 2]`.
///
/// The result lies token by token, whatever `x` does: `[batch, seq, heads, head_dim]` in memory.
pub fn rotate<R: CubeRuntime>(x: &CubeTensor<R>, cos: &CubeTensor<R>, sin: &CubeTensor<R>) -> Option<CubeTensor<R>> {
    let [batch, heads, seq, head_dim] = x.meta.shape().dims();
    let half = head_dim / 2;
    let tables = [cos, sin].iter().all(|x| x.dtype == DType::F32 && x.meta.shape().dims() == [batch, 1, seq, half]);
    if x.meta.num_elements() == 0 || head_dim % 2 != 0 || !tables || !readable(&[x]) {
        return None;
    }
    let (cos, sin) = (contiguous(cos), contiguous(sin));
    let width = width(&[x, &cos, &sin], &[half]);
    let x_strides = strides(x, width)?;
    let mut y = empty(x, Shape::from([batch, seq, heads, head_dim]));
    let units = x.meta.num_elements() / 2 / width;
    // SAFETY: units beyond the last pair do nothing.
    unsafe {
        rotation::launch_unchecked(
            &x.client,
            CubeCount::Static((units as u32).div_ceil(UNITS), 1, 1),
            CubeDim::new_1d(UNITS),
            width,
            array(x),
            array(&cos),
            array(&sin),
            array(&y),
            x_strides,
            heads,
            seq,
            half / width,
            units,
            x.dtype.into(),
        );
    }
    y.meta.swap(1, 2);
    Some(y)
}

/// One unit turns one vector of pairs.
#[cube(launch_unchecked)]
fn rotation<X: Float, N: Size>(
    x: &Array<Vector<X, N>>,
    cos: &Array<Vector<f32, N>>, // [batch, seq, half]
    sin: &Array<Vector<f32, N>>, // [batch, seq, half]
    y: &mut Array<Vector<X, N>>, // [batch, seq, heads, 2 · half]
    strides: Strides,
    heads: usize,
    seq: usize,
    half: usize,
    units: usize,
    #[define(X)] _dtype: StorageType,
) {
    let unit = ABSOLUTE_POS;
    if unit < units {
        let pair = unit % half;
        let head = unit / half % heads;
        let token = unit / (half * heads); // of all sequences
        let from = token / seq * strides.batch + head * strides.head + token % seq * strides.column + pair;
        let to = (token * heads + head) * 2 * half + pair;
        let (a, b) = (Vector::<f32, N>::cast_from(x[from]), Vector::<f32, N>::cast_from(x[from + half]));
        let (cos, sin) = (cos[token * half + pair], sin[token * half + pair]);
        y[to] = Vector::cast_from(a * cos - b * sin);
        y[to + half] = Vector::cast_from(b * cos + a * sin);
    }
}
