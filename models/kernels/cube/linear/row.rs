//! One row of input by packed weights, on tensor cores.
//!
//! A block of sixteen rows of weights is the left operand. The right one has eight columns, and there is one row of input:
//! column `c` is the `c`th of eight groups, and nought where another is multiplied. So the sums of eight groups stand
//! apart, and each is multiplied by its scale once: a weight costs some two instructions, and memory decides.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::block::Block;
use super::ending::{Ending, ended};
use super::input::{Input, input};
use super::packed::{WORDS, step, words_of};
use super::product::Product;
use super::row_codes::{Coming, inputs_of, pairs, products_of, unit_and_base};
use super::staged::{EIGHT, Staged};
use super::sums::total;
use super::weights::{Weights, dtypes, weights};
use crate::kernels::cube::launch::launch;
use crate::kernels::cube::mma::{Pair, TILE, has_mma, multiply, nought};
use crate::kernels::cube::tensor::{PLANE, array, multiprocessors, width};
use crate::weight::{Format, GROUP};

/// Numbers of a vector of input.
const WIDTH: usize = 8;

/// Planes of a cube, at most.
const PLANES: usize = 16;

/// How a cube works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Blocks that a cube multiplies; of a gate and its partner half as many each, in turns.
    blocks: usize,
    /// Planes that share a block.
    splits: usize,
    /// Eights of groups that a plane has on their way at once.
    loads: usize,
    /// Matrices.
    pub layers: usize,
    pub normed: bool,
    bias: bool,
    end: Ending,
    pub format: Format,
    /// Whether input is bf16, and not f16.
    bf16: bool,
    /// Groups of a row, counted up to whole eights.
    pub room: usize,
}

impl Blueprint {
    /// One cube for each multiprocessor while blocks are few, with as many planes as its registers serve, was fastest on
    /// an H200 with the matrices of a Llama of 8B; and so were the loads.
    fn new<R: CubeRuntime>(product: &Product<R>, format: Format) -> Self {
        let end = product.end.kind();
        let gated = matches!(end, Ending::Gated(_));
        let blocks = blocks(product).div_ceil(multiprocessors(&product.x.client)).min(PLANES);
        let blocks = if gated { blocks.next_multiple_of(2) } else { blocks };
        let eights = (product.inputs / GROUP).div_ceil(EIGHT);
        // No more planes than are busy in each round.
        let splits = eights.div_ceil(eights.div_ceil((PLANES / blocks).min(eights)));
        let loads = if format == Format::Int4 { 2 } else { 1 }.min(eights.div_ceil(splits));
        let (layers, normed, bias) = (product.layers.len(), product.norm.is_some(), product.has_bias());
        let bf16 = product.x.dtype == DType::BF16;
        Self { blocks, splits, loads, layers, normed, bias, end, format, bf16, room: eights * EIGHT }
    }

    /// Planes of a cube.
    pub fn planes(&self) -> usize {
        self.blocks * self.splits
    }

    fn is_gated(&self) -> bool {
        matches!(self.end, Ending::Gated(_))
    }

    /// Bytes of shared memory: the row, its sums, and what planes leave behind.
    fn shared(&self) -> usize {
        (self.room + 1) * (GROUP * 2 + size_of::<f32>()) + self.planes() * (TILE + 1) * size_of::<f32>()
    }
}

/// How one row of 16-bit floats is multiplied by packed weights, with sums in f32; `None` where that does not suit.
pub fn blueprint<R: CubeRuntime>(product: &Product<R>) -> Option<Blueprint> {
    let (x, format) = (&product.x, product.layers[0].weight.format()?);
    // Of 8 bits the codes are small beside what makes them numbers of f16, and sums would lose their last bits.
    let exact = format != Format::Int8 || x.dtype == DType::BF16;
    if product.rows != 1 || !product.inputs.is_multiple_of(GROUP) || !exact || !has_mma(&x.client, x.dtype) {
        return None;
    }
    let floats: Vec<_> = product.norm.iter().map(|(gain, _)| gain).chain([x]).collect();
    let blueprint = Blueprint::new(product, format);
    let fits = blueprint.shared() <= x.client.properties().hardware.max_shared_memory_size;
    (fits && width(&floats, &[GROUP]) == WIDTH).then_some(blueprint)
}

