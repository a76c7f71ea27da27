use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::elementwise::{Pairwise, combined};
use super::linear::{End, Ending, Product};
use super::packed::{WORDS, packed_products};
use super::tensor::{PLANE, array, array_of, scales_dtype, width};
use crate::config::Activation;
use crate::weight::{Format, GROUP};

/// Planes of a cube.
const PLANES: u32 = 8;

/// How a plane works: rows of input that share a weight's load, outputs that share an input's, and loads of each that
/// are on their way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    pub rows: usize,
    pub outputs: usize,
    pub loads: usize,
    /// Matrices.
    layers: usize,
    pub normed: bool,
    bias: bool,
    end: Ending,
    pub format: Option<Format>,
}

/// Multiplies any float dtypes and formats, in f32; `None` where groups of packed weights do not fill the rows.
pub fn launch<R: CubeRuntime>(product: &Product<R>) -> Option<()> {
    let Product { x, norm, rows, inputs, .. } = product;
    let format = product.layers[0].weight.format();
    // Measured on an H200 with the matrices of a Llama of 8B.
    let gated = matches!(product.end, End::Gated(_));
    let (rows_at_once, outputs_at_once, loads) = match (*rows == 1, format) {
        (true, None) if gated => (1, 2, 1),
        (true, None) => (1, 1, 2),
        (true, Some(Format::Int4)) => (1, 2, 1),
        (true, Some(_)) => (1, if *inputs <= 8192 { 2 } else { 1 }, 1),
        (false, None) => (8, 2, 1),
        (false, Some(_)) => (4, 1, 1),
    };
    let blueprint = Blueprint {
        format,
        rows: rows_at_once,
        outputs: outputs_at_once,
        loads,
        layers: product.layers.len(),
        normed: norm.is_some(),
        bias: product.has_bias(),
        end: product.end.kind(),
    };
    let weights = [0, 1, 2].map(|i| product.layer(i).weight.codes());
    let gain = norm.as_ref().map_or(x, |(weight, _)| weight);
    let (width, codes) = match format {
        None => {
            let width = width(&[x, gain, weights[0], weights[1], weights[2]], &[*inputs]);
            (width, width)
        }
        Some(_) if inputs.is_multiple_of(GROUP) => (width(&[x, gain], &[GROUP]), WORDS),
        Some(_) => return None,
    };
    let scales = [0, 1, 2].map(|i| product.layer(i).weight.scales());
    let codes_as = format.map_or(weights[0].dtype, |_| DType::U32);
    let scales_as = scales_dtype(format, codes_as);
    // Outputs of a plane belong to one matrix; those of a gate and its partner are made together.
    let blocks = |outputs: usize| outputs.div_ceil(outputs_at_once);
    let planes = match blueprint.end {
        Ending::Each => product.layers.iter().map(|layer| blocks(layer.outputs)).sum(),
        _ => blocks(product.layers[0].outputs),
    };
    let row_tiles = rows.div_ceil(rows_at_once);
    let sizes = SizesLaunch::new(
        inputs / width,
        *inputs as f32,
        *rows,
        row_tiles,
        product.layer(0).outputs,
        product.layer(1).outputs,
        product.layer(2).outputs,
        product.width(),
        norm.as_ref().map_or(0.0, |(_, eps)| *eps) as f32,
    );
    // SAFETY: rows and outputs beyond the last are read as the last and not written.
    unsafe {
        planes::launch_unchecked(
            &x.client,
            CubeCount::Static((row_tiles * planes.div_ceil(PLANES as usize)) as u32, 1, 1),
            CubeDim::new_2d(PLANE, PLANES),
            width,
            codes,
            array(x),
            array(gain),
            array_of(weights[0], codes_as),
            array_of(weights[1], codes_as),
            array_of(weights[2], codes_as),
            array(scales[0]),
            array(scales[1]),
            array(scales[2]),
            array(product.bias(0)),
            array(product.bias(1)),
            array(product.bias(2)),
            array(product.residual()),
            array(&product.y),
            sizes,
            blueprint,
            [x.dtype, gain.dtype, codes_as, scales_as, product.bias(0).dtype].map(DType::into),
        );
    }
    Some(())
}

/// Lengths of a product, and what its rows' mean squares are raised by.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Sizes {
    /// Vectors of an input row.
    pub vectors: usize,
    /// Numbers of an input row.
    pub numbers: f32,
    pub rows: usize,
    /// Tiles of rows.
    pub row_tiles: usize,
    /// Outputs of each matrix.
    pub first: usize,
    pub second: usize,
    pub third: usize,
    /// Columns of the result.
    pub width: usize,
    pub eps: f32,
}

