use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::linear::{Ending, Product};
use super::linear_planes::gated;
use super::mma::{COLUMNS, Pair, TILE, has_mma, multiply, nought, pair};
use super::packed::{code, scale_of, step};
use super::tensor::{PLANE, array, array_of, scales_dtype, width};
use crate::weight::{Format, GROUP};

/// Planes of a cube; each takes its own part of the depth.
const PLANES: usize = 16;

/// Rows of the result that a cube makes.
const ROWS: usize = 32;

/// Columns of the result that a cube makes; of a gate and its partner, half as many of each.
const OUTPUTS: usize = 32;

/// Numbers of a vector: 16 bytes of 16 bits each.
const WIDTH: usize = 8;

/// Vectors of the depth that a plane multiplies at once: as many numbers as a group of packed weights has.
const DEPTH: usize = GROUP / WIDTH;

/// What a kernel is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Blueprint {
    /// Matrices.
    layers: usize,
    bias: bool,
    end: Ending,
    format: Option<Format>,
}

/// Whether the input is of a dtype that tensor cores multiply, in whole vectors, and the weights of the same or packed.
pub fn suits<R: CubeRuntime>(product: &Product<R>) -> bool {
    let x = &product.x;
    let vectors = |layer: &super::linear::Layer<R>| match layer.weight.format() {
        None => layer.weight.codes().dtype == x.dtype && width(&[x, layer.weight.codes()], &[product.inputs]) == WIDTH,
        Some(_) => product.inputs.is_multiple_of(GROUP) && width(&[x], &[product.inputs]) == WIDTH,
    };
    product.layers.iter().all(vectors) && has_mma(&x.client, x.dtype)
}

/// Multiplies on tensor cores, with sums in f32.
pub fn launch<R: CubeRuntime>(product: &Product<R>) {
    let Product { x, rows, inputs, .. } = product;
    let format = product.layers[0].weight.format();
    let blueprint =
        Blueprint { layers: product.layers.len(), bias: product.has_bias(), end: product.end.kind(), format };
    let blocks = |outputs: usize| outputs.div_ceil(OUTPUTS);
    let blocks = match blueprint.end {
        Ending::Each => product.layers.iter().map(|layer| blocks(layer.outputs)).sum(),
        Ending::Gated(_) => product.width().div_ceil(OUTPUTS / 2),
        Ending::Add => blocks(product.width()),
    };
    let weights = [0, 1, 2].map(|i| product.layer(i).weight.codes());
    let scales = [0, 1, 2].map(|i| product.layer(i).weight.scales());
    let (codes_as, words) = match format {
        None => (weights[0].dtype, WIDTH),
        Some(Format::Int4) => (DType::U32, 1),
        Some(_) => (DType::U32, 2),
    };
    let sizes = SizesLaunch::new(
        inputs / WIDTH,
        *rows,
        product.layer(0).outputs,
        product.layer(1).outputs,
        product.layer(2).outputs,
        product.width(),
    );
    // SAFETY: rows and columns beyond the last are read as the last and not written, the depth's end is read as zeros.
    unsafe {
        tiles::launch_unchecked(
            &x.client,
            CubeCount::Static(rows.div_ceil(ROWS) as u32, blocks as u32, 1),
            CubeDim::new_2d(PLANE, PLANES as u32),
            WIDTH,
            words,
            array(x),
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
            [x.dtype, codes_as, scales_dtype(format, codes_as), product.bias(0).dtype].map(DType::into),
        );
    }
}

/// Lengths of a product.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    /// Vectors of an input row.
    inputs: usize,
    rows: usize,
    /// Outputs of each matrix.
    first: usize,
    second: usize,
    third: usize,
    /// Columns of the result.
    width: usize,
}

/// The rows of a matrix that a cube multiplies.
#[derive(CubeType, Clone, Copy)]
struct Block {
    /// Which matrix.
    matrix: usize,
    /// The first of the rows.
    first: usize,
    /// Rows of the matrix.
    outputs: usize,
    /// Columns of the result before those of the matrix.
    before: usize,
}

