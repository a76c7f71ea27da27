use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::dense::dense_products;
use super::input::{Input, input};
use super::packed::{WORDS, packed_products};
use super::product::{Ending, Product};
use super::weights::{Weights, dtypes, weights};
use crate::config::Activation;
use crate::kernels::cube::elementwise::{Pairwise, combined};
use crate::kernels::cube::launch::launch;
use crate::kernels::cube::tensor::{PLANE, array, width};
use crate::weight::{Format, GROUP};

/// Planes of a cube.
pub const PLANES: u32 = 8;

/// How a plane works: rows of input that share a weight's load, outputs of a matrix that share an input's, and loads of
/// each that are on their way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    pub rows: usize,
    pub outputs: usize,
    pub loads: usize,
    /// Matrices.
    layers: usize,
    pub normed: bool,
    bias: bool,
    /// Whether sums may lose the last bits of an f32.
    pub rounds: bool,
    end: Ending,
    pub format: Option<Format>,
}

impl Blueprint {
    /// What was fastest on an H200 with the matrices of a Llama of 8B; one row by packed weights comes here where
    /// [`row`](super::row) does not suit, and is not timed so.
    fn new<R: CubeRuntime>(product: &Product<R>) -> Self {
        let (end, format) = (product.end.kind(), product.layers[0].weight.format());
        let gated = matches!(end, Ending::Gated(_));
        let (rows, outputs, loads) = match (product.rows == 1, format) {
            (true, None) if gated => (1, 1, 1),
            (true, None) if end == Ending::Each => (1, 2, 2),
            (true, None) => (1, 1, 2),
            (true, Some(Format::Int4 | Format::Int8)) if gated => (1, 1, 2),
            (true, Some(Format::Int4 | Format::Int8)) if end == Ending::Each => (1, 2, 1),
            (true, Some(Format::Int4 | Format::Int8)) => (1, 2, 2),
            (true, Some(Format::Fp8)) => (1, 1, 1),
            (false, None) => (8, 2, 1),
            (false, Some(_)) => (4, 1, 1),
        };
        let (layers, normed, bias) = (product.layers.len(), product.norm.is_some(), product.has_bias());
        let rounds = product.x.dtype != DType::F32;
        Self { rows, outputs, loads, layers, normed, bias, rounds, end, format }
    }

    /// Outputs that a plane makes of each row at once: a gate and its partner together.
    pub fn columns(&self) -> usize {
        if matches!(self.end, Ending::Gated(_)) { 2 * self.outputs } else { self.outputs }
    }
}

