//! One row of input by packed weights, on tensor cores.
//!
//! A block of sixteen rows of weights is the left operand. The right one has eight columns, and there is one row of input:
//! column `c` is the `c`th of eight groups, and nought where another is multiplied. So the sums of eight groups stand
//! apart, and each is multiplied by its scale once. What a weight costs decides as much as what its bytes do, so both
//! operands are f16, whose mantissa takes codes with the fewest instructions.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use super::ending::{Ending, ended};
use super::input::{Input, input};
use super::packed::WORDS;
use super::product::Product;
use super::row_cursor::{Cursor, block_of};
use super::row_load::Coming;
use super::row_products::eight_groups;
use super::row_sums::{joined, leave};
use super::staged::{EIGHT, Staged};
use super::weights::{Weights, dtypes, weights};
use crate::kernels::cube::launch::launch;
use crate::kernels::cube::mma::{TILE, has_mma};
use crate::kernels::cube::tensor::{PLANE, array, multiprocessors, width};
use crate::weight::{Format, GROUP};

/// Numbers of a vector of input.
const WIDTH: usize = 8;

/// Blocks of a cube, at most.
const BLOCKS: usize = 16;

/// Planes of a cube, at most, as its registers serve; not fewer than blocks, so that a plane's share is one block at most.
fn planes_at_most(format: Format) -> usize {
    if format == Format::Int4 { 20 } else { BLOCKS }
}

/// Planes that stage the row, at most: the others ask for their weights meanwhile.
const STAGERS: usize = 8;

/// How a cube works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Blocks that a cube multiplies; of a gate and its partner half as many each, in turns.
    blocks: usize,
    /// Eights of groups of a block.
    pub eights: usize,
    /// Eights that a plane takes, one after another, of one block and the next: the cube's are shared out evenly.
    pub share: usize,
    /// Matrices.
    pub layers: usize,
    pub normed: bool,
    bias: bool,
    end: Ending,
    pub format: Format,
    /// Whether groups of a row are whole eights.
    pub whole: bool,
}

impl Blueprint {
    /// One cube for each multiprocessor while blocks are few, with as many planes as its registers serve, was fastest on
    /// an H200 with the matrices of a Llama of 8B.
    fn new<R: CubeRuntime>(product: &Product<R>, format: Format) -> Self {
        let end = product.end.kind();
        let blocks = blocks(product).div_ceil(multiprocessors(&product.x.client)).min(BLOCKS);
        let blocks = if end.is_gated() { blocks.next_multiple_of(2) } else { blocks };
        let groups = product.inputs / GROUP;
        let eights = groups.div_ceil(EIGHT);
        let share = (blocks * eights).div_ceil(planes_at_most(format));
        Self {
            blocks,
            eights,
            share,
            layers: product.layers.len(),
            normed: product.norm.is_some(),
            bias: product.has_bias(),
            end,
            format,
            whole: groups.is_multiple_of(EIGHT),
        }
    }

    /// Planes of a cube.
    pub fn planes(&self) -> usize {
        (self.blocks * self.eights).div_ceil(self.share)
    }

    /// Planes that stage the row before they ask for weights.
    pub fn stagers(&self) -> usize {
        STAGERS.min(self.planes())
    }

    /// Groups of a row, counted up to whole eights.
    pub fn room(&self) -> usize {
        self.eights * EIGHT
    }

    /// Blocks that a plane may have a part in.
    pub fn parts(&self) -> usize {
        if self.eights.is_multiple_of(self.share) { 1 } else { 2 }
    }

    /// Matrices that make one result.
    pub fn of_result(&self) -> usize {
        if self.end.is_gated() { 2 } else { 1 }
    }

    /// Bytes of shared memory: the row, what belongs to its groups, and what planes leave behind.
    fn shared(&self) -> usize {
        let left = self.planes() * (self.parts() * TILE + 1) * size_of::<f32>();
        (self.room() + 1) * (GROUP * 2 + 4 * size_of::<f32>()) + left
    }
}

/// How one row of 16-bit floats is multiplied by packed weights, with sums in f32; `None` where that does not suit.
pub fn blueprint<R: CubeRuntime>(product: &Product<R>) -> Option<Blueprint> {
    let (x, format) = (&product.x, product.layers[0].weight.format()?);
    let f16 = matches!(x.dtype, DType::F16 | DType::BF16) && has_mma(&x.client, DType::F16);
    // Scales are loaded two at a time, and so an odd number of groups is left to planes.
    if product.rows != 1 || !product.inputs.is_multiple_of(2 * GROUP) || !f16 {
        return None;
    }
    let floats: Vec<_> = product.norm.iter().map(|(gain, _)| gain).chain([x]).collect();
    let blueprint = Blueprint::new(product, format);
    let fits = blueprint.shared() <= x.client.properties().hardware.max_shared_memory_size;
    (fits && width(&floats, &[GROUP]) == WIDTH).then_some(blueprint)
}

