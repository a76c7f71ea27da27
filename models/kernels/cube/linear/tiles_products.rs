use cubecl::prelude::*;

use super::block::Block;
use super::input::Input;
use super::tiles::{Blueprint, DEPTH};
use super::tiles_load::{Coming, Part, load, taken, widened};
use super::weights::Weights;
use crate::kernels::cube::mma::{Pair, TILE, multiply, pair};

/// A plane's share of the products of rows with a block of a matrix, or of a gate and its partner, and of the rows'
/// squares.
#[cube]
pub fn products<X: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, X, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    block: &Block,
    first_row: usize,
    sums: &mut Sequence<Array<Pair<f32>>>,
    squares: &mut Array<f32>,
    #[comptime] matrix: usize,
    #[comptime] blueprint: Blueprint,
) {
    let (row_tiles, output_tiles) = comptime!((blueprint.row_tiles(), blueprint.outputs / TILE));
    let (stages, step) = comptime!((blueprint.stages, blueprint.planes * DEPTH));
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    let one = matrices.index(matrix).one;
    let mut coming = Coming::<X, W, S, N, M>::new(blueprint);
    // All planes go through as many parts, the last of which may be nothing: a loop of the same length for all leaves
    // the compiler fewer registers to fill.
    let depth = (input.vectors + comptime!(step - 1)) / step * step;
    let first_column = UNIT_POS_Y as usize * DEPTH + j;
    let mut column = first_column;
    #[unroll]
    for stage in 0..stages {
        let part = Part { first_row, i, j, column: column + stage * step };
        load::<X, W, S, A, N, M>(input, matrices, block, &part, stage, &mut coming, matrix, blueprint);
    }
    while column - first_column < depth {
        #[unroll]
        for stage in 0..stages {
            let mut lefts = Array::<Vector<X, Const<8>>>::new(2 * output_tiles);
            #[unroll]
            for o in 0..2 * output_tiles {
                let at = comptime!(stage * 2 * output_tiles + o);
                lefts[o] = widened::<X, W, S, M>(coming.codes[at], coming.scales[at], one, blueprint.format);
            }
            let mut rights = Array::<Vector<X, Const<8>>>::new(row_tiles);
            #[unroll]
            for r in 0..row_tiles {
                let mut right = taken(&coming.x, stage * row_tiles + r, j, blueprint.format);
                if comptime!(blueprint.normed) {
                    let number = Vector::<f32, Const<8>>::cast_from(right);
                    if column + stage * step < input.vectors {
                        let square = number * number;
                        #[unroll]
                        for n in 0..8usize {
                            squares[r] += square[n];
                        }
                    }
                    // In bf16, which takes fewer registers than in f32 and says the same.
                    right *= taken(&coming.gain, stage, j, blueprint.format);
                }
                rights[r] = right;
            }
            let part = Part { first_row, i, j, column: column + comptime!((stages + stage) * step) };
            load::<X, W, S, A, N, M>(input, matrices, block, &part, stage, &mut coming, matrix, blueprint);
            #[unroll]
            for half in 0..2usize {
                #[unroll]
                for o in 0..output_tiles {
                    let (upper, lower) = (lefts[2 * o], lefts[2 * o + 1]);
                    let mut left = Array::<Pair<X>>::new(4usize);
                    left[0] = pair::<X, Const<8>>(upper, 4 * half, upper, 4 * half + 1);
                    left[1] = pair::<X, Const<8>>(lower, 4 * half, lower, 4 * half + 1);
                    left[2] = pair::<X, Const<8>>(upper, 4 * half + 2, upper, 4 * half + 3);
                    left[3] = pair::<X, Const<8>>(lower, 4 * half + 2, lower, 4 * half + 3);
                    #[unroll]
                    for r in 0..row_tiles {
                        let mut right = Array::<Pair<X>>::new(2usize);
                        right[0] = pair::<X, Const<8>>(rights[r], 4 * half, rights[r], 4 * half + 1);
                        right[1] = pair::<X, Const<8>>(rights[r], 4 * half + 2, rights[r], 4 * half + 3);
                        multiply::<X>(&left, &right, sums.index_mut(r * output_tiles + o));
                    }
                }
            }
        }
        column += comptime!(stages * step);
    }
}