#[cube]
impl Block {
    /// The cube's own.
    fn of(sizes: &Sizes, #[comptime] blueprint: Blueprint) -> Block {
        let mut block = CUBE_POS_Y as usize;
        let (mut matrix, mut outputs, mut before) = (0usize.runtime(), sizes.first, 0usize.runtime());
        if comptime!(matches!(blueprint.end, Ending::Gated(_))) {
            block = block * comptime!(OUTPUTS / 2);
        } else {
            if comptime!(blueprint.layers > 1) {
                let mut blocks = (sizes.first + comptime!(OUTPUTS - 1)) / OUTPUTS;
                if block >= blocks {
                    block -= blocks;
                    matrix = 1usize;
                    outputs = sizes.second;
                    before = sizes.first;
                    blocks = (sizes.second + comptime!(OUTPUTS - 1)) / OUTPUTS;
                    if comptime!(blueprint.layers > 2) && block >= blocks {
                        block -= blocks;
                        matrix = 2usize;
                        outputs = sizes.third;
                        before += sizes.second;
                    }
                }
            }
            block = block * OUTPUTS;
        }
        Block { matrix, first: block, outputs, before }
    }
}

/// One cube makes a block of the result: each plane multiplies blocks of the depth as wide as four vectors, the next
/// weights are on their way meanwhile, and at the end the planes put their sums together.
///
/// The weights are the left operand, see [`mma`](super::mma).
#[cube(launch_unchecked)]
fn tiles<X: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    x: &Array<Vector<X, N>>, // [rows, inputs]
    a: &Array<Vector<W, M>>, // [outputs, inputs], numbers or words of codes
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
    #[define(X, W, S, A)] _dtypes: [StorageType; 4],
) {
    let output_tiles = comptime!(OUTPUTS / TILE);
    let row_tiles = comptime!(ROWS / COLUMNS);
    let is_gated = comptime!(matches!(blueprint.end, Ending::Gated(_)));
    let (unit, plane) = (UNIT_POS as usize, UNIT_POS_Y as usize);
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    let first_row = CUBE_POS_X as usize * ROWS;
    let block = Block::of(&sizes, blueprint);

    let mut sums = Sequence::<Array<Pair<f32>>>::new();
    #[unroll]
    for _ in 0..row_tiles * output_tiles {
        sums.push(nought());
    }
    let mut column = plane * DEPTH + j;
    let mut coming = Array::<Vector<W, M>>::new(2 * output_tiles);
    let mut coming_scales = Array::<S>::new(2 * output_tiles);
    load::<W, S, M>(
        a,
        b,
        c,
        scales_a,
        scales_b,
        scales_c,
        &block,
        &sizes,
        i,
        column,
        &mut coming,
        &mut coming_scales,
        blueprint,
    );
    while column - j < sizes.inputs {
        let mut weights = Array::<Vector<X, Const<8>>>::new(2 * output_tiles);
        #[unroll]
        for o in 0..2 * output_tiles {
            weights[o] = widened::<X, W, S, M>(coming[o], coming_scales[o], blueprint);
        }
        let next = column + comptime!(PLANES * DEPTH);
        load::<W, S, M>(
            a,
            b,
            c,
            scales_a,
            scales_b,
            scales_c,
            &block,
            &sizes,
            i,
            next,
            &mut coming,
            &mut coming_scales,
            blueprint,
        );
        let mut values = Array::<Vector<X, Const<8>>>::new(row_tiles);
        #[unroll]
        for r in 0..row_tiles {
            if first_row + r * COLUMNS < sizes.rows {
                values[r] = input::<X, N>(x, first_row + r * COLUMNS + i, column, j, &sizes, blueprint.format);
            }
        }
        #[unroll]
        for step in 0..2usize {
            #[unroll]
            for o in 0..output_tiles {
                let (upper, lower) = (weights[2 * o], weights[2 * o + 1]);
                let mut left = Array::<Pair<X>>::new(4usize);
                left[0] = pair::<X, Const<8>>(upper, 4 * step, upper, 4 * step + 1);
                left[1] = pair::<X, Const<8>>(lower, 4 * step, lower, 4 * step + 1);
                left[2] = pair::<X, Const<8>>(upper, 4 * step + 2, upper, 4 * step + 3);
                left[3] = pair::<X, Const<8>>(lower, 4 * step + 2, lower, 4 * step + 3);
                #[unroll]
                for r in 0..row_tiles {
                    if first_row + r * COLUMNS < sizes.rows {
                        let mut right = Array::<Pair<X>>::new(2usize);
                        right[0] = pair::<X, Const<8>>(values[r], 4 * step, values[r], 4 * step + 1);
                        right[1] = pair::<X, Const<8>>(values[r], 4 * step + 2, values[r], 4 * step + 3);
                        multiply::<X>(&left, &right, sums.index_mut(r * output_tiles + o));
                    }
                }
            }
        }
        column = next;
    }

    // A round for each tile of rows: [planes, columns, outputs].
    let mut shared = SharedMemory::<f32>::new(PLANES * COLUMNS * OUTPUTS);
    #[unroll]
    for r in 0..row_tiles {
        if first_row + r * COLUMNS < sizes.rows {
            #[unroll]
            for o in 0..output_tiles {
                let part = sums.index(r * output_tiles + o);
                let (upper, lower) = (part[0], part[1]);
                let at = (plane * COLUMNS + 2 * j) * OUTPUTS + o * TILE + i;
                shared[at] = upper[0];
                shared[at + OUTPUTS] = upper[1];
                shared[at + 8] = lower[0];
                shared[at + OUTPUTS + 8] = lower[1];
            }
            sync_cube();
            let outputs = comptime!(if is_gated { OUTPUTS / 2 } else { OUTPUTS });
            let (row, at) = (first_row + r * COLUMNS + unit / outputs, unit / outputs * OUTPUTS + unit % outputs);
            let output = block.first + unit % outputs;
            if unit < COLUMNS * outputs && row < sizes.rows && output < block.outputs {
                let mut sum = summed(&shared, at);
                if comptime!(blueprint.bias) {
                    sum += bias_of::<A>(bias_a, bias_b, bias_c, block.matrix, output, blueprint);
                }
                let place = row * sizes.width + block.before + output;
                match blueprint.end {
                    Ending::Each => {}
                    Ending::Add => {
                        sum += f32::cast_from(residual[place]);
                    }
                    Ending::Gated(activation) => {
                        let mut up = summed(&shared, at + outputs);
                        if comptime!(blueprint.bias) {
                            up += f32::cast_from(bias_b[output]);
                        }
                        sum = gated(sum, up, activation);
                    }
                }
                y[place] = X::cast_from(sum);
            }
            sync_cube();
        }
    }
}