/// Multiplies any float dtypes and formats, in f32; `None` where groups of packed weights do not fill the rows.
pub fn launch<R: CubeRuntime>(product: &Product<R>) -> Option<()> {
    let x = &product.x;
    let (width, codes) = match product.layers[0].weight.format() {
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
    let planes = product.blocks(blueprint.outputs);
    let row_tiles = product.rows.div_ceil(blueprint.rows);
    let gain = product.norm.as_ref().map_or(x.dtype, |(gain, _)| gain.dtype);
    let [codes_dtype, scales, bias] = dtypes(product);
    let types = [x.dtype, gain, codes_dtype, scales, bias].map(DType::into);
    // SAFETY: rows and outputs beyond the last are read as the last and not written.
    unsafe {
        launch!(
            planes::Planes beside x,
            CubeCount::Static((row_tiles * planes.div_ceil(PLANES as usize)) as u32, 1, 1),
            CubeDim::new_2d(PLANE, PLANES);
            X = types[0], G = types[1], W = types[2], S = types[3], A = types[4]; N = width, M = codes;
            input: Input<planes::X, planes::G, planes::N> = input(product, width),
            matrices: Sequence<Weights<planes::W, planes::S, planes::A, planes::M>> = weights(product),
            residual: ComptimeOption<Array<planes::X>> = product.residual().map(array).into(),
            y: Array<planes::X> = array(&product.y),
            row_tiles: usize = row_tiles;
            blueprint = blueprint, dtypes = types,
        );
    }
    Some(())
}

/// One plane makes a tile of the result: its units go through the inputs side by side, so that weights are read in
/// memory's order. A norm's scale is the same for all of a row, so it is found on the way and multiplied at the end.
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
    let cube = CUBE_POS_X as usize;
    let first_row = cube % row_tiles * blueprint.rows;
    let mut plane = cube / row_tiles * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    match blueprint.end {
        Ending::Each => {
            // Results lie one after another, each in one piece.
            let mut before = 0usize.runtime();
            let mut found = false.runtime();
            #[unroll]
            for m in 0..blueprint.layers {
                let matrix = matrices.index(m);
                let blocks = (matrix.outputs + comptime!(blueprint.outputs - 1)) / blueprint.outputs;
                if !found {
                    if plane < blocks {
                        found = true;
                        let first_output = plane * blueprint.outputs;
                        let sums =
                            products::<X, G, W, S, A, N, M>(input, matrices, first_row, first_output, m, blueprint);
                        #[unroll]
                        for r in 0..blueprint.rows {
                            #[unroll]
                            for o in 0..blueprint.outputs {
                                let (row, output) = (first_row + r, first_output + o);
                                if UNIT_POS_X == 0 && row < input.rows && output < matrix.outputs {
                                    let sum = sums[comptime!(r * blueprint.outputs + o)];
                                    y[before + row * matrix.outputs + output] = X::cast_from(sum);
                                }
                            }
                        }
                    } else {
                        plane -= blocks;
                        before += input.rows * matrix.outputs;
                    }
                }
            }
        }
        Ending::Add => {
            let first_output = plane * blueprint.outputs;
            let matrix = matrices.index(0usize);
            let sums = products::<X, G, W, S, A, N, M>(input, matrices, first_row, first_output, 0usize, blueprint);
            #[unroll]
            for r in 0..blueprint.rows {
                #[unroll]
                for o in 0..blueprint.outputs {
                    let (row, output) = (first_row + r, first_output + o);
                    if UNIT_POS_X == 0 && row < input.rows && output < matrix.outputs {
                        let at = row * matrix.outputs + output;
                        let sum = sums[comptime!(r * blueprint.outputs + o)];
                        y[at] = X::cast_from(sum + f32::cast_from(residual.as_ref().unwrap()[at]));
                    }
                }
            }
        }
        Ending::Gated(activation) => {
            let first_output = plane * blueprint.outputs;
            let matrix = matrices.index(0usize);
            let sums = products::<X, G, W, S, A, N, M>(input, matrices, first_row, first_output, 0usize, blueprint);
            #[unroll]
            for r in 0..blueprint.rows {
                #[unroll]
                for o in 0..blueprint.outputs {
                    let (row, output) = (first_row + r, first_output + o);
                    if UNIT_POS_X == 0 && row < input.rows && output < matrix.outputs {
                        let gate = comptime!(2 * r * blueprint.outputs + o);
                        let up = comptime!(gate + blueprint.outputs);
                        y[row * matrix.outputs + output] = X::cast_from(gated(sums[gate], sums[up], activation));
                    }
                }
            }
        }
    }
}

/// `activation(gate) · up`.
#[cube]
pub fn gated(gate: f32, up: f32, #[comptime] activation: Activation) -> f32 {
    let pair = combined::<Const<1>>(Vector::new(gate), Vector::new(up), comptime!(Pairwise::Gated(activation)));
    pair[0]
}

/// The products of some rows, normed where that is asked for, with some rows of a matrix, or of a gate and its partner,
/// biases added: every unit of the plane has all sums.
#[cube]
fn products<X: Float, G: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, G, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    first_row: usize,
    first_output: usize,
    #[comptime] first_matrix: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<f32> {
    let (rows, columns) = comptime!((blueprint.rows, blueprint.columns()));
    let mut sums = Array::<f32>::new(comptime!(rows * columns));
    let mut squares = Array::<f32>::new(rows);
    #[unroll]
    for i in 0..rows * columns {
        sums[i] = 0.0f32;
    }
    #[unroll]
    for r in 0..rows {
        squares[r] = 0.0f32;
    }
    if comptime!(blueprint.format.is_some()) {
        packed_products(input, matrices, first_row, first_output, &mut sums, &mut squares, first_matrix, blueprint);
    } else {
        dense_products(input, matrices, first_row, first_output, &mut sums, &mut squares, first_matrix, blueprint);
    }
    #[unroll]
    for r in 0..rows {
        let mut scale = 1.0f32;
        if comptime!(blueprint.normed) {
            scale = 1.0f32 / f32::sqrt(plane_sum(squares[r]) / input.numbers + input.eps);
        }
        #[unroll]
        for o in 0..columns {
            let mut sum = plane_sum(sums[r * columns + o]) * scale;
            if comptime!(blueprint.bias) {
                let matrix = matrices.index(comptime!(first_matrix + o / blueprint.outputs));
                let output = min(first_output + comptime!(o % blueprint.outputs), matrix.outputs - 1);
                sum += f32::cast_from(matrix.bias.as_ref().unwrap()[output]);
            }
            sums[r * columns + o] = sum;
        }
    }
    sums
}
