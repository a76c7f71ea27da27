use std::ops::Range;

use super::ahead::Ahead;
use super::columns::Columns;
use super::entry::Entry;
use super::format::{self, Format, Kernel};
use super::matrix::{BLOCK, Matrix};
use super::simd::Simd;
use super::tile::Tile;
use super::work::Work;

/// Entries of a row of weights that are decoded at a time; times the outputs of a panel, what stays in the second-level
/// cache.
const DEPTH: usize = 256;

/// From one decoded row to the next: a cache line more than the row, lest rows fall on the same lines of the cache.
const STRIDE: usize = DEPTH + 16;

/// Registers of columns that a tile is wide.
const WIDTH: usize = 2;

/// Rows and outputs of products that are turned at a time: a cache line of each.
const SIDE: usize = 16;

/// Multiplies many rows of `x` by consecutive rows of a matrix, a panel that is decoded once for all of them.
pub(super) struct ManyRows<'a, 'x, E> {
    pub(super) matrix: Matrix<'a>,
    /// The first row of the matrix.
    pub(super) first: usize,
    pub(super) x: &'x Columns<E>,
    /// `[rows, panel]`
    pub(super) y: Vec<&'x mut [f32]>,
}

impl<E: Entry> Work for ManyRows<'_, '_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        format::run(simd, self);
    }
}

impl<'a, E: Entry> Kernel<'a> for ManyRows<'a, '_, E> {
    fn matrix(&self) -> Matrix<'a> {
        self.matrix
    }

    #[inline(always)]
    fn run<S: Simd, F: Format<'a>>(mut self, simd: S, weights: F) {
        assert!(E::NUMBERS == 1 || simd.multiplies_pairs(), "pairs are for instruction sets that multiply them");
        let panel = self.y.first().map_or(0, |y| y.len());
        let outputs = simd.outputs::<E>();
        let tiles = panel.div_ceil(outputs);
        let groups = self.x.groups().len();
        let columns = groups * S::LANES;
        let mut decoded = vec![E::default(); tiles * outputs * STRIDE];
        let mut sums = vec![0.0; tiles * outputs * columns]; // [panel, rows]
        let row = |i| weights.row(self.first + i, self.matrix.inputs());
        for start in (0..self.x.depth()).step_by(DEPTH) {
            let depth = DEPTH.min(self.x.depth() - start);
            for i in 0..panel {
                let row = row(i);
                let to = decoded[i * STRIDE..][..depth].chunks_exact_mut(BLOCK / E::NUMBERS);
                for (to, block) in to.zip(start * E::NUMBERS / BLOCK..) {
                    let whole = row.codes.get(block).zip(row.scales.get(block));
                    let (codes, scales) = whole
                        .or(row.rest.as_ref().map(|(codes, scales)| (codes, scales)))
                        .expect("as many blocks as of x");
                    E::decode::<S, F>(simd, codes, scales, to);
                }
            }
            let next = (start + DEPTH) * E::NUMBERS / BLOCK;
            for (group, x) in self.x.groups().enumerate().step_by(WIDTH) {
                // What is decoded next is asked for meanwhile, a share with each group.
                for i in panel * group / groups..panel * (group + WIDTH).min(groups) / groups {
                    let codes = row(i).codes.get(next..).unwrap_or_default();
                    codes.iter().take(DEPTH * E::NUMBERS / BLOCK).for_each(|codes| simd.ask(codes, Ahead::HERE));
                }
                for tile in 0..tiles {
                    let tile = Tile {
                        weights: decoded[tile * outputs * STRIDE..].as_ptr(),
                        weights_stride: STRIDE,
                        depth,
                        x: x[start * S::LANES..].as_ptr(),
                        group: x.len(),
                        width: WIDTH.min(groups - group),
                        sums: sums[tile * outputs * columns + group * S::LANES..].as_mut_ptr(),
                        sums_stride: columns,
                    };
                    // SAFETY: `decoded` has `outputs` rows of STRIDE entries from there, `x` has `depth` rows of this group
                    // and, if `width` says so, of the next, both of LANES columns and of whole blocks, and `sums` as many
                    // rows of all columns; `x` is pairs only where they are multiplied.
                    unsafe { simd.tile(tile) };
                }
            }
        }
        for (i, rows) in self.y.chunks_mut(SIDE).enumerate() {
            for output in (0..panel).step_by(SIDE) {
                write(&sums[output * columns..], columns, i * SIDE, rows, output..panel.min(output + SIDE));
            }
        }
    }
}

/// Turns the sums of some outputs and writes them, a line of each row at a time: rows that are a power of two apart
/// would drive one another out of the cache.
#[inline(always)]
fn write(sums: &[f32], columns: usize, first: usize, rows: &mut [&mut [f32]], outputs: Range<usize>) {
    let mut turned = [[0.0; SIDE]; SIDE];
    for (output, sums) in sums.chunks_exact(columns).take(outputs.len()).enumerate() {
        for (turned, sum) in turned.iter_mut().zip(&sums[first..][..rows.len()]) {
            turned[output] = *sum;
        }
    }
    for (y, turned) in rows.iter_mut().zip(&turned) {
        y[outputs.clone()].copy_from_slice(&turned[..outputs.len()]);
    }
}
