use cubecl::prelude::*;

use super::input::Input;
use super::planes::Blueprint;
use super::sums::Sums;
use super::weights::Weights;
use crate::kernels::cube::tensor::PLANE;

/// Each unit's share of the products with dense weights, and of the rows' squares.
#[cube]
pub fn dense_products<X: Float, G: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, G, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    first_row: usize,
    first_output: usize,
    sums: &mut Sums,
    #[comptime] first_matrix: usize,
    #[comptime] blueprint: Blueprint,
) {
    let (rows, columns, loads) = comptime!((blueprint.rows, blueprint.columns(), blueprint.loads));
    let step = comptime!(loads * PLANE as usize);
    let mut i = UNIT_POS_X as usize + UNIT_POS_Y as usize % blueprint.splits * step;
    while i < input.vectors {
        let mut weights = Array::<Vector<W, M>>::new(comptime!(loads * columns));
        #[unroll]
        for l in 0..loads {
            let at = min(i + comptime!(l * PLANE as usize), input.vectors - 1);
            #[unroll]
            for o in 0..columns {
                let matrix = matrices.index(comptime!(first_matrix + o / blueprint.outputs));
                let output = min(first_output + comptime!(o % blueprint.outputs), matrix.outputs - 1);
                weights[l * columns + o] = matrix.codes[output * input.vectors + at];
            }
        }
        #[unroll]
        for l in 0..loads {
            let at = i + comptime!(l * PLANE as usize);
            if at < input.vectors {
                #[unroll]
                for r in 0..rows {
                    let value =
                        input.normed(min(first_row + r, input.rows - 1), at, &mut sums.squares, r, blueprint.normed);
                    #[unroll]
                    for o in 0..columns {
                        let product = value * Vector::<f32, N>::cast_from(weights[l * columns + o]);
                        #[unroll]
                        for j in 0..N::value() {
                            sums.products[r * columns + o] += product[j];
                        }
                    }
                }
            }
        }
        i += comptime!(blueprint.splits * step);
    }
}
