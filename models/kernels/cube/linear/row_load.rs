use cubecl::prelude::*;

use super::packed::{WORDS, words_of};
use super::row::{Blueprint, block_of};
use super::staged::EIGHT;
use super::weights::Weights;
use crate::kernels::cube::mma::TILE;
use crate::weight::Format;

/// Where a plane's next weights lie.
#[derive(CubeType)]
pub struct Cursor {
    /// The block, of all cubes' blocks.
    nth: usize,
    /// Eight groups of it.
    eight: usize,
    matrix: usize,
    /// The first groups of the rows that the unit loads of the block, `i` and `i + 8`.
    upper: usize,
    lower: usize,
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

    /// Goes on.
    pub fn step<A: Float, M: Size>(
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

/// Eight groups of rows `i` and `i + 8` of a block as unit `4 · i + j` sees them: the codes of the `j`th of each four,
/// the scales of the `j`th two.
#[derive(CubeType)]
pub struct Coming<M: Size> {
    /// `[fours, rows, vectors]`.
    codes: Array<Vector<u32, M>>,
    /// Of each row, see [`step`](super::row_codes::step).
    scales: Array<u32>,
}

#[cube]
impl<M: Size> Coming<M> {
    /// Room, not yet written.
    pub fn new(#[comptime] format: Format) -> Coming<M> {
        Coming::<M> { codes: Array::new(comptime!(4 * words_of(format) / WORDS)), scales: Array::new(2usize) }
    }

    /// Begins to load what is next.
    pub fn load<A: Float>(
        &mut self,
        matrices: &Sequence<Weights<u32, u32, A, M>>,
        cursor: &mut Cursor,
        groups: usize,
        #[comptime] blueprint: Blueprint,
    ) {
        let j = UNIT_POS_X as usize % 4;
        let (format, whole) = comptime!((blueprint.format, blueprint.whole));
        let vectors = comptime!(words_of(format) / WORDS);
        let first = cursor.eight * EIGHT;
        #[unroll]
        for m in 0..blueprint.layers {
            if cursor.matrix == m {
                let matrix = matrices.index(m);
                #[unroll]
                for row in 0..2usize {
                    let start = if comptime!(row == 0) { cursor.upper } else { cursor.lower };
                    #[unroll]
                    for half in 0..2usize {
                        let group = inside(first + 4 * half + j, groups - 1, whole);
                        #[unroll]
                        for v in 0..vectors {
                            self.codes[(2 * half + row) * vectors + v] = matrix.codes[(start + group) * vectors + v];
                        }
                    }
                    let scales = matrix.scales.as_ref().unwrap();
                    let group = inside(first + 2 * j, groups - 2, whole);
                    self.scales[row] = match format {
                        Format::Fp8 => {
                            let output = start / groups;
                            scales[output / 128 * ((groups + 3) / 4) + group / 4]
                        }
                        _ => scales[(start + group) / 2],
                    };
                }
            }
        }
        cursor.step::<A, M>(matrices, groups, blueprint);
    }

    /// What has come, so that more can be loaded.
    pub fn taken(&self, #[comptime] format: Format) -> Coming<M> {
        let mut taken = Coming::<M>::new(format);
        #[unroll]
        for v in 0..comptime!(4 * words_of(format) / WORDS) {
            taken.codes[v] = self.codes[v];
        }
        #[unroll]
        for row in 0..2usize {
            taken.scales[row] = self.scales[row];
        }
        taken
    }

    /// Word `w` of a group: of the first or second four, of row `i` or `i + 8`.
    pub fn word(
        &self,
        #[comptime] half: usize,
        #[comptime] row: usize,
        #[comptime] w: usize,
        #[comptime] format: Format,
    ) -> u32 {
        let vectors = comptime!(words_of(format) / WORDS);
        let vector = self.codes[comptime!((2 * half + row) * vectors + w / WORDS)];
        vector[comptime!(w % WORDS)]
    }

    /// The word with a row's scales.
    pub fn scales(&self, #[comptime] row: usize) -> u32 {
        self.scales[row]
    }
}

/// A group, or the last where there may be none.
#[cube]
fn inside(group: usize, last: usize, #[comptime] whole: bool) -> usize {
    if whole { group } else { min(group, last) }
}
