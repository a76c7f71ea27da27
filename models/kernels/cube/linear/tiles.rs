use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::block::Block;
use super::input::{Input, input};
use super::planes::gated;
use super::product::{Ending, Product};
use super::tiles_load::{Coming, Part, load, widened};
use super::weights::{Weights, bias_of, dtypes, weights};
use crate::kernels::cube::launch::launch;
use crate::kernels::cube::mma::{COLUMNS, Pair, TILE, has_mma, multiply, nought, pair};
use crate::kernels::cube::tensor::{PLANE, array, width};
use crate::weight::{Format, GROUP};

/// Numbers of a vector: 16 bytes of 16 bits each.
const WIDTH: usize = 8;

/// Vectors of the depth that a plane multiplies at once: as many numbers as a group of packed weights has.
pub const DEPTH: usize = GROUP / WIDTH;

/// Columns of the result that a cube makes; of a gate and its partner, half as many of each.
pub const OUTPUTS: usize = 32;

/// How a cube works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Rows of the result that a cube makes.
    pub rows: usize,
    /// Planes, each of which takes its own part of the depth.
    pub planes: usize,
    /// Parts of the depth that a plane has on their way at once.
    pub stages: usize,
    /// Matrices.
    pub layers: usize,
    bias: bool,
    pub end: Ending,
    pub format: Option<Format>,
}

impl Blueprint {
    /// What was fastest on an H200 with the matrices of a Llama of 8B.
    fn new<R: CubeRuntime>(product: &Product<R>) -> Self {
        let (rows, planes, stages) = match product.rows {
            ..=8 => (8, 16, 2),
            9..=16 => (16, 16, 2),
            _ => (32, 16, 1),
        };
        let format = product.layers[0].weight.format();
        let (layers, bias, end) = (product.layers.len(), product.has_bias(), product.end.kind());
        Self { rows, planes, stages, layers, bias, end, format }
    }

    /// Whether a gate and its partner are made together.
    pub fn is_gated(&self) -> bool {
        matches!(self.end, Ending::Gated(_))
    }

    /// Tiles of rows.
    pub fn row_tiles(&self) -> usize {
        self.rows / COLUMNS
    }

    /// Numbers that planes leave behind for the sums of a tile of rows.
    fn sums(&self) -> usize {
        self.planes * COLUMNS * OUTPUTS
    }
}

/// Whether the input is of a dtype that tensor cores multiply, in whole vectors, and the weights of the same or packed.
pub fn suits<R: CubeRuntime>(product: &Product<R>) -> bool {
    let x = &product.x;
    let vectors = |layer: &super::product::Layer<R>| match layer.weight.format() {
        None => layer.weight.codes().dtype == x.dtype && width(&[x, layer.weight.codes()], &[product.inputs]) == WIDTH,
        Some(_) => product.inputs.is_multiple_of(GROUP) && width(&[x], &[product.inputs]) == WIDTH,
    };
    product.layers.iter().all(vectors) && has_mma(&x.client, x.dtype)
}

/// Multiplies on tensor cores, with sums in f32; the input is normed already.
pub fn launch<R: CubeRuntime>(product: &Product<R>) {
    let (x, blueprint) = (&product.x, Blueprint::new(product));
    let blocks = product.blocks(if blueprint.is_gated() { OUTPUTS / 2 } else { OUTPUTS });
    let words = match blueprint.format {
        None => WIDTH,
        Some(Format::Int4) => 1,
        Some(_) => 2,
    };
    let [codes, scales, bias] = dtypes(product);
    let types = [x.dtype, codes, scales, bias].map(DType::into);
    // SAFETY: rows and columns beyond the last are read as the last and not written, the depth's end is read as zeros.
    unsafe {
        launch!(
            tiles::Tiles beside x,
            CubeCount::Static(product.rows.div_ceil(blueprint.rows) as u32, blocks as u32, 1),
            CubeDim::new_2d(PLANE, blueprint.planes as u32);
            X = types[0], W = types[1], S = types[2], A = types[3]; N = WIDTH, M = words;
            input: Input<tiles::X, tiles::X, tiles::N> = input(product, WIDTH),
            matrices: Sequence<Weights<tiles::W, tiles::S, tiles::A, tiles::M>> = weights(product),
            residual: ComptimeOption<Array<tiles::X>> = product.residual().map(array).into(),
            y: Array<tiles::X> = array(&product.y);
            blueprint = blueprint, dtypes = types,
        );
    }
}

