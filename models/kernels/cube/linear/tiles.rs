use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::block::Block;
use super::ending::{Ending, ended};
use super::input::{Input, input};
use super::product::Product;
use super::sums::total;
use super::tiles_products::products;
use super::weights::{Weights, dtypes, weights};
use crate::kernels::cube::launch::launch;
use crate::kernels::cube::mma::{COLUMNS, Pair, TILE, has_mma, nought};
use crate::kernels::cube::tensor::{PLANE, array, multiprocessors, width};
use crate::weight::{Format, GROUP};

/// Numbers of a vector: 16 bytes of 16 bits each.
const WIDTH: usize = 8;

/// Vectors of the depth that a plane multiplies at once: as many numbers as a group of packed weights has.
pub const DEPTH: usize = GROUP / WIDTH;

/// Rows of input up to which a cube has registers for weights further ahead.
const FEW: usize = 16;

/// Columns, planes and stages of cubes for few rows by dense weights, and how many of such an H200's multiprocessor
/// holds at once.
const CUBES: [((usize, usize, usize), usize); 4] =
    [((32, 16, 2), 1), ((32, 8, 2), 2), ((64, 8, 1), 2), ((64, 4, 1), 4)];

/// How a cube works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Rows of the result that a cube makes.
    pub rows: usize,
    /// Columns of the result that a cube makes; of a gate and its partner, half as many of each.
    pub outputs: usize,
    /// Planes, each of which takes its own part of the depth.
    pub planes: usize,
    /// Parts of the depth that a plane has on their way at once.
    pub stages: usize,
    /// Matrices that make results of their own.
    layers: usize,
    pub normed: bool,
    bias: bool,
    end: Ending,
    pub format: Option<Format>,
}

impl Blueprint {
    /// What was fastest on an H200 with the matrices of a Llama of 8B.
    fn new<R: CubeRuntime>(product: &Product<R>) -> Self {
        let format = product.layers[0].weight.format();
        let (layers, normed, bias) = (product.results(), product.norm.is_some(), product.has_bias());
        let end = product.end.kind();
        let of =
            |rows, (outputs, planes, stages)| Self { rows, outputs, planes, stages, layers, normed, bias, end, format };
        match (product.rows, format) {
            (..=FEW, None) => {
                // Best are cubes that are all at work at once; where there are too many, those that read the input least.
                let multiprocessors = multiprocessors(&product.x.client);
                let at_once = |(sizes, cubes): ((usize, usize, usize), usize)| {
                    Some(of(FEW, sizes)).filter(|it| product.blocks(it.size()) <= cubes * multiprocessors)
                };
                CUBES.into_iter().find_map(at_once).unwrap_or(of(FEW, (64, 8, 1)))
            }
            (..=8, Some(_)) => of(8, (32, 16, 2)),
            (..=FEW, Some(_)) => of(FEW, (32, 16, 2)),
            _ => of(32, (32, 16, 1)),
        }
    }

    /// Whether a gate and its partner are made together.
    pub fn is_gated(&self) -> bool {
        self.end.is_gated()
    }

    /// Rows of a matrix that a cube multiplies by.
    fn size(&self) -> usize {
        if self.is_gated() { self.outputs / 2 } else { self.outputs }
    }

    /// Tiles of rows.
    pub fn row_tiles(&self) -> usize {
        self.rows / COLUMNS
    }