/// The planes' sums of one number of the result.
#[cube]
fn summed(shared: &SharedMemory<f32>, at: usize) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for p in 0..PLANES {
        sum += shared[p * COLUMNS * OUTPUTS + at];
    }
    sum
}

#[cube]
fn bias_of<A: Float>(
    a: &Array<A>,
    b: &Array<A>,
    c: &Array<A>,
    matrix: usize,
    output: usize,
    #[comptime] blueprint: Blueprint,
) -> f32 {
    if comptime!(blueprint.layers == 1 || matches!(blueprint.end, Ending::Gated(_))) || matrix == 0 {
        f32::cast_from(a[output])
    } else if comptime!(blueprint.layers == 2) || matrix == 1 {
        f32::cast_from(b[output])
    } else {
        f32::cast_from(c[output])
    }
}

/// Loads what the unit multiplies of row `8 · o + i` of the cube's block, for all `o`: a vector of numbers at `column`,
/// or the codes of as many with their scale.
#[cube]
fn load<W: Numeric, S: Numeric, M: Size>(
    a: &Array<Vector<W, M>>,
    b: &Array<Vector<W, M>>,
    c: &Array<Vector<W, M>>,
    scales_a: &Array<S>,
    scales_b: &Array<S>,
    scales_c: &Array<S>,
    block: &Block,
    sizes: &Sizes,
    i: usize,
    column: usize,
    codes: &mut Array<Vector<W, M>>,
    scales: &mut Array<S>,
    #[comptime] blueprint: Blueprint,
) {
    let is_gated = comptime!(matches!(blueprint.end, Ending::Gated(_)));
    let tiles = comptime!(OUTPUTS / 8);
    let layers = comptime!(if is_gated { 1 } else { blueprint.layers });
    #[unroll]
    for o in 0..tiles {
        let in_block = comptime!((if is_gated { o % (tiles / 2) } else { o }) * 8);
        let row = min(block.first + in_block + i, block.outputs - 1);
        codes[o] = Vector::new(W::from_int(0));
        scales[o] = S::from_int(0);
        if column < sizes.inputs {
            if comptime!(is_gated && o >= tiles / 2) {
                stored::<W, S, M>(b, scales_b, row, column, sizes, codes, scales, o, blueprint.format);
            } else if comptime!(layers == 1) || block.matrix == 0 {
                stored::<W, S, M>(a, scales_a, row, column, sizes, codes, scales, o, blueprint.format);
            } else if comptime!(layers == 2) || block.matrix == 1 {
                stored::<W, S, M>(b, scales_b, row, column, sizes, codes, scales, o, blueprint.format);
            } else {
                stored::<W, S, M>(c, scales_c, row, column, sizes, codes, scales, o, blueprint.format);
            }
        }
    }
}

