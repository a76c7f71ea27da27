//! Codes as tensor cores take them: put into the mantissa of an f16, two to a register, they need no conversion. What that
//! adds to a product follows from the sum of the inputs.

use cubecl::prelude::*;
use half::f16;

use super::packed::Step;
use super::weights::ONE;
use crate::kernels::cube::mma::Pair;
use crate::weight::{Format, GROUP};

/// Products of a plane that a word takes.
pub fn products_of(format: Format) -> usize {
    if format == Format::Int4 { 2 } else { 1 }
}

/// The pairs of numbers that a word stands for, of even and of odd bytes for each product of a plane.
///
/// Of 4 bits low nibbles as `1024 + code`, then high ones, which stay where they are, as `64 + code`; of 8 bits
/// `1024 + code`, with the sign turned so that codes are not below nought.
#[cube]
pub fn pairs(word: u32, one: u32, #[comptime] format: Format) -> Array<Pair<f16>> {
    let mut pairs = Array::<Pair<f16>>::new(comptime!(2 * products_of(format)));
    if comptime!(format == Format::Fp8) {
        // The fields of a float whose exponent is 8 too low.
        let up = Pair::new(f16::new(256.0f32));
        let bits = ((word << 7u32) & 0x3f80_3f80u32) | ((word << 8u32) & 0x8000_8000u32);
        pairs[0] = Pair::<f16>::reinterpret(bits) * up;
        let bits = ((word >> 1u32) & 0x3f80_3f80u32) | (word & 0x8000_8000u32);
        pairs[1] = Pair::<f16>::reinterpret(bits) * up;
    } else {
        #[unroll]
        for p in 0..comptime!(2 * products_of(format)) {
            let (bits, mask) = comptime!(match (format, p / 2) {
                (Format::Int8, _) => (0x6480_6480u32, 0x00ff_00ffu32),
                (_, 0) => (0x6400_6400u32, 0x000f_000fu32),
                (..) => (0x5400_5400u32, 0x00f0_00f0u32),
            });
            // Not known to the compiler, as `one` is not: so that masking and these are one instruction.
            let bits = one + comptime!(bits.wrapping_sub(ONE));
            let word = if comptime!(p % 2 == 1) { word >> 8u32 } else { word };
            pairs[p] = Pair::<f16>::reinterpret((word & mask) ^ bits);
        }
    }
    pairs
}

/// The first of the two pairs of a group's inputs that product `k` of word `w` takes.
pub fn inputs_of(w: usize, k: usize, format: Format) -> usize {
    // Of 4 bits high nibbles are half a group further.
    if format == Format::Int4 { 2 * w + GROUP / 4 * k } else { 2 * w }
}

/// What [`pairs`] stand for, as [`code`](super::packed::code) has it: a code is `(pairs - base) / unit`, with a base for
/// each half of a group.
pub fn unit_and_bases(format: Format) -> (f32, [f32; 2]) {
    match format {
        // 16 · (1 + code / 16) = 16 + code.
        Format::Int4 => (16.0, [1024.0 - 16.0, 64.0 - 16.0]),
        // 256 · (1 + code / 256) = 256 + code.
        Format::Int8 => (256.0, [1024.0 - 256.0; 2]),
        Format::Fp8 => (1.0, [0.0; 2]),
    }
}

/// The step of the first or second of two groups whose scales a word holds; its scale is that of codes in units, see
/// [`unit_and_bases`].
#[cube]
pub fn step(word: u32, #[comptime] column: usize, one: u32, #[comptime] format: Format) -> Step {
    match format {
        Format::Int8 => {
            let bits = if comptime!(column == 0) { word << 16u32 } else { word & 0xffff_0000u32 };
            Step { scale: f32::reinterpret(bits), zero: 1.5f32.runtime() }
        }
        Format::Int4 => {
            let (scale, zero) = if comptime!(column == 0) {
                ((word & 0x0000_fff0u32) << 15u32, word << 19u32)
            } else {
                ((word >> 1u32) & 0x7ff8_0000u32, word << 3u32)
            };
            let zero = f32::reinterpret((zero & 0x0078_0000u32) | one);
            Step { scale: f32::reinterpret(scale), zero }
        }
        Format::Fp8 => Step { scale: f32::reinterpret(word), zero: 0.0f32.runtime() },
    }
}
