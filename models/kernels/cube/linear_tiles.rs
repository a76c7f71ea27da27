use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::linear::Product;
use super::mma::{COLUMNS, Pair, TILE, has_mma, multiply, nought, pair};
use super::tensor::{PLANE, array};

/// Planes of a cube; each takes its own part of the depth.
const PLANES: usize = 16;

/// Rows of the result that a cube makes.
const ROWS: usize = 32;

/// Columns of the result that a cube makes.
const OUTPUTS: usize = 32;

/// Numbers of a vector: 16 bytes of 16 bits each.
const WIDTH: usize = 8;

/// Whether the operands are of one dtype that tensor cores multiply, and in whole vectors.
pub fn suits<R: CubeRuntime>(product: &Product<R>, width: usize) -> bool {
    let Product { x, weight, .. } = product;
    x.dtype == weight.dtype && width == WIDTH && has_mma(&x.client, x.dtype)
}

/// Multiplies on tensor cores, with sums in f32.
pub fn launch<R: CubeRuntime>(product: &Product<R>) {
    let Product { x, weight, bias, y, rows, inputs, outputs } = product;
    // SAFETY: rows and columns beyond the last are read as the last and not written, the depth's end is read as zeros.
    unsafe {
        tiles::launch_unchecked(
            &x.client,
            CubeCount::Static(rows.div_ceil(ROWS) as u32, outputs.div_ceil(OUTPUTS) as u32, 1),
            CubeDim::new_2d(PLANE, PLANES as u32),
            WIDTH,
            array(x),
            array(weight),
            array(product.bias_array()),
            array(y),
            inputs / WIDTH,
            *outputs,
            *rows,
            u32::from(bias.is_some()),
            [x.dtype.into(), product.bias_array().dtype.into()],
        );
    }
}

/// One cube makes a block of the result: each plane multiplies blocks of the depth as wide as four vectors, the next
/// weights are on their way meanwhile, and at the end the planes put their sums together.
///
/// The weights are the left operand, see [`mma`](super::mma).
#[cube(launch_unchecked)]
fn tiles<X: Float, A: Float, N: Size>(
    x: &Array<Vector<X, N>>,      // [rows, inputs]
    weight: &Array<Vector<X, N>>, // [outputs, inputs]
    bias: &Array<A>,              // [outputs]
    y: &mut Array<X>,             // [rows, outputs]
    inputs: usize,
    outputs: usize,
    rows: usize,
    has_bias: u32,
    #[define(X, A)] _dtypes: [StorageType; 2],
) {
    let output_tiles = comptime!(OUTPUTS / TILE);
    let row_tiles = comptime!(ROWS / COLUMNS);
    let (unit, plane) = (UNIT_POS as usize, UNIT_POS_Y as usize);
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    let first_row = CUBE_POS_X as usize * ROWS;
    let first_output = CUBE_POS_Y as usize * OUTPUTS;

    let mut sums = Sequence::<Array<Pair<f32>>>::new();
    #[unroll]
    for _ in 0..row_tiles * output_tiles {
        sums.push(nought());
    }
    let mut column = plane * 4 + j;
    let mut coming = Array::<Vector<X, N>>::new(2 * output_tiles);
    #[unroll]
    for o in 0..2 * output_tiles {
        coming[o] = read::<X, N>(weight, first_output + o * 8 + i, outputs, column, inputs);
    }
    while column - j < inputs {
        let mut weights = Array::<Vector<X, N>>::new(2 * output_tiles);
        #[unroll]
        for o in 0..2 * output_tiles {
            weights[o] = coming[o];
        }
        let next = column + PLANES * 4;
        #[unroll]
        for o in 0..2 * output_tiles {
            coming[o] = read::<X, N>(weight, first_output + o * 8 + i, outputs, next, inputs);
        }
        let mut values = Array::<Vector<X, N>>::new(row_tiles);
        #[unroll]
        for r in 0..row_tiles {
            if first_row + r * COLUMNS < rows {
                values[r] = read::<X, N>(x, first_row + r * COLUMNS + i, rows, column, inputs);
            }
        }
        #[unroll]
        for step in 0..2usize {
            #[unroll]
            for o in 0..output_tiles {
                let (upper, lower) = (weights[2 * o], weights[2 * o + 1]);
                let mut left = Array::<Pair<X>>::new(4usize);
                left[0] = pair::<X, N>(upper, 4 * step, upper, 4 * step + 1);
                left[1] = pair::<X, N>(lower, 4 * step, lower, 4 * step + 1);
                left[2] = pair::<X, N>(upper, 4 * step + 2, upper, 4 * step + 3);
                left[3] = pair::<X, N>(lower, 4 * step + 2, lower, 4 * step + 3);
                #[unroll]
                for r in 0..row_tiles {
                    if first_row + r * COLUMNS < rows {
                        let mut right = Array::<Pair<X>>::new(2usize);
                        right[0] = pair::<X, N>(values[r], 4 * step, values[r], 4 * step + 1);
                        right[1] = pair::<X, N>(values[r], 4 * step + 2, values[r], 4 * step + 3);
                        multiply::<X>(&left, &right, sums.index_mut(r * output_tiles + o));
                    }
                }
            }
        }
        column = next;
    }

    // A round for each tile of rows: [planes, columns, outputs].
    let mut shared = SharedMemory::<f32>::new(PLANES * COLUMNS * OUTPUTS);
    #[unroll]
    for r in 0..row_tiles {
        if first_row + r * COLUMNS < rows {
            #[unroll]
            for o in 0..output_tiles {
                let part = sums.index(r * output_tiles + o);
                let (upper, lower) = (part[0], part[1]);
                let at = (plane * COLUMNS + 2 * j) * OUTPUTS + o * TILE + i;
                shared[at] = upper[0];
                shared[at + OUTPUTS] = upper[1];
                shared[at + 8] = lower[0];
                shared[at + OUTPUTS + 8] = lower[1];
            }
            sync_cube();
            let (row, output) = (first_row + r * COLUMNS + unit / OUTPUTS, first_output + unit % OUTPUTS);
            if unit < COLUMNS * OUTPUTS && row < rows && output < outputs {
                let mut sum = 0.0f32;
                #[unroll]
                for p in 0..PLANES {
                    sum += shared[p * COLUMNS * OUTPUTS + unit];
                }
                if has_bias == 1 {
                    sum += f32::cast_from(bias[output]);
                }
                y[row * outputs + output] = X::cast_from(sum);
            }
            sync_cube();
        }
    }
}

/// The vector at `column` of `row`; beyond the last row that one's, beyond the last column zeros.
#[cube]
fn read<X: Float, N: Size>(
    matrix: &Array<Vector<X, N>>,
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
) -> Vector<X, N> {
    let mut vector = Vector::<X, N>::new(X::from_int(0));
    if column < columns {
        vector = matrix[min(row, rows - 1) * columns + column];
    }
    vector
}
