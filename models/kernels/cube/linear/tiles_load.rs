use cubecl::prelude::*;

use super::block::Block;
use super::input::Input;
use super::packed::{code, scale_of, step};
use super::tiles::{Blueprint, DEPTH, OUTPUTS};
use super::weights::Weights;
use crate::kernels::cube::mma::COLUMNS;
use crate::weight::{Format, GROUP};

/// What is on its way to a unit, stage by stage.
#[derive(CubeType)]
pub struct Coming<X: Float, W: Numeric, S: Numeric, N: Size, M: Size> {
    /// Of every eighth row of the block: eight numbers, or the codes of as many.
    pub codes: Array<Vector<W, M>>,
    /// And their scales.
    pub scales: Array<S>,
    /// Of a row of each tile of the input: the numbers that those are multiplied by, in one vector or two.
    x: Array<Vector<X, N>>,
}

/// A part of the depth as a unit sees it: row `i` of every eight, vector `j` of four.
#[derive(CubeType, Clone, Copy)]
pub struct Part {
    pub first_row: usize,
    pub i: usize,
    pub j: usize,
    /// The vector.
    pub column: usize,
}

#[cube]
impl<X: Float, W: Numeric, S: Numeric, N: Size, M: Size> Coming<X, W, S, N, M> {
    /// Room for all stages.
    pub fn new(#[comptime] blueprint: Blueprint) -> Coming<X, W, S, N, M> {
        let weights = comptime!(blueprint.stages * OUTPUTS / 8);
        let vectors = comptime!(blueprint.stages * blueprint.row_tiles() * vectors(blueprint.format));
        Coming::<X, W, S, N, M> { codes: Array::new(weights), scales: Array::new(weights), x: Array::new(vectors) }
    }

    /// Eight numbers of the `r`th row of input, those that the weights of the same unit are multiplied by.
    pub fn input(&self, #[comptime] r: usize, j: usize, #[comptime] format: Option<Format>) -> Vector<X, Const<8>> {
        if comptime!(format == Some(Format::Int4)) {
            // Four neighbours and the four that are 16 further, each half of a vector.
            let mut vector = Vector::<X, Const<8>>::empty();
            let (near, far) = (self.x[2 * r], self.x[2 * r + 1]);
            let upper = j % 2 == 1;
            #[unroll]
            for n in 0..4usize {
                vector[n] = select(upper, near[n + 4], near[n]);
                vector[n + 4] = select(upper, far[n + 4], far[n]);
            }
            vector
        } else {
            Vector::cast_from(self.x[r])
        }
    }
}

/// Vectors that hold what a unit multiplies of a row of input.
fn vectors(format: Option<Format>) -> usize {
    if format == Some(Format::Int4) { 2 } else { 1 }
}

/// Begins to load what the unit multiplies of a part: of row `8 · o + i` of the cube's block, for all `o`, and of row
/// `i` of each tile of the input.
#[cube]
#[allow(clippy::if_same_then_else, reason = "one condition is decided when the kernel is made, the other when it runs")]
pub fn load<X: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, X, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    block: &Block,
    part: &Part,
    #[comptime] stage: usize,
    coming: &mut Coming<X, W, S, N, M>,
    #[comptime] blueprint: Blueprint,
) {
    let tiles = comptime!(OUTPUTS / 8);
    #[unroll]
    for o in 0..tiles {
        let at = comptime!(stage * tiles + o);
        coming.codes[at] = Vector::new(W::from_int(0));
        coming.scales[at] = S::from_int(0);
        if part.column < input.vectors {
            if comptime!(blueprint.is_gated()) {
                let row = min(block.first + comptime!(o % (tiles / 2) * 8) + part.i, block.outputs - 1);
                let matrix = matrices.index(comptime!(o / (tiles / 2)));
                stored::<X, W, S, A, N, M>(matrix, row, part.column, input.vectors, coming, at, blueprint.format);
            } else {
                let row = min(block.first + comptime!(o * 8) + part.i, block.outputs - 1);
                #[unroll]
                for m in 0..blueprint.layers {
                    let matrix = matrices.index(m);
                    if comptime!(blueprint.layers == 1) {
                        stored::<X, W, S, A, N, M>(
                            matrix,
                            row,
                            part.column,
                            input.vectors,
                            coming,
                            at,
                            blueprint.format,
                        );
                    } else if block.matrix == m {
                        stored::<X, W, S, A, N, M>(
                            matrix,
                            row,
                            part.column,
                            input.vectors,
                            coming,
                            at,
                            blueprint.format,
                        );
                    }
                }
            }
        }
    }
    let row_tiles = comptime!(blueprint.row_tiles());
    #[unroll]
    for r in 0..row_tiles {
        let row = min(part.first_row + r * COLUMNS + part.i, input.rows - 1) * input.vectors;
        let at = comptime!((stage * row_tiles + r) * vectors(blueprint.format));
        if comptime!(blueprint.format == Some(Format::Int4)) {
            let group = row + min(part.column - part.j, input.vectors - DEPTH);
            coming.x[at] = input.x[group + part.j / 2];
            coming.x[at + 1] = input.x[group + 2 + part.j / 2];
        } else {
            coming.x[at] = input.x[row + min(part.column, input.vectors - 1)];
        }
    }
}

#[cube]
fn stored<X: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    matrix: &Weights<W, S, A, M>,
    row: usize,
    column: usize,
    vectors: usize,
    coming: &mut Coming<X, W, S, N, M>,
    #[comptime] at: usize,
    #[comptime] format: Option<Format>,
) {
    coming.codes[at] = matrix.codes[row * vectors + column];
    if let Some(format) = format {
        coming.scales[at] =
            scale_of::<S>(matrix.scales.as_ref().unwrap(), row, column / DEPTH, vectors / DEPTH, format);
    }
}

/// The eight numbers that a part stands for.
#[cube]
pub fn widened<X: Float, W: Numeric, S: Numeric, M: Size>(
    codes: Vector<W, M>,
    scale: S,
    one: u32,
    #[comptime] format: Option<Format>,
) -> Vector<X, Const<8>> {
    match format {
        None => Vector::cast_from(codes),
        Some(format) => {
            let step = step::<S>(scale, format);
            let mut wide = Vector::<X, Const<8>>::empty();
            #[unroll]
            for n in 0..8usize {
                // Of a group's word the low nibbles are four neighbours, the high ones those 16 further.
                let (word, i) = comptime!(match format {
                    Format::Int4 => (0, n % 4 + n / 4 * (GROUP / 2)),
                    _ => (n / 4, n % 4),
                });
                let number = (code(u32::cast_from(codes[word]), i, one, format) - step.zero) * step.scale;
                wide[n] = X::cast_from(number);
            }
            wide
        }
    }
}
