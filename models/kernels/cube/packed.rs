//! Packed weights, read as they lie: a unit takes a group of 32 at a time.
//!
//! Codes become the upper bits of a mantissa, so that they are numbers between 1 and 2 without a conversion; what that
//! adds to a sum follows from the sum of the inputs.

use cubecl::prelude::*;

use super::linear_planes::{Blueprint, Sizes, normed};
use super::tensor::PLANE;
use crate::weight::{Format, GROUP};

/// Words that are loaded at once: 16 bytes.
pub const WORDS: usize = 4;

/// The bits of 1.
const ONE: u32 = 0x3f80_0000;

/// Each unit's share of the products with packed weights, and of the rows' squares.
#[cube]
pub fn packed_products<X: Float, G: Float, W: Numeric, S: Numeric, N: Size, M: Size>(
    x: &Array<Vector<X, N>>,
    gain: &Array<Vector<G, N>>,
    codes: &Array<Vector<W, M>>,
    scales: &Array<S>,
    sizes: &Sizes,
    first_row: usize,
    first_output: usize,
    outputs: usize,
    sums: &mut Array<f32>,
    squares: &mut Array<f32>,
    #[comptime] blueprint: Blueprint,
) {
    let (rows, columns) = comptime!((blueprint.rows, blueprint.outputs));
    let format = comptime!(blueprint.format.unwrap_or(Format::Int8));
    let loads = comptime!(loads(format));
    let width = N::value().comptime();
    let vectors = comptime!(GROUP / width);
    let groups = sizes.vectors / vectors;
    let mut group = UNIT_POS_X as usize;
    while group < groups {
        let mut words = Array::<Vector<W, M>>::new(comptime!(loads * columns));
        let mut steps = Array::<f32>::new(columns);
        let mut zeros = Array::<f32>::new(columns);
        #[unroll]
        for o in 0..columns {
            let output = min(first_output + o, outputs - 1);
            #[unroll]
            for l in 0..loads {
                words[o * loads + l] = codes[(output * groups + group) * loads + l];
            }
            let step = step::<S>(scale_of::<S>(scales, output, group, groups, format), format);
            steps[o] = step.scale;
            zeros[o] = step.zero;
        }
        #[unroll]
        for r in 0..rows {
            let row = min(first_row + r, sizes.rows - 1);
            let mut values = Array::<Vector<f32, N>>::new(vectors);
            let mut total = 0.0f32;
            #[unroll]
            for i in 0..vectors {
                let at = group * vectors + i;
                let value = normed::<X, G, N>(x, gain, row * sizes.vectors + at, at, squares, r, blueprint.normed);
                if comptime!(format != Format::Fp8) {
                    #[unroll]
                    for j in 0..N::value() {
                        total += value[j];
                    }
                }
                values[i] = value;
            }
            #[unroll]
            for o in 0..columns {
                let mut sum = 0.0f32 - zeros[o] * total;
                #[unroll]
                for i in 0..GROUP {
                    let value = values[comptime!(i / width)];
                    let (load, word) = comptime!(place(format, i));
                    let bits = u32::cast_from(words[comptime!(o * loads + load)][word]);
                    sum += code(bits, i, format) * value[comptime!(i % width)];
                }
                sums[r * columns + o] += steps[o] * sum;
            }
        }
        group += PLANE as usize;
    }
}

/// What the codes of a group stand for: `scale · (code - zero)` with codes as [`code`] gives them.
#[derive(CubeType, Clone, Copy)]
pub struct Step {
    pub scale: f32,
    pub zero: f32,
}

/// The step that a stored scale means.
#[cube]
pub fn step<S: Numeric>(scale: S, #[comptime] format: Format) -> Step {
    match format {
        Format::Int8 => Step { scale: 256.0f32 * f32::cast_from(scale), zero: 1.5f32.runtime() },
        Format::Int4 => {
            let word = u32::cast_from(scale);
            let scale = f32::reinterpret((word >> 4u32) << 19u32);
            Step { scale: 16.0f32 * scale, zero: f32::reinterpret(((word & 15u32) << 19u32) | ONE) }
        }
        Format::Fp8 => Step { scale: f32::cast_from(scale), zero: 0.0f32.runtime() },
    }
}

/// The scale of a group of an output, as it is stored.
#[cube]
pub fn scale_of<S: Numeric>(
    scales: &Array<S>,
    output: usize,
    group: usize,
    groups: usize,
    #[comptime] format: Format,
) -> S {
    match format {
        Format::Fp8 => scales[output / 128 * ((groups + 3) / 4) + group / 4],
        _ => scales[output * groups + group],
    }
}

/// The code of weight `i` of a group, taken from the word that holds it, as a number.
#[cube]
pub fn code(word: u32, #[comptime] i: usize, #[comptime] format: Format) -> f32 {
    match format {
        // 1 + (code + 128) / 256.
        Format::Int8 => {
            let at = comptime!(8 * (i % 4) as u32);
            f32::reinterpret((moved(word ^ 0x8080_8080u32, at, 15u32) & 0x007f_8000u32) | ONE)
        }
        // 1 + code / 16.
        Format::Int4 => {
            let at = comptime!(8 * (i % 4) as u32 + if i < GROUP / 2 { 0 } else { 4 });
            f32::reinterpret((moved(word, at, 19u32) & 0x0078_0000u32) | ONE)
        }
        // The fields of an f32 whose exponent is 120 too low.
        Format::Fp8 => {
            let at = comptime!(8 * (i % 4) as u32);
            let fields = moved(word, at, 20u32) & 0x07f0_0000u32;
            let sign = moved(word, comptime!(at + 7), 31u32) & 0x8000_0000u32;
            f32::reinterpret(fields | sign) * 1.329_228e36f32 // 2¹²⁰
        }
    }
}

/// Bits with what stood at bit `from` at bit `to`.
#[cube]
fn moved(bits: u32, #[comptime] from: u32, #[comptime] to: u32) -> u32 {
    if comptime!(from <= to) { bits << comptime!(to - from) } else { bits >> comptime!(from - to) }
}

/// Loads of [`WORDS`] that hold a group.
pub fn loads(format: Format) -> usize {
    if format == Format::Int4 { 1 } else { 2 }
}

/// Which load and which of its words hold weight `i` of a group.
fn place(format: Format, i: usize) -> (usize, usize) {
    match format {
        Format::Int4 => (0, i % (GROUP / 2) / 4),
        _ => (i / 16, i % 16 / 4),
    }
}