/// One cube makes a block of the result: each plane multiplies blocks of the depth as wide as four vectors, the next
/// weights are on their way meanwhile, and at the end the planes put their sums together.
///
/// The weights are the left operand, see [`mma`](crate::kernels::cube::mma).
#[cube(launch_unchecked)]
fn tiles<X: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, X, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    residual: &ComptimeOption<Array<X>>, // [rows, outputs], if one is added
    y: &mut Array<X>,                    // [rows, outputs] of each result
    #[comptime] blueprint: Blueprint,
    #[define(X, W, S, A)] _dtypes: [StorageType; 4],
) {
    let output_tiles = comptime!(OUTPUTS / TILE);
    let (row_tiles, stages) = comptime!((blueprint.row_tiles(), blueprint.stages));
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    let first_row = CUBE_POS_X as usize * blueprint.rows;
    let (size, layers) = comptime!(match blueprint.end {
        Ending::Gated(_) => (OUTPUTS / 2, 1),
        _ => (OUTPUTS, blueprint.layers),
    });
    let block = Block::nth::<W, S, A, M>(matrices, CUBE_POS_Y as usize, size, layers);

    let one = matrices.index(0usize).one;
    let mut sums = Sequence::<Array<Pair<f32>>>::new();
    #[unroll]
    for _ in 0..row_tiles * output_tiles {
        sums.push(nought());
    }
    let mut coming = Coming::<X, W, S, N, M>::new(blueprint);
    let mut column = UNIT_POS_Y as usize * DEPTH + j;
    let step = comptime!(blueprint.planes * DEPTH);
    #[unroll]
    for stage in 0..stages {
        let part = Part { first_row, i, j, column: column + stage * step };
        load::<X, W, S, A, N, M>(input, matrices, &block, &part, stage, &mut coming, blueprint);
    }
    while column - j < input.vectors {
        #[unroll]
        for stage in 0..stages {
            let mut lefts = Array::<Vector<X, Const<8>>>::new(2 * output_tiles);
            #[unroll]
            for o in 0..2 * output_tiles {
                let at = comptime!(stage * 2 * output_tiles + o);
                lefts[o] = widened::<X, W, S, M>(coming.codes[at], coming.scales[at], one, blueprint.format);
            }
            let mut rights = Array::<Vector<X, Const<8>>>::new(row_tiles);
            #[unroll]
            for r in 0..row_tiles {
                rights[r] = coming.input(stage * row_tiles + r, j, blueprint.format);
            }
            let part = Part { first_row, i, j, column: column + comptime!((stages + stage) * step) };
            load::<X, W, S, A, N, M>(input, matrices, &block, &part, stage, &mut coming, blueprint);
            #[unroll]
            for half in 0..2usize {
                #[unroll]
                for o in 0..output_tiles {
                    let (upper, lower) = (lefts[2 * o], lefts[2 * o + 1]);
                    let mut left = Array::<Pair<X>>::new(4usize);
                    left[0] = pair::<X, Const<8>>(upper, 4 * half, upper, 4 * half + 1);
                    left[1] = pair::<X, Const<8>>(lower, 4 * half, lower, 4 * half + 1);
                    left[2] = pair::<X, Const<8>>(upper, 4 * half + 2, upper, 4 * half + 3);
                    left[3] = pair::<X, Const<8>>(lower, 4 * half + 2, lower, 4 * half + 3);
                    #[unroll]
                    for r in 0..row_tiles {
                        let mut right = Array::<Pair<X>>::new(2usize);
                        right[0] = pair::<X, Const<8>>(rights[r], 4 * half, rights[r], 4 * half + 1);
                        right[1] = pair::<X, Const<8>>(rights[r], 4 * half + 2, rights[r], 4 * half + 3);
                        multiply::<X>(&left, &right, sums.index_mut(r * output_tiles + o));
                    }
                }
            }
        }
        column += comptime!(stages * step);
    }

    // A round for each tile of rows: [planes, columns, outputs].
    let mut shared = SharedMemory::<f32>::new(comptime!(blueprint.sums()));
    let unit = UNIT_POS as usize;
    #[unroll]
    for r in 0..row_tiles {
        if first_row + r * COLUMNS < input.rows {
            #[unroll]
            for o in 0..output_tiles {
                let part = sums.index(r * output_tiles + o);
                let (upper, lower) = (part[0], part[1]);
                let at = (UNIT_POS_Y as usize * COLUMNS + 2 * j) * OUTPUTS + o * TILE + i;
                shared[at] = upper[0];
                shared[at + OUTPUTS] = upper[1];
                shared[at + 8] = lower[0];
                shared[at + OUTPUTS + 8] = lower[1];
            }
            sync_cube();
            let (row, at) = (first_row + r * COLUMNS + unit / size, unit / size * OUTPUTS + unit % size);
            let output = block.first + unit % size;
            if unit < COLUMNS * size && row < input.rows && output < block.outputs {
                let mut sum = summed(&shared, at, blueprint);
                if comptime!(blueprint.bias) {
                    sum += bias_of::<W, S, A, M>(matrices, block.matrix, output, layers);
                }
                let place = block.before * input.rows + row * block.outputs + output;
                match blueprint.end {
                    Ending::Each => {}
                    Ending::Add => {
                        sum += f32::cast_from(residual.as_ref().unwrap()[place]);
                    }
                    Ending::Gated(activation) => {
                        let mut up = summed(&shared, at + size, blueprint);
                        if comptime!(blueprint.bias) {
                            up += f32::cast_from(matrices.index(1usize).bias.as_ref().unwrap()[output]);
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
fn summed(shared: &SharedMemory<f32>, at: usize, #[comptime] blueprint: Blueprint) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for p in 0..blueprint.planes {
        sum += shared[p * COLUMNS * OUTPUTS + at];
    }
    sum
}