/// One plane makes a tile of the result: its units go through the inputs side by side, so that weights are read in
/// memory's order. A norm's scale is the same for all of a row, so it is found on the way and multiplied at the end.
///
/// Tiles of the same outputs are neighbours, so that all rows find the weights in the cache.
#[cube(launch_unchecked)]
fn planes<X: Float, G: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    x: &Array<Vector<X, N>>,    // [rows, inputs]
    gain: &Array<Vector<G, N>>, // [inputs]
    a: &Array<Vector<W, M>>,    // [outputs, inputs], numbers or words of codes
    b: &Array<Vector<W, M>>,
    c: &Array<Vector<W, M>>,
    scales_a: &Array<S>, // of packed weights
    scales_b: &Array<S>,
    scales_c: &Array<S>,
    bias_a: &Array<A>, // [outputs]
    bias_b: &Array<A>,
    bias_c: &Array<A>,
    residual: &Array<X>, // [rows, width]
    y: &mut Array<X>,    // [rows, width]
    sizes: Sizes,
    #[comptime] blueprint: Blueprint,
    #[define(X, G, W, S, A)] _dtypes: [StorageType; 5],
) {
    let cube = CUBE_POS_X as usize;
    let first_row = cube % sizes.row_tiles * blueprint.rows;
    let plane = cube / sizes.row_tiles * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    match blueprint.end {
        Ending::Each => {
            let blocks = (sizes.first + comptime!(blueprint.outputs - 1)) / blueprint.outputs;
            if comptime!(blueprint.layers == 1) {
                each::<X, G, W, S, A, N, M>(
                    x,
                    gain,
                    a,
                    scales_a,
                    bias_a,
                    y,
                    &sizes,
                    first_row,
                    plane * blueprint.outputs,
                    sizes.first,
                    0,
                    blueprint,
                );
            } else {
                let more = (sizes.second + comptime!(blueprint.outputs - 1)) / blueprint.outputs;
                if plane < blocks {
                    each::<X, G, W, S, A, N, M>(
                        x,
                        gain,
                        a,
                        scales_a,
                        bias_a,
                        y,
                        &sizes,
                        first_row,
                        plane * blueprint.outputs,
                        sizes.first,
                        0,
                        blueprint,
                    );
                } else if comptime!(blueprint.layers == 2) || plane < blocks + more {
                    let output = (plane - blocks) * blueprint.outputs;
                    each::<X, G, W, S, A, N, M>(
                        x,
                        gain,
                        b,
                        scales_b,
                        bias_b,
                        y,
                        &sizes,
                        first_row,
                        output,
                        sizes.second,
                        sizes.first,
                        blueprint,
                    );
                } else {
                    let output = (plane - blocks - more) * blueprint.outputs;
                    let before = sizes.first + sizes.second;
                    each::<X, G, W, S, A, N, M>(
                        x,
                        gain,
                        c,
                        scales_c,
                        bias_c,
                        y,
                        &sizes,
                        first_row,
                        output,
                        sizes.third,
                        before,
                        blueprint,
                    );
                }
            }
        }
        Ending::Add => {
            let output = plane * blueprint.outputs;
            let sums = products::<X, G, W, S, A, N, M>(
                x,
                gain,
                a,
                scales_a,
                bias_a,
                &sizes,
                first_row,
                output,
                sizes.first,
                blueprint,
            );
            #[unroll]
            for r in 0..blueprint.rows {
                #[unroll]
                for o in 0..blueprint.outputs {
                    let (row, column) = (first_row + r, output + o);
                    if UNIT_POS_X == 0 && row < sizes.rows && column < sizes.first {
                        let at = row * sizes.width + column;
                        y[at] = X::cast_from(sums[r * blueprint.outputs + o] + f32::cast_from(residual[at]));
                    }
                }
            }
        }
        Ending::Gated(activation) => {
            let output = plane * blueprint.outputs;
            let gate = products::<X, G, W, S, A, N, M>(
                x,
                gain,
                a,
                scales_a,
                bias_a,
                &sizes,
                first_row,
                output,
                sizes.first,
                blueprint,
            );
            let up = products::<X, G, W, S, A, N, M>(
                x,
                gain,
                b,
                scales_b,
                bias_b,
                &sizes,
                first_row,
                output,
                sizes.first,
                blueprint,
            );
            #[unroll]
            for r in 0..blueprint.rows {
                #[unroll]
                for o in 0..blueprint.outputs {
                    let (row, column) = (first_row + r, output + o);
                    if UNIT_POS_X == 0 && row < sizes.rows && column < sizes.first {
                        let i = comptime!(r * blueprint.outputs + o);
                        y[row * sizes.width + column] = X::cast_from(gated(gate[i], up[i], activation));
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

/// Writes the products with one matrix of several, whose columns of the result begin at `before`.
#[cube]
fn each<X: Float, G: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    x: &Array<Vector<X, N>>,
    gain: &Array<Vector<G, N>>,
    weight: &Array<Vector<W, M>>,
    scales: &Array<S>,
    bias: &Array<A>,
    y: &mut Array<X>,
    sizes: &Sizes,
    first_row: usize,
    first_output: usize,
    outputs: usize,
    before: usize,
    #[comptime] blueprint: Blueprint,
) {
    let sums = products::<X, G, W, S, A, N, M>(
        x,
        gain,
        weight,
        scales,
        bias,
        sizes,
        first_row,
        first_output,
        outputs,
        blueprint,
    );
    #[unroll]
    for r in 0..blueprint.rows {
        #[unroll]
        for o in 0..blueprint.outputs {
            let (row, output) = (first_row + r, first_output + o);
            if UNIT_POS_X == 0 && row < sizes.rows && output < outputs {
                y[row * sizes.width + before + output] = X::cast_from(sums[comptime!(r * blueprint.outputs + o)]);
            }
        }
    }
}

/// The products of some rows, normed where that is asked for, with some rows of a matrix, biases added: every unit of
/// the plane has all sums.
#[cube]
fn products<X: Float, G: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    x: &Array<Vector<X, N>>,
    gain: &Array<Vector<G, N>>,
    weight: &Array<Vector<W, M>>,
    scales: &Array<S>,
    bias: &Array<A>,
    sizes: &Sizes,
    first_row: usize,
    first_output: usize,
    outputs: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<f32> {
    let (rows, columns) = comptime!((blueprint.rows, blueprint.outputs));
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
        packed_products::<X, G, W, S, N, M>(
            x,
            gain,
            weight,
            scales,
            sizes,
            first_row,
            first_output,
            outputs,
            &mut sums,
            &mut squares,
            blueprint,
        );
    } else {
        dense_products::<X, G, W, N, M>(
            x,
            gain,
            weight,
            sizes,
            first_row,
            first_output,
            outputs,
            &mut sums,
            &mut squares,
            blueprint,
        );
    }
    #[unroll]
    for r in 0..rows {
        let mut scale = 1.0f32;
        if comptime!(blueprint.normed) {
            scale = 1.0f32 / f32::sqrt(plane_sum(squares[r]) / sizes.numbers + sizes.eps);
        }
        #[unroll]
        for o in 0..columns {
            let mut sum = plane_sum(sums[r * columns + o]) * scale;
            if comptime!(blueprint.bias) {
                sum += f32::cast_from(bias[min(first_output + o, outputs - 1)]);
            }
            sums[r * columns + o] = sum;
        }
    }
    sums
}

/// Each unit's share of the products with dense weights, and of the rows' squares.
#[cube]
fn dense_products<X: Float, G: Float, W: Numeric, N: Size, M: Size>(
    x: &Array<Vector<X, N>>,
    gain: &Array<Vector<G, N>>,
    weight: &Array<Vector<W, M>>,
    sizes: &Sizes,
    first_row: usize,
    first_output: usize,
    outputs: usize,
    sums: &mut Array<f32>,
    squares: &mut Array<f32>,
    #[comptime] blueprint: Blueprint,
) {
    let (rows, columns, loads) = comptime!((blueprint.rows, blueprint.outputs, blueprint.loads));
    let mut i = UNIT_POS_X as usize;
    while i < sizes.vectors {
        let mut weights = Array::<Vector<W, M>>::new(comptime!(loads * columns));
        #[unroll]
        for l in 0..loads {
            let at = min(i + comptime!(l * PLANE as usize), sizes.vectors - 1);
            #[unroll]
            for o in 0..columns {
                let output = min(first_output + o, outputs - 1);
                weights[l * columns + o] = weight[output * sizes.vectors + at];
            }
        }
        #[unroll]
        for l in 0..loads {
            let at = i + comptime!(l * PLANE as usize);
            if at < sizes.vectors {
                #[unroll]
                for r in 0..rows {
                    let row = min(first_row + r, sizes.rows - 1);
                    let value = normed::<X, G, N>(x, gain, row * sizes.vectors + at, at, squares, r, blueprint.normed);
                    #[unroll]
                    for o in 0..columns {
                        let product = value * Vector::<f32, N>::cast_from(weights[l * columns + o]);
                        #[unroll]
                        for j in 0..N::value() {
                            sums[r * columns + o] += product[j];
                        }
                    }
                }
            }
        }
        i += comptime!(loads * PLANE as usize);
    }
}

/// A vector of the input, times the norm's weight where there is one; its squares are added to those of row `r`.
#[cube]
pub fn normed<X: Float, G: Float, N: Size>(
    x: &Array<Vector<X, N>>,
    gain: &Array<Vector<G, N>>,
    at: usize,
    column: usize,
    squares: &mut Array<f32>,
    #[comptime] r: usize,
    #[comptime] norm: bool,
) -> Vector<f32, N> {
    let mut value = Vector::<f32, N>::cast_from(x[at]);
    if norm {
        let square = value * value;
        #[unroll]
        for j in 0..N::value() {
            squares[r] += square[j];
        }
        value *= Vector::cast_from(gain[column]);
    }
    value
}
