use cubecl::prelude::*;
use half::f16;

use super::packed::words_of;
use super::row::Blueprint;
use super::row_codes::{inputs_of, pairs, products_of, step};
use super::row_load::Coming;
use super::staged::{EIGHT, Staged};
use crate::kernels::cube::mma::{Pair, multiply, nought};

/// Adds a unit's share of the products of eight groups with rows `i` and `i + 8` of a block to their `sums`.
#[cube]
pub fn eight_groups<M: Size>(
    staged: &Staged<M>,
    coming: &Coming<M>,
    eight: usize,
    one: u32,
    sums: &mut Array<f32>,
    #[comptime] blueprint: Blueprint,
) {
    let format = comptime!(blueprint.format);
    let (words, products) = comptime!((words_of(format), products_of(format)));
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    // Column `i` is the `i`th group, whose codes are those of one `j`, in the first four or the second: both are
    // multiplied by all columns, and what belongs together is chosen after.
    let inputs = staged.pairs(eight * EIGHT + i, i % 4 == j, blueprint);
    let mut halves = Sequence::<Array<Pair<f32>>>::new();
    halves.push(nought());
    halves.push(nought());
    #[unroll]
    for w in 0..words {
        #[unroll]
        for half in 0..2usize {
            let upper = pairs(coming.word(half, 0usize, w, format), one, format);
            let lower = pairs(coming.word(half, 1usize, w, format), one, format);
            #[unroll]
            for k in 0..products {
                let mut left = Array::<Pair<f16>>::new(4usize);
                left[0] = upper[2 * k];
                left[1] = lower[2 * k];
                left[2] = upper[2 * k + 1];
                left[3] = lower[2 * k + 1];
                let first = comptime!(inputs_of(w, k, format));
                let mut right = Array::<Pair<f16>>::new(2usize);
                right[0] = Pair::reinterpret(inputs[first]);
                right[1] = Pair::reinterpret(inputs[comptime!(first + 1)]);
                multiply::<f16>(&left, &right, halves.index_mut(half));
            }
        }
    }
    let (fours, others) = (halves.index(0usize), halves.index(1usize));
    #[unroll]
    for column in 0..2usize {
        let group = staged.group(eight * EIGHT + 2 * j + column);
        #[unroll]
        for row in 0..2usize {
            let (a, b) = (fours[row], others[row]);
            let product = select(j < 2, a[column], b[column]);
            let step = step(coming.scales(row), column, one, format);
            sums[row] += step.scale * group.scale * (product - group.base - step.zero * group.sum);
        }
    }
}