/// Blocks of all matrices.
fn blocks<R: CubeRuntime>(product: &Product<R>) -> usize {
    let of_result = if matches!(product.end.kind(), Ending::Gated(_)) { 2 } else { 1 };
    of_result * product.blocks(TILE)
}

/// Multiplies one row.
pub fn launch<R: CubeRuntime>(product: &Product<R>, blueprint: Blueprint) {
    let x = &product.x;
    // It may have been normed since.
    let blueprint = Blueprint { normed: product.norm.is_some(), ..blueprint };
    let gain = product.norm.as_ref().map_or(x.dtype, |(gain, _)| gain.dtype);
    let [codes, scales, bias] = dtypes(product);
    let types = [x.dtype, gain, codes, scales, bias].map(DType::into);
    // SAFETY: rows and groups beyond the last are read as the last; such rows are not written, and such groups are
    // multiplied by noughts.
    unsafe {
        launch!(
            row::Row beside x,
            CubeCount::Static(blocks(product).div_ceil(blueprint.blocks) as u32, 1, 1),
            CubeDim::new_2d(PLANE, blueprint.planes() as u32);
            X = types[0], G = types[1], W = types[2], S = types[3], A = types[4]; N = WIDTH, M = WORDS;
            input: Input<row::X, row::G, row::N> = input(product, WIDTH),
            matrices: Sequence<Weights<row::W, row::S, row::A, row::M>> = weights(product),
            residual: ComptimeOption<Array<row::X>> = product.residual().map(array).into(),
            y: Array<row::X> = array(&product.y);
            blueprint = blueprint, dtypes = types,
        );
    }
}

/// One cube makes some blocks of the result. The first weights are on their way while the row is staged, the next while
/// others are multiplied.
#[cube(launch_unchecked)]
fn row<X: Float, G: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, G, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    residual: &ComptimeOption<Array<X>>, // [outputs], if one is added
    y: &mut Array<X>,                    // [outputs] of each result
    #[comptime] blueprint: Blueprint,
    #[define(X, G, W, S, A)] _dtypes: [StorageType; 5],
) {
    let (format, splits, loads) = comptime!((blueprint.format, blueprint.splits, blueprint.loads));
    let first = CUBE_POS_X as usize * blueprint.blocks;
    let groups = input.vectors / comptime!(GROUP / WIDTH);
    let eights = (groups + comptime!(EIGHT - 1)) / EIGHT;
    let one = matrices.index(0usize).one;
    let block = block_of::<W, S, A, M>(matrices, first + UNIT_POS_Y as usize / splits, blueprint);
    let mut eight = UNIT_POS_Y as usize % splits;
    let mut coming = Sequence::<Coming<W, S, M>>::new();
    #[unroll]
    for l in 0..loads {
        let mut load = Coming::<W, S, M>::new(format);
        load.load::<A>(matrices, &block, eight + l * splits, groups, blueprint);
        coming.push(load);
    }
    let mut staged = Staged::<M>::new(blueprint);
    staged.fill(input, blueprint);
    let mut sums = Array::<f32>::new(2usize);
    sums[0] = 0.0f32;
    sums[1] = 0.0f32;
    while eight < eights {
        #[unroll]
        for l in 0..loads {
            let at = eight + l * splits;
            let taken = coming.index(l).taken(format);
            if at + loads * splits < eights {
                coming.index_mut(l).load::<A>(matrices, &block, at + loads * splits, groups, blueprint);
            }
            if at < eights {
                eight_groups::<X, W, S, M>(&staged, &taken, at, one, &mut sums, blueprint);
            }
        }
        eight += loads * splits;
    }

    // [planes, rows of a block].
    let mut shared = SharedMemory::<f32>::new(comptime!(blueprint.planes() * TILE));
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    #[unroll]
    for row in 0..2usize {
        let mut sum = sums[row];
        sum += plane_shuffle_xor(sum, 1u32);
        sum += plane_shuffle_xor(sum, 2u32);
        if j == 0 {
            shared[UNIT_POS_Y as usize * TILE + 8 * row + i] = sum;
        }
    }
    sync_cube();
    let of_result = comptime!(if blueprint.is_gated() { 2 } else { 1 });
    let (nth, at) = (UNIT_POS as usize / TILE * of_result, UNIT_POS as usize % TILE);
    let block = block_of::<W, S, A, M>(matrices, first + nth, blueprint);
    let output = block.first + at;
    if nth < blueprint.blocks && output < block.outputs {
        let scale = staged.scale(input, blueprint);
        let sum = total(&shared, nth * splits * TILE + at, TILE, splits) * scale;
        let mut partner = 0.0f32;
        if comptime!(blueprint.is_gated()) {
            partner = total(&shared, (nth + 1) * splits * TILE + at, TILE, splits) * scale;
        }
        let (place, layers) = (block.before + output, blueprint.layers);
        let (bias, end) = comptime!((blueprint.bias, blueprint.end));
        y[place] = ended::<X, W, S, A, M>(sum, partner, matrices, residual, &block, output, place, layers, bias, end);
    }
}