    /// Numbers that planes leave behind for the sums of a tile of rows.
    fn sums(&self) -> usize {
        self.planes * COLUMNS * self.outputs
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

/// Whether the input is best normed on the way: few rows, of numbers that hold what a norm's weight makes of them.
pub fn norms<R: CubeRuntime>(product: &Product<R>) -> bool {
    let bf16 = |x: &CubeTensor<R>| x.dtype == DType::BF16;
    let holds =
        |(gain, _): &(CubeTensor<R>, f64)| bf16(gain) && bf16(&product.x) && width(&[gain], &[product.inputs]) == WIDTH;
    product.rows <= FEW && product.layers[0].weight.format().is_none() && product.norm.as_ref().is_some_and(holds)
}

/// Multiplies on tensor cores, with sums in f32; the input is normed already, unless [`norms`] says otherwise.
pub fn launch<R: CubeRuntime>(product: &Product<R>) {
    let (x, blueprint) = (&product.x, Blueprint::new(product));
    let blocks = product.blocks(blueprint.size());
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
            matrices: Sequence<Weights<tiles::W, tiles::S, tiles::A, tiles::M>> = weights(product, [codes, scales]),
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
    let outputs = comptime!(blueprint.outputs);
    let output_tiles = comptime!(outputs / TILE);
    let row_tiles = comptime!(blueprint.row_tiles());
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    let first_row = CUBE_POS_X as usize * blueprint.rows;
    let (size, layers) = comptime!((blueprint.size(), blueprint.layers));
    let block = Block::nth::<W, S, A, M>(matrices, CUBE_POS_Y as usize, size, layers);
    let mut sums = Sequence::<Array<Pair<f32>>>::new();
    #[unroll]
    for _ in 0..row_tiles * output_tiles {
        sums.push(nought());
    }
    let mut squares = Array::<f32>::new(row_tiles);
    #[unroll]
    for r in 0..row_tiles {
        squares[r] = 0.0f32;
    }
    // The loop is there for each matrix: loads that wait for a decision come one after another.
    #[unroll]
    for m in 0..layers {
        if block.matrix == m {
            products::<X, W, S, A, N, M>(input, matrices, &block, first_row, &mut sums, &mut squares, m, blueprint);
        }
    }

    // [planes, rows].
    let mut marks = SharedMemory::<f32>::new(comptime!(blueprint.planes * blueprint.rows));
    if comptime!(blueprint.normed) {
        #[unroll]
        for r in 0..row_tiles {
            let mut square = squares[r];
            square += plane_shuffle_xor(square, 1u32);
            square += plane_shuffle_xor(square, 2u32);
            if j == 0 {
                marks[UNIT_POS_Y as usize * blueprint.rows + r * COLUMNS + i] = square;
            }
        }
    }
    // A round for each tile of rows: [planes, columns, outputs].
    let mut shared = SharedMemory::<f32>::new(comptime!(blueprint.sums()));
    let units = comptime!(blueprint.planes * PLANE as usize);
    let rounds = comptime!((COLUMNS * size).div_ceil(units));
    #[unroll]
    for r in 0..row_tiles {
        if first_row + r * COLUMNS < input.rows {
            #[unroll]
            for o in 0..output_tiles {
                let part = sums.index(r * output_tiles + o);
                let (upper, lower) = (part[0], part[1]);
                let at = (UNIT_POS_Y as usize * COLUMNS + 2 * j) * outputs + o * TILE + i;
                shared[at] = upper[0];
                shared[at + outputs] = upper[1];
                shared[at + 8] = lower[0];
                shared[at + outputs + 8] = lower[1];
            }
            sync_cube();
            #[unroll]
            for round in 0..rounds {
                let number = UNIT_POS as usize + round * units;
                let (row, at) = (first_row + r * COLUMNS + number / size, number / size * outputs + number % size);
                let output = block.first + number % size;
                if number < COLUMNS * size && row < input.rows && output < block.outputs {
                    let mut scale = 1.0f32;
                    if comptime!(blueprint.normed) {
                        let square = total(&marks, r * COLUMNS + number / size, blueprint.rows, blueprint.planes);
                        scale = 1.0f32 / f32::sqrt(square / input.numbers + input.eps);
                    }
                    let step = comptime!(COLUMNS * outputs);
                    let sum = total(&shared, at, step, blueprint.planes) * scale;
                    let mut partner = 0.0f32;
                    if comptime!(blueprint.is_gated()) {
                        partner = total(&shared, at + size, step, blueprint.planes) * scale;
                    }
                    let place = block.before * input.rows + row * block.outputs + output;
                    let (bias, end) = comptime!((blueprint.bias, blueprint.end));
                    y[place] = ended::<X, W, S, A, M>(
                        sum, partner, matrices, residual, &block, output, place, layers, bias, end,
                    );
                }
            }
            sync_cube();
        }
    }
}