/// Blocks of all matrices.
fn blocks<R: CubeRuntime>(product: &Product<R>) -> usize {
    let of_result = if product.end.kind().is_gated() { 2 } else { 1 };
    of_result * product.blocks(TILE)
}

/// Multiplies one row.
pub fn launch<R: CubeRuntime>(product: &Product<R>, blueprint: Blueprint) {
    let x = &product.x;
    let gain = product.norm.as_ref().map_or(x.dtype, |(gain, _)| gain.dtype);
    let [.., bias] = dtypes(product);
    let types = [x.dtype, gain, bias].map(DType::into);
    // SAFETY: rows and groups beyond the last are read as the last; such rows are not written, and such groups are
    // multiplied by noughts. Groups are even, so that scales fill words, and packed tensors begin at whole vectors.
    unsafe {
        launch!(
            row::Row beside x,
            CubeCount::Static(blocks(product).div_ceil(blueprint.blocks) as u32, 1, 1),
            CubeDim::new_2d(PLANE, blueprint.planes() as u32);
            X = types[0], G = types[1], A = types[2]; N = WIDTH, M = WORDS;
            input: Input<row::X, row::G, row::N> = input(product, WIDTH),
            matrices: Sequence<Weights<u32, u32, row::A, row::M>> = weights(product, [DType::U32; 2]),
            residual: ComptimeOption<Array<row::X>> = product.residual().map(array).into(),
            y: Array<row::X> = array(&product.y);
            blueprint = blueprint, dtypes = types,
        );
    }
}

/// One cube makes some blocks of the result. Planes that do not stage the row have their first weights on their way
/// meanwhile; the next are on their way while others are multiplied.
#[cube(launch_unchecked)]
fn row<X: Float, G: Float, A: Float, N: Size, M: Size>(
    input: &Input<X, G, N>,
    matrices: &Sequence<Weights<u32, u32, A, M>>,
    residual: &ComptimeOption<Array<X>>, // [outputs], if one is added
    y: &mut Array<X>,                    // [outputs] of each result
    #[comptime] blueprint: Blueprint,
    #[define(X, G, A)] _dtypes: [StorageType; 3],
) {
    let (eights, share, parts) = comptime!((blueprint.eights, blueprint.share, blueprint.parts()));
    let (first, plane) = (CUBE_POS_X as usize * blueprint.blocks, UNIT_POS_Y as usize);
    let groups = input.vectors / comptime!(GROUP / WIDTH);
    let one = matrices.index(0usize).one;
    let mut staged = Staged::<M>::new(blueprint);
    if plane < blueprint.stagers() {
        staged.fill(input, blueprint);
    }
    let mut eight = plane * share % eights;
    let count = min(share, comptime!(blueprint.blocks * eights) - plane * share);
    let mut cursor = Cursor::new::<A, M>(matrices, first + plane * share / eights, eight, groups, blueprint);
    let mut coming = Coming::<M>::new(blueprint.format);
    // There always are some, but the compiler, which does not know, would load them after all have waited for the row.
    if count > 0 {
        coming.load::<A>(matrices, &mut cursor, groups, blueprint);
    }
    sync_cube();

    // [planes, parts, rows of a block].
    let mut shared = SharedMemory::<f32>::new(comptime!(blueprint.planes() * parts * TILE));
    // Of rows `i` and `i + 8` of a block.
    let mut sums = Array::<f32>::new(2usize);
    sums[0] = 0.0f32;
    sums[1] = 0.0f32;
    let mut part = plane * parts;
    let mut done = 0usize;
    while done < count {
        let taken = coming.taken(blueprint.format);
        done += 1;
        if done < count {
            coming.load::<A>(matrices, &mut cursor, groups, blueprint);
        }
        eight_groups::<M>(&staged, &taken, eight, one, &mut sums, blueprint);
        eight += 1;
        if eight == eights || done == count {
            leave(&mut sums, &mut shared, part * TILE);
            part += 1;
            eight = 0;
        }
    }
    sync_cube();

    let (nth, at) = (UNIT_POS as usize / TILE * blueprint.of_result(), UNIT_POS as usize % TILE);
    let block = block_of::<A, M>(matrices, first + nth, blueprint);
    let output = block.first + at;
    if nth < blueprint.blocks && output < block.outputs {
        let scale = staged.scale(input, blueprint);
        let sum = joined(&shared, nth, at, blueprint) * scale;
        let mut partner = 0.0f32;
        if comptime!(blueprint.of_result() == 2) {
            partner = joined(&shared, nth + 1, at, blueprint) * scale;
        }
        let (place, layers) = (block.before + output, blueprint.layers);
        let (bias, end) = comptime!((blueprint.bias, blueprint.end));
        y[place] =
            ended::<X, u32, u32, A, M>(sum, partner, matrices, residual, &block, output, place, layers, bias, end);
    }
}
