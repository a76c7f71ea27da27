use cubecl::prelude::*;

use super::packed::{WORDS, scale_of, words_of};
use super::row::Blueprint;
use super::row_cursor::Cursor;
use super::staged::EIGHT;
use super::weights::Weights;
use crate::weight::Format;

/// Eight groups of rows `i` and `i + 8` of a block as unit `4 · i + j` sees them: the codes of the `j`th of each four,
/// the scales of the `j`th two.
#[derive(CubeType)]
pub struct Coming<M: Size> {
    /// `[fours, rows, vectors]`.
    codes: Array<Vector<u32, M>>,
    /// Of each row a word: two groups' scales, or the one that both have of fp8; see [`step`](super::row_codes::step).
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
                        let group = clamped(first + 4 * half + j, groups - 1, whole);
                        #[unroll]
                        for v in 0..vectors {
                            self.codes[(2 * half + row) * vectors + v] = matrix.codes[(start + group) * vectors + v];
                        }
                    }
                    let scales = matrix.scales.as_ref().unwrap();
                    let group = clamped(first + 2 * j, groups - 2, whole);
                    self.scales[row] = match format {
                        Format::Fp8 => scale_of::<u32>(scales, start / groups, group, groups, format),
                        _ => scales[(start + group) / 2],
                    };
                }
            }
        }
        cursor.advance::<A, M>(matrices, groups, blueprint);
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
fn clamped(group: usize, last: usize, #[comptime] whole: bool) -> usize {
    if whole { group } else { min(group, last) }
}
