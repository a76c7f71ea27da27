use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::block::Block;
use super::dense::dense_products;
use super::ending::{Ending, ended};
use super::input::{Input, input};
use super::packed::{WORDS, packed_products};
use super::product::Product;
use super::sums::Sums;
use super::weights::{Weights, dtypes, weights};
use crate::kernels::cube::launch::launch;
use crate::kernels::cube::tensor::{PLANE, array, width};
use crate::weight::{Format, GROUP};

/// Planes of a cube; every [`splits`](Blueprint::splits) divides them.
pub const PLANES: usize = 4;

/// How a plane works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Rows of input that share a weight's load.
    pub rows: usize,
    /// Outputs of a matrix that share an input's.
    pub outputs: usize,
    /// Loads of each that are on their way at once.
    pub loads: usize,
    /// Planes that make the same outputs, each from its own part of the inputs; of dense weights alone.
    pub splits: usize,
    /// Matrices that make results of their own.
    layers: usize,
    pub normed: bool,
    bias: bool,
    /// Whether sums may lose the last bits of an f32.
    pub rounds: bool,
    end: Ending,
    pub format: Option<Format>,
}

impl Blueprint {
    /// What was fastest on an H200 with the matrices of a Llama of 8B: of one row, as many loads on their way as it takes
    /// to keep memory busy. One row by packed weights comes here where [`row`](super::row) does not suit, and is not
    /// timed so.
    fn new<R: CubeRuntime>(product: &Product<R>) -> Self {
        let (end, format) = (product.end.kind(), product.layers[0].weight.format());
        let gated = end.is_gated();
        let (rows, outputs, loads, splits) = match (product.rows == 1, format) {
            (true, None) if gated => (1, 1, 2, 2),
            (true, None) if end == Ending::Each => (1, 2, 2, 2),
            (true, None) => (1, 1, 2, 4),
            (true, Some(Format::Int4 | Format::Int8)) if gated => (1, 1, 2, 1),
            (true, Some(Format::Int4 | Format::Int8)) if end == Ending::Each => (1, 2, 1, 1),
            (true, Some(Format::Int4 | Format::Int8)) => (1, 2, 2, 1),
            (true, Some(Format::Fp8)) => (1, 1, 1, 1),
            (false, None) => (8, 2, 1, 1),
            (false, Some(_)) => (4, 1, 1, 1),
        };
        debug_assert!(PLANES.is_multiple_of(splits));
        let layers = product.results();
        let (normed, bias) = (product.norm.is_some(), product.has_bias());
        let rounds = product.x.dtype != DType::F32;
        Self { rows, outputs, loads, splits, layers, normed, bias, rounds, end, format }
    }

    /// Outputs that a plane makes of each row at once: a gate and its partner together.
    pub fn columns(&self) -> usize {
        if self.end.is_gated() { 2 * self.outputs } else { self.outputs }
    }
}

/// Multiplies any float dtypes and formats, in f32; `None` where groups of packed weights do not fill the rows.
pub fn launch<R: CubeRuntime>(product: &Product<R>) -> Option<()> {
    let x = &product.x;
    let (width, words) = match product.layers[0].weight.format() {
        None => {
            let floats = product.layers.iter().map(|layer| layer.weight.codes());
            let floats: Vec<_> = floats.chain(product.norm.iter().map(|(gain, _)| gain)).chain([x]).collect();
            let width = width(&floats, &[product.inputs]);
            (width, width)
        }
        Some(_) if product.inputs.is_multiple_of(GROUP) => {
            let floats: Vec<_> = product.norm.iter().map(|(gain, _)| gain).chain([x]).collect();
            (width(&floats, &[GROUP]), WORDS)
        }
        Some(_) => return None,
    };
    let blueprint = Blueprint::new(product);
    // Outputs of a plane belong to one matrix; those of a gate and its partner are made together.
    let planes = product.blocks(blueprint.outputs) * blueprint.splits;
    let row_tiles = product.rows.div_ceil(blueprint.rows);
    let gain = product.norm.as_ref().map_or(x.dtype, |(gain, _)| gain.dtype);
    let [codes, scales, bias] = dtypes(product);
    let types = [x.dtype, gain, codes, scales, bias].map(DType::into);
    // SAFETY: rows and outputs beyond the last are read as the last and not written.
    unsafe {
        launch!(
            planes::Planes beside x,
            CubeCount::Static((row_tiles * planes.div_ceil(PLANES)) as u32, 1, 1),
            CubeDim::new_2d(PLANE, PLANES as u32);
            X = types[0], G = types[1], W = types[2], S = types[3], A = types[4]; N = width, M = words;
            input: Input<planes::X, planes::G, planes::N> = input(product, width),
            matrices: Sequence<Weights<planes::W, planes::S, planes::A, planes::M>> = weights(product, [codes, scales]),
            residual: ComptimeOption<Array<planes::X>> = product.residual().map(array).into(),
            y: Array<planes::X> = array(&product.y),
            row_tiles: usize = row_tiles;
            blueprint = blueprint, dtypes = types,
        );
    }
    Some(())
}

/// One plane, or several that each take a part of the inputs, makes a tile of the result: its units go through the
/// inputs side by side, so that weights are read in memory's order. A norm's scale is the same for all of a row, so it is
/// found on the way and multiplied at the end.
///
/// Tiles of the same outputs are neighbours, so that all rows find the weights in the cache.
#[cube(launch_unchecked)]
fn planes<X: Float, G: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, G, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    residual: &ComptimeOption<Array<X>>, // [rows, outputs], if one is added
    y: &mut Array<X>,                    // [rows, outputs] of each result
    row_tiles: usize,
    #[comptime] blueprint: Blueprint,
    #[define(X, G, W, S, A)] _dtypes: [StorageType; 5],
) {
    let (rows, outputs, columns) = comptime!((blueprint.rows, blueprint.outputs, blueprint.columns()));
    let cube = CUBE_POS_X as usize;
    let first_row = cube % row_tiles * rows;
    let (plane, splits) = (UNIT_POS_Y as usize, blueprint.splits);
    let (nth, split) = ((cube / row_tiles * PLANES + plane) / splits, plane % splits);
    let block = Block::nth::<W, S, A, M>(matrices, nth, outputs, blueprint.layers);
    let mut sums = Sums::new(blueprint);
    #[unroll]
    for m in 0..blueprint.layers {
        if block.matrix == m {
            if comptime!(blueprint.format.is_some()) {
                packed_products(input, matrices, first_row, block.first, &mut sums, m, blueprint);
            } else {
                dense_products(input, matrices, first_row, block.first, &mut sums, m, blueprint);
            }
        }
    }
    sums.join(blueprint);
    #[unroll]
    for r in 0..rows {
        let mut scale = 1.0f32;
        if comptime!(blueprint.normed) {
            scale = 1.0f32 / f32::sqrt(sums.squares[r] / input.numbers + input.eps);
        }
        #[unroll]
        for o in 0..outputs {
            let (row, output) = (first_row + r, block.first + o);
            if UNIT_POS_X == 0 && split == 0 && row < input.rows && output < block.outputs {
                let sum = sums.products[r * columns + o] * scale;
                let partner = sums.products[comptime!(r * columns + columns - outputs + o)] * scale;
                let (at, layers) = (block.before * input.rows + row * block.outputs + output, blueprint.layers);
                let (bias, end) = comptime!((blueprint.bias, blueprint.end));
                y[at] = ended::<X, W, S, A, M>(sum, partner, matrices, residual, &block, output, at, layers, bias, end);
            }
        }
    }
}
