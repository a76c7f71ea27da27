//! Codes as tensor cores take them: put into the mantissa of a 16-bit float, two to a register, they need no conversion.
//! What that adds to a product follows from the sum of the inputs.

use cubecl::prelude::*;

use super::block::Block;
use super::packed::{WORDS, scale_of, words_of};
use super::row::Blueprint;
use super::staged::EIGHT;
use super::weights::{ONE, Weights};
use crate::kernels::cube::mma::Pair;
use crate::weight::{Format, GROUP};

/// Eight groups of rows `i` and `i + 8` of a block as unit `4 · i + j` sees them: the codes of the `j`th of each four,
/// the scales of the `j`th two.
#[derive(CubeType)]
pub struct Coming<W: Numeric, S: Numeric, M: Size> {
    /// `[fours, rows, vectors]`.
    codes: Array<Vector<W, M>>,
    /// `[rows, twos]`.
    pub scales: Array<S>,
}

#[cube]
impl<W: Numeric, S: Numeric, M: Size> Coming<W, S, M> {
    /// Room, not yet written.
    pub fn new(#[comptime] format: Format) -> Coming<W, S, M> {
        Coming::<W, S, M> { codes: Array::new(comptime!(4 * words_of(format) / WORDS)), scales: Array::new(4usize) }
    }

    /// Begins to load the `eight`th eight groups of a block.
    pub fn load<A: Float>(
        &mut self,
        matrices: &Sequence<Weights<W, S, A, M>>,
        block: &Block,
        eight: usize,
        groups: usize,
        #[comptime] blueprint: Blueprint,
    ) {
        let (i, j) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
        let vectors = comptime!(words_of(blueprint.format) / WORDS);
        #[unroll]
        for m in 0..blueprint.layers {
            if block.matrix == m {
                let matrix = matrices.index(m);
                #[unroll]
                for row in 0..2usize {
                    let output = min(block.first + 8 * row + i, block.outputs - 1);
                    #[unroll]
                    for half in 0..2usize {
                        let group = min(eight * EIGHT + 4 * half + j, groups - 1);
                        #[unroll]
                        for v in 0..vectors {
                            self.codes[(2 * half + row) * vectors + v] =
                                matrix.codes[(output * groups + group) * vectors + v];
                        }
                        let group = min(eight * EIGHT + 2 * j + half, groups - 1);
                        self.scales[2 * row + half] =
                            scale_of::<S>(matrix.scales.as_ref().unwrap(), output, group, groups, blueprint.format);
                    }
                }
            }
        }
    }

    /// What has come, so that more can be loaded.
    pub fn taken(&self, #[comptime] format: Format) -> Coming<W, S, M> {
        let mut taken = Coming::<W, S, M>::new(format);
        #[unroll]
        for v in 0..comptime!(4 * words_of(format) / WORDS) {
            taken.codes[v] = self.codes[v];
        }
        #[unroll]
        for s in 0..4usize {
            taken.scales[s] = self.scales[s];
        }
        taken
    }

    /// Word `w` of a group: of the first or second four, of row `i` or `i + 8`.
    pub fn word(
        &self,
        #[comptime] half: usize,
        #[comptime] row: usize,
        #[comptime] w: usize,
        #[comptime] format: Format,
    ) -> u32 {
        let vectors = comptime!(words_of(format) / WORDS);
        let vector = self.codes[comptime!((2 * half + row) * vectors + w / WORDS)];
        u32::cast_from(vector[comptime!(w % WORDS)])
    }
}

/// Products of a plane that a word takes.
pub fn products_of(format: Format) -> usize {
    if format == Format::Fp8 { 1 } else { 2 }
}

/// The pairs of numbers that a word stands for, of even and of odd bytes for each product of a plane.
///
/// Of 4 bits low nibbles, then high ones, as `M + code`, with `M` the number whose last bit is worth 1. Of 8 bits likewise,
/// but high nibbles as `16 · (M + code)`, and for bf16 alone.
#[cube]
pub fn pairs<X: Float>(word: u32, one: u32, #[comptime] bf16: bool, #[comptime] format: Format) -> Array<Pair<X>> {
    let mut pairs = Array::<Pair<X>>::new(comptime!(2 * products_of(format)));
    if comptime!(format == Format::Fp8) {
        // The fields of a float whose exponent is 120, or 8, too low.
        let (even, odd, mask) =
            comptime!(if bf16 { (4u32, 4u32, 0x07f0_07f0u32) } else { (7u32, 1u32, 0x3f80_3f80u32) });
        let up = Pair::new(X::new(comptime!(if bf16 { 1.329_228e36f32 } else { 256.0f32 })));
        let bits = ((word << even) & mask) | ((word << 8u32) & 0x8000_8000u32);
        pairs[0] = Pair::<X>::reinterpret(bits) * up;
        let bits = ((word >> odd) & mask) | (word & 0x8000_8000u32);
        pairs[1] = Pair::<X>::reinterpret(bits) * up;
    } else {
        #[unroll]
        for p in 0..4usize {
            // The sign of a code of 8 bits is turned into its first bit.
            let bits = comptime!(match (p / 2 == 1 && format == Format::Int8, bf16) {
                (false, true) => 0x4300_4300u32,
                (false, false) => 0x6400_6400u32,
                (true, _) => 0x4508_4508u32,
            });
            // Not known to the compiler, as `one` is not: so that masking and these are one instruction.
            let bits = one + comptime!(bits.wrapping_sub(ONE));
            let nibble = comptime!(8 * (p % 2) as u32 + 4 * (p / 2) as u32);
            pairs[p] = Pair::<X>::reinterpret(((word >> nibble) & 0x000f_000fu32) ^ bits);
        }
    }
    pairs
}

/// The first of the two pairs of a group's inputs that product `k` of word `w` takes.
pub fn inputs_of(w: usize, k: usize, format: Format) -> usize {
    // Of 4 bits high nibbles are half a group further.
    if format == Format::Int4 { 2 * w + GROUP / 4 * k } else { 2 * w }
}

/// What [`pairs`] stand for, as [`code`](super::packed::code) has it: a code is `(pairs - base) / unit`.
pub fn unit_and_base(bf16: bool, format: Format) -> (f32, f32) {
    let first = if bf16 { 128.0 } else { 1024.0 };
    match format {
        // 16 · (1 + code / 16) = 16 + code.
        Format::Int4 => (16.0, first - 16.0),
        // 256 · (1 + code / 256) = 256 + code; of two nibbles.
        Format::Int8 => (256.0, first + 16.0 * first - 256.0),
        Format::Fp8 => (1.0, 0.0),
    }
}
