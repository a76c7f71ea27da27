use cubecl::prelude::*;

use super::weights::Weights;

/// Rows of a matrix that are multiplied together.
#[derive(CubeType, Clone, Copy)]
pub struct Block {
    /// Which matrix.
    pub matrix: usize,
    /// The first of the rows.
    pub first: usize,
    /// Rows of the matrix.
    pub outputs: usize,
    /// Rows of the matrices before it.
    pub before: usize,
}

#[cube]
impl Block {
    /// The `nth` block of `size` rows, counted through the first `layers` matrices, each of which begins with a block of
    /// its own.
    pub fn nth<W: Numeric, S: Numeric, A: Float, M: Size>(
        matrices: &Sequence<Weights<W, S, A, M>>,
        nth: usize,
        #[comptime] size: usize,
        #[comptime] layers: usize,
    ) -> Block {
        let mut block = nth;
        let (mut matrix, mut outputs, mut before) =
            (0usize.runtime(), matrices.index(0usize).outputs, 0usize.runtime());
        #[unroll]
        for m in 1..layers {
            let blocks = (outputs + comptime!(size - 1)) / size;
            if matrix == comptime!(m - 1) && block >= blocks {
                block -= blocks;
                before += outputs;
                matrix = m.runtime();
                outputs = matrices.index(m).outputs;
            }
        }
        Block { matrix, first: block * size, outputs, before }
    }
}
