use cubecl::prelude::*;

use super::block::Block;
use super::row::Blueprint;
use super::weights::Weights;
use crate::kernels::cube::mma::TILE;

/// Where a plane's next weights lie.
#[derive(CubeType)]
pub struct Cursor {
    /// The block, of all cubes' blocks.
    nth: usize,
    /// Eight groups of it.
    pub eight: usize,
    pub matrix: usize,
    /// The first groups of the rows that the unit loads of the block, `i` and `i + 8`.
    pub upper: usize,
    pub lower: usize,
}

#[cube]
impl Cursor {
    /// Before the `eight`th eight groups of the `nth` block.
    pub fn new<A: Float, M: Size>(
        matrices: &Sequence<Weights<u32, u32, A, M>>,
        nth: usize,
        eight: usize,
        groups: usize,
        #[comptime] blueprint: Blueprint,
    ) -> Cursor {
        let block = block_of::<A, M>(matrices, nth, blueprint);
        let (row, last) = (block.first + UNIT_POS_X as usize / 4, block.outputs - 1);
        let (upper, lower) = (min(row, last) * groups, min(row + TILE / 2, last) * groups);
        Cursor { nth, eight, matrix: block.matrix, upper, lower }
    }

    /// Goes on to the next eight groups, of this block or the next.
    pub fn advance<A: Float, M: Size>(
        &mut self,
        matrices: &Sequence<Weights<u32, u32, A, M>>,
        groups: usize,
        #[comptime] blueprint: Blueprint,
    ) {
        self.eight += 1;
        if self.eight == blueprint.eights {
            let next = Cursor::new::<A, M>(matrices, self.nth + 1, 0usize.runtime(), groups, blueprint);
            self.nth = next.nth;
            self.eight = 0;
            self.matrix = next.matrix;
            self.upper = next.upper;
            self.lower = next.lower;
        }
    }
}

/// The `nth` block; those of a gate and its partner come in turns.
#[cube]
pub fn block_of<A: Float, M: Size>(
    matrices: &Sequence<Weights<u32, u32, A, M>>,
    nth: usize,
    #[comptime] blueprint: Blueprint,
) -> Block {
    if comptime!(blueprint.of_result() == 2) {
        let mut block = Block::nth::<u32, u32, A, M>(matrices, nth / 2, TILE, 1usize);
        block.matrix = nth % 2;
        block
    } else {
        Block::nth::<u32, u32, A, M>(matrices, nth, TILE, blueprint.layers)
    }
}
