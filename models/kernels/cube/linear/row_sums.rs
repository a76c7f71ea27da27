//! What planes leave behind in a cube's shared memory, `[planes, parts, rows of a block]`: a plane has a part in each block
//! that it has taken some eight groups of.

use cubecl::prelude::*;

use super::row::Blueprint;
use crate::kernels::cube::mma::TILE;

/// Puts a plane's sums of a block's rows down from `first` on, and begins with noughts again.
#[cube]
pub fn leave(sums: &mut Array<f32>, shared: &mut SharedMemory<f32>, first: usize) {
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    #[unroll]
    for row in 0..2usize {
        let mut sum = sums[row];
        sum += plane_shuffle_xor(sum, 1u32);
        sum += plane_shuffle_xor(sum, 2u32);
        if j == 0 {
            shared[first + row * TILE / 2 + i] = sum;
        }
        sums[row] = 0.0f32;
    }
}

/// The sum of what planes have left behind for row `at` of the cube's `nth` block.
#[cube]
pub fn joined(shared: &SharedMemory<f32>, nth: usize, at: usize, #[comptime] blueprint: Blueprint) -> f32 {
    let (eights, share, parts) = comptime!((blueprint.eights, blueprint.share, blueprint.parts()));
    let first = nth * eights / share;
    let last = ((nth + 1) * eights - 1) / share;
    let mut sum = 0.0f32;
    #[unroll]
    for p in 0..comptime!((eights.div_ceil(share) + 1).min(blueprint.planes())) {
        let plane = min(first + p, last);
        let part = plane * parts + nth - plane * share / eights;
        sum += select(first + p <= last, shared[part * TILE + at], 0.0f32);
    }
    sum
}
