use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::launch;
use super::tensor::{Strides, array, readable, strides, width};

/// Units of a cube.
const UNITS: u32 = 128;

/// Writes `columns [batch, heads, seq, head_dim]` into `buffer [batch, heads, capacity, head_dim]` from column `at` on.
///
/// Whether the buffer may be written in place is the caller's to know; `false` says that nothing has been written.
pub fn append<R: CubeRuntime>(buffer: &CubeTensor<R>, columns: &CubeTensor<R>, at: usize) -> bool {
    let [batch, heads, seq, head_dim] = columns.meta.shape().dims();
    let [buffer_batch, buffer_heads, capacity, buffer_dim] = buffer.meta.shape().dims();
    let same = [buffer_batch, buffer_heads, buffer_dim] == [batch, heads, head_dim] && buffer.dtype == columns.dtype;
    if !same || at + seq > capacity || columns.meta.num_elements() == 0 || !readable(&[buffer, columns]) {
        return false;
    }
    let width = width(&[buffer, columns], &[head_dim]);
    let (Some(from), Some(to)) = (strides(columns, width), strides(buffer, width)) else {
        return false;
    };
    let (units, dtype) = (columns.meta.num_elements() / width, buffer.dtype.into());
    // SAFETY: the columns lie inside the buffer, and units beyond the last vector do nothing.
    unsafe {
        launch!(
            copy::Copy beside buffer,
            CubeCount::Static((units as u32).div_ceil(UNITS), 1, 1),
            CubeDim::new_1d(UNITS);
            X = dtype; N = width;
            columns: Array<Vector<copy::X, copy::N>> = array(columns),
            buffer: Array<Vector<copy::X, copy::N>> = array(buffer),
            from: Strides = from,
            to: Strides = to,
            heads: usize = heads,
            seq: usize = seq,
            head_dim: usize = head_dim / width,
            at: usize = at,
            units: usize = units;
            dtype = dtype,
        );
    }
    true
}

/// One unit copies one vector.
#[cube(launch_unchecked)]
fn copy<X: Float, N: Size>(
    columns: &Array<Vector<X, N>>,
    buffer: &mut Array<Vector<X, N>>,
    from: Strides,
    to: Strides,
    heads: usize,
    seq: usize,
    head_dim: usize,
    at: usize,
    units: usize,
    #[define(X)] _dtype: StorageType,
) {
    let unit = ABSOLUTE_POS;
    if unit < units {
        let i = unit % head_dim;
        let head = unit / head_dim % heads;
        let token = unit / (head_dim * heads); // of all sequences
        let (batch, column) = (token / seq, token % seq);
        let value = columns[batch * from.batch + head * from.head + column * from.column + i];
        buffer[batch * to.batch + head * to.head + (at + column) * to.column + i] = value;
    }
}
