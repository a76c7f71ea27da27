use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::linear::Product;
use super::tensor::{PLANE, array};

/// Planes of a cube.
const PLANES: u32 = 8;

/// Input rows that share a weight's load, and output columns that share an input's, when there are several rows.
const TILE: (usize, usize) = (8, 2);

/// Multiplies any dtypes, in f32.
pub fn launch<R: CubeRuntime>(product: &Product<R>, width: usize) {
    let Product { x, weight, bias, y, rows, inputs, outputs } = product;
    let (rows_at_once, outputs_at_once) = if *rows == 1 { (1, 1) } else { TILE };
    let row_tiles = rows.div_ceil(rows_at_once);
    let cubes = row_tiles * outputs.div_ceil(outputs_at_once * PLANES as usize);
    // SAFETY: rows and columns beyond the last are read as the last and not written.
    unsafe {
        planes::launch_unchecked(
            &x.client,
            CubeCount::Static(cubes as u32, 1, 1),
            CubeDim::new_2d(PLANE, PLANES),
            width,
            array(x),
            array(weight),
            array(product.bias_array()),
            array(y),
            inputs / width,
            *outputs,
            *rows,
            row_tiles,
            u32::from(bias.is_some()),
            rows_at_once,
            outputs_at_once,
            [x.dtype.into(), weight.dtype.into(), product.bias_array().dtype.into()],
        );
    }
}

/// One plane sums up a tile of the result: its units go through the inputs side by side, so that weights are read in
/// memory's order.
///
/// Tiles of the same outputs are neighbours, so that all rows find the weights in the cache.
#[cube(launch_unchecked)]
fn planes<X: Float, W: Float, A: Float, N: Size>(
    x: &Array<Vector<X, N>>,      // [rows, inputs]
    weight: &Array<Vector<W, N>>, // [outputs, inputs]
    bias: &Array<A>,              // [outputs]
    y: &mut Array<X>,             // [rows, outputs]
    inputs: usize,
    outputs: usize,
    rows: usize,
    row_tiles: usize,
    has_bias: u32,
    #[comptime] rows_at_once: usize,
    #[comptime] outputs_at_once: usize,
    #[define(X, W, A)] _dtypes: [StorageType; 3],
) {
    let cube = CUBE_POS_X as usize;
    let first_row = cube % row_tiles * rows_at_once;
    let first_output = (cube / row_tiles * CUBE_DIM_Y as usize + UNIT_POS_Y as usize) * outputs_at_once;

    let mut sums = Array::<f32>::new(rows_at_once * outputs_at_once);
    #[unroll]
    for i in 0..rows_at_once * outputs_at_once {
        sums[i] = 0.0f32;
    }
    let mut i = UNIT_POS_X as usize;
    while i < inputs {
        let mut weights = Array::<Vector<f32, N>>::new(outputs_at_once);
        #[unroll]
        for o in 0..outputs_at_once {
            let output = min(first_output + o, outputs - 1);
            weights[o] = Vector::cast_from(weight[output * inputs + i]);
        }
        #[unroll]
        for r in 0..rows_at_once {
            let row = min(first_row + r, rows - 1);
            let value = Vector::<f32, N>::cast_from(x[row * inputs + i]);
            #[unroll]
            for o in 0..outputs_at_once {
                let products = value * weights[o];
                #[unroll]
                for j in 0..N::value() {
                    sums[r * outputs_at_once + o] += products[j];
                }
            }
        }
        i += PLANE as usize;
    }
    #[unroll]
    for r in 0..rows_at_once {
        #[unroll]
        for o in 0..outputs_at_once {
            let sum = plane_sum(sums[r * outputs_at_once + o]);
            let (row, output) = (first_row + r, first_output + o);
            if UNIT_POS_X == 0 && row < rows && output < outputs {
                let mut sum = sum;
                if has_bias == 1 {
                    sum += f32::cast_from(bias[output]);
                }
                y[row * outputs + output] = X::cast_from(sum);
            }
        }
    }
}
