use cubecl::prelude::*;

use super::block::Block;
use super::input::Input;
use super::packed::{code, scale_of, step};
use super::tiles::{Blueprint, DEPTH};
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
    pub x: Array<Vector<X, N>>,
    /// What those are normed with.
    pub gain: Array<Vector<X, N>>,
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
        let weights = comptime!(blueprint.stages * blueprint.outputs / 8);
        let gains = comptime!(blueprint.stages * vectors(blueprint.format));
        let (codes, scales) = (Array::new(weights), Array::new(weights));
        let (x, gain) = (Array::new(comptime!(gains * blueprint.row_tiles())), Array::new(gains));
        Coming::<X, W, S, N, M> { codes, scales, x, gain }
    }
}

/// Eight numbers of the `nth` row in `from`, those that the weights of the same unit are multiplied by.
#[cube]
pub fn taken<X: Float, N: Size>(
    from: &Array<Vector<X, N>>,
    #[comptime] nth: usize,
    j: usize,
    #[comptime] format: Option<Format>,
) -> Vector<X, Const<8>> {
    if comptime!(format == Some(Format::Int4)) {
        // Four neighbours and the four that are 16 further, each half of a vector.
        let mut vector = Vector::<X, Const<8>>::empty();
        let (near, far) = (from[2 * nth], from[2 * nth + 1]);
        let upper = j % 2 == 1;
        #[unroll]
        for n in 0..4usize {
            vector[n] = select(upper, near[n + 4], near[n]);
            vector[n + 4] = select(upper, far[n + 4], far[n]);
        }
        vector
    } else {
        Vector::cast_from(from[nth])
    }
}

/// Vectors that hold what a unit multiplies of a row of input.
fn vectors(format: Option<Format>) -> usize {
    if format == Some(Format::Int4) { 2 } else { 1 }
}

/// Begins to load what the unit multiplies of a part: of row `8 · o + i` of the cube's block, for all `o`, and of row
/// `i` of each tile of the input.
#[cube]
pub fn load<X: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, X, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    block: &Block,
    part: &Part,
    #[comptime] stage: usize,
    coming: &mut Coming<X, W, S, N, M>,
    #[comptime] first_matrix: usize,
    #[comptime] blueprint: Blueprint,
) {
    let tiles = comptime!(blueprint.outputs / 8);
    #[unroll]
    for o in 0..tiles {
        let at = comptime!(stage * tiles + o);
        coming.codes[at] = Vector::new(W::from_int(0));
        coming.scales[at] = S::from_int(0);
        if part.column < input.vectors {
            // Of a gate and its partner, half of the rows each.
            let (of, o) = comptime!(if blueprint.is_gated() && o >= tiles / 2 {
                (first_matrix + 1, o - tiles / 2)
            } else {
                (first_matrix, o)
            });
            let matrix = matrices.index(of);
            let row = min(block.first + comptime!(o * 8) + part.i, block.outputs - 1);
            coming.codes[at] = matrix.codes[row * input.vectors + part.column];
            if let Some(format) = comptime!(blueprint.format) {
                let scales = matrix.scales.as_ref().unwrap();
                coming.scales[at] = scale_of::<S>(scales, row, part.column / DEPTH, input.vectors / DEPTH, format);
            }
        }
    }
    let row_tiles = comptime!(blueprint.row_tiles());
    #[unroll]
    for r in 0..row_tiles {
        let row = min(part.first_row + r * COLUMNS + part.i, input.rows - 1) * input.vectors;
        numbers(&input.x, row, part, input.vectors, &mut coming.x, stage * row_tiles + r, blueprint.format);
    }
    if comptime!(blueprint.normed) {
        let gain = input.gain.as_ref().unwrap();
        numbers(gain, 0usize, part, input.vectors, &mut coming.gain, stage, blueprint.format);
    }
}

/// Begins to load what the unit multiplies of a row that begins at `row`, as the `nth` of those that come.
#[cube]
fn numbers<X: Float, N: Size>(
    from: &Array<Vector<X, N>>,
    row: usize,
    part: &Part,
    vectors: usize,
    coming: &mut Array<Vector<X, N>>,
    #[comptime] nth: usize,
    #[comptime] format: Option<Format>,
) {
    if comptime!(format == Some(Format::Int4)) {
        let group = row + min(part.column - part.j, vectors - DEPTH);
        coming[2 * nth] = from[group + part.j / 2];
        coming[2 * nth + 1] = from[group + 2 + part.j / 2];
    } else {
        coming[nth] = from[row + min(part.column, vectors - 1)];
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