#[cube]
fn stored<W: Numeric, S: Numeric, M: Size>(
    matrix: &Array<Vector<W, M>>,
    matrix_scales: &Array<S>,
    row: usize,
    column: usize,
    sizes: &Sizes,
    codes: &mut Array<Vector<W, M>>,
    scales: &mut Array<S>,
    #[comptime] o: usize,
    #[comptime] format: Option<Format>,
) {
    codes[o] = matrix[row * sizes.inputs + column];
    if let Some(format) = format {
        scales[o] = scale_of::<S>(matrix_scales, row, column / DEPTH, sizes.inputs / DEPTH, format);
    }
}

/// The eight numbers that a part stands for.
#[cube]
fn widened<X: Float, W: Numeric, S: Numeric, M: Size>(
    codes: Vector<W, M>,
    scale: S,
    #[comptime] blueprint: Blueprint,
) -> Vector<X, Const<8>> {
    match blueprint.format {
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
                let number = (code(u32::cast_from(codes[word]), i, format) - step.zero) * step.scale;
                wide[n] = X::cast_from(number);
            }
            wide
        }
    }
}

/// Eight numbers of a row of the input, those that the weights of the same unit are multiplied by.
#[cube]
fn input<X: Float, N: Size>(
    x: &Array<Vector<X, N>>,
    row: usize,
    column: usize,
    j: usize,
    sizes: &Sizes,
    #[comptime] format: Option<Format>,
) -> Vector<X, Const<8>> {
    let mut vector = Vector::<X, Const<8>>::new(X::from_int(0));
    if column < sizes.inputs {
        let row = min(row, sizes.rows - 1) * sizes.inputs;
        if comptime!(format == Some(Format::Int4)) {
            // Four neighbours and the four that are 16 further, each half of a vector.
            let group = row + column - j;
            let (near, far) = (x[group + j / 2], x[group + 2 + j / 2]);
            let upper = j % 2 == 1;
            #[unroll]
            for n in 0..4usize {
                vector[n] = select(upper, near[n + 4], near[n]);
                vector[n + 4] = select(upper, far[n + 4], far[n]);
            }
        } else {
            vector = Vector::cast_from(x[row + column]);
        }
    }
    vector
}