/// The `nth` block; those of a gate and its partner come in turns.
#[cube]
fn block_of<W: Numeric, S: Numeric, A: Float, M: Size>(
    matrices: &Sequence<Weights<W, S, A, M>>,
    nth: usize,
    #[comptime] blueprint: Blueprint,
) -> Block {
    if comptime!(blueprint.is_gated()) {
        let mut block = Block::nth::<W, S, A, M>(matrices, nth / 2, TILE, 1usize);
        block.matrix = nth % 2;
        block
    } else {
        Block::nth::<W, S, A, M>(matrices, nth, TILE, blueprint.layers)
    }
}

/// Adds a unit's share of the products of eight groups with rows `i` and `i + 8` of a block.
#[cube]
fn eight_groups<X: Float, W: Numeric, S: Numeric, M: Size>(
    staged: &Staged<M>,
    coming: &Coming<W, S, M>,
    eight: usize,
    one: u32,
    sums: &mut Array<f32>,
    #[comptime] blueprint: Blueprint,
) {
    let (format, bf16) = comptime!((blueprint.format, blueprint.bf16));
    let (words, products) = comptime!((words_of(format), products_of(format)));
    let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    // Two that do not wait for each other.
    let mut parts = Sequence::<Array<Pair<f32>>>::new();
    parts.push(nought());
    parts.push(nought());
    #[unroll]
    for half in 0..2usize {
        // Column `i` is the `i`th group, whose codes are those of one `j`.
        let inputs = staged.pairs(eight * EIGHT + i, i == 4 * half + j, blueprint);
        #[unroll]
        for w in 0..words {
            let upper = pairs::<X>(coming.word(half, 0usize, w, format), one, bf16, format);
            let lower = pairs::<X>(coming.word(half, 1usize, w, format), one, bf16, format);
            #[unroll]
            for k in 0..products {
                let mut left = Array::<Pair<X>>::new(4usize);
                left[0] = upper[2 * k];
                left[1] = lower[2 * k];
                left[2] = upper[2 * k + 1];
                left[3] = lower[2 * k + 1];
                let first = comptime!(inputs_of(w, k, format));
                let mut right = Array::<Pair<X>>::new(2usize);
                right[0] = Pair::reinterpret(inputs[first]);
                right[1] = Pair::reinterpret(inputs[comptime!(first + 1)]);
                multiply::<X>(&left, &right, parts.index_mut(comptime!((w + k) % 2)));
            }
        }
    }
    let (unit, base) = comptime!(unit_and_base(bf16, format));
    #[unroll]
    for column in 0..2usize {
        let x = staged.sum(eight * EIGHT + 2 * j + column);
        #[unroll]
        for row in 0..2usize {
            let step = step::<S>(coming.scales[2 * row + column], format);
            let (even, odd) = (parts.index(0usize)[row], parts.index(1usize)[row]);
            let product = (even[column] + odd[column]) / unit;
            sums[row] += step.scale * (product - (step.zero + comptime!(base / unit)) * x);
        }
    }
}
