//! Packed weights, read as they lie: a unit takes a group of 32 at a time.
//!
//! Codes become bits of a mantissa, so that they are numbers between 1 and 2 without a conversion; what that adds to a
//! sum follows from the sum of the inputs.

use cubecl::prelude::*;

use super::input::Input;
use super::planes::Blueprint;
use super::sums::Sums;
use super::weights::Weights;
use crate::kernels::cube::tensor::PLANE;
use crate::weight::{Format, GROUP};

/// Words that are loaded at once: 16 bytes.
pub const WORDS: usize = 4;

/// Weights of half a group.
const HALF: usize = GROUP / 2;

/// Each unit's share of the products with packed weights, and of the rows' squares.
///
/// The next weights are on their way while others are multiplied.
#[cube]
pub fn packed_products<X: Float, G: Float, W: Numeric, S: Numeric, A: Float, N: Size, M: Size>(
    input: &Input<X, G, N>,
    matrices: &Sequence<Weights<W, S, A, M>>,
    first_row: usize,
    first_output: usize,
    sums: &mut Sums,
    #[comptime] first_matrix: usize,
    #[comptime] blueprint: Blueprint,
) {
    let (rows, columns, loads) = comptime!((blueprint.rows, blueprint.columns(), blueprint.loads));
    let format = comptime!(blueprint.format.unwrap_or(Format::Int8));
    let count = comptime!(words_of(format));
    let vectors = comptime!(count / WORDS);
    let width = N::value().comptime();
    let groups = input.vectors / comptime!(GROUP / width);
    let one = matrices.index(0usize).one;
    let mut codes = Array::<Vector<W, M>>::new(comptime!(loads * columns * vectors));
    let mut scales = Array::<S>::new(comptime!(loads * columns));
    let mut group = UNIT_POS_X as usize;
    #[unroll]
    for l in 0..loads {
        let at = group + comptime!(l * PLANE as usize);
        load::<W, S, A, M>(matrices, first_output, at, groups, &mut codes, &mut scales, l, first_matrix, blueprint);
    }
    while group < groups {
        #[unroll]
        for l in 0..loads {
            let at = group + comptime!(l * PLANE as usize);
            let next = at + comptime!(loads * PLANE as usize);
            let mut words = Array::<u32>::new(comptime!(columns * count));
            let mut steps = Sequence::<Step>::new();
            #[unroll]
            for o in 0..columns {
                #[unroll]
                for w in 0..count {
                    let vector = codes[comptime!((l * columns + o) * vectors + w / WORDS)];
                    words[o * count + w] = u32::cast_from(vector[comptime!(w % WORDS)]);
                }
                steps.push(step::<S>(scales[l * columns + o], format));
            }
            load::<W, S, A, M>(
                matrices,
                first_output,
                next,
                groups,
                &mut codes,
                &mut scales,
                l,
                first_matrix,
                blueprint,
            );
            if at < groups {
                #[unroll]
                for r in 0..rows {
                    let row = min(first_row + r, input.rows - 1);
                    let values = values::<X, G, N>(input, row, at, &mut sums.squares, r, blueprint);
                    #[unroll]
                    for o in 0..columns {
                        let step = steps.index(o);
                        sums.products[r * columns + o] +=
                            product(&words, comptime!(o * count), &values, step, one, format, blueprint.rounds);
                    }
                }
            }
        }
        group += comptime!(loads * PLANE as usize);
    }
}

/// Begins to load what a plane's unit multiplies of a group, as the `l`th of what is on its way.
#[cube]
fn load<W: Numeric, S: Numeric, A: Float, M: Size>(
    matrices: &Sequence<Weights<W, S, A, M>>,
    first_output: usize,
    group: usize,
    groups: usize,
    codes: &mut Array<Vector<W, M>>,
    scales: &mut Array<S>,
    #[comptime] l: usize,
    #[comptime] first_matrix: usize,
    #[comptime] blueprint: Blueprint,
) {
    let columns = comptime!(blueprint.columns());
    let format = comptime!(blueprint.format.unwrap_or(Format::Int8));
    let vectors = comptime!(words_of(format) / WORDS);
    let at = min(group, groups - 1);
    #[unroll]
    for o in 0..columns {
        let matrix = matrices.index(comptime!(first_matrix + o / blueprint.outputs));
        let output = min(first_output + comptime!(o % blueprint.outputs), matrix.outputs - 1);
        #[unroll]
        for v in 0..vectors {
            codes[(l * columns + o) * vectors + v] = matrix.codes[(output * groups + at) * vectors + v];
        }
        scales[l * columns + o] = scale_of::<S>(matrix.scales.as_ref().unwrap(), output, at, groups, format);
    }
}

/// The inputs that a group is multiplied by, and behind them the sums of both halves.
#[cube]
fn values<X: Float, G: Float, N: Size>(
    input: &Input<X, G, N>,
    row: usize,
    group: usize,
    squares: &mut Array<f32>,
    #[comptime] r: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<f32> {
    let mut values = Array::<f32>::new(comptime!(GROUP + 2));
    values[GROUP] = 0.0f32;
    values[comptime!(GROUP + 1)] = 0.0f32;
    let width = N::value().comptime();
    let vectors = comptime!(GROUP / width);
    #[unroll]
    for v in 0..vectors {
        let vector = input.normed(row, group * vectors + v, squares, r, blueprint.normed);
        #[unroll]
        for j in 0..width {
            let i = comptime!(v * width + j);
            values[i] = vector[j];
            values[comptime!(GROUP + i / HALF)] += vector[j];
        }
    }
    values
}

/// The product of a group's weights, whose words begin with the `first`, with their inputs, see [`values`].
#[cube]
fn product(
    words: &Array<u32>,
    #[comptime] first: usize,
    values: &Array<f32>,
    step: &Step,
    one: u32,
    #[comptime] format: Format,
    #[comptime] rounds: bool,
) -> f32 {
    let (lower, upper) = (values[GROUP], values[comptime!(GROUP + 1)]);
    let mut sum = 0.0f32 - step.zero * (lower + upper);
    if comptime!(format == Format::Int4 && rounds) {
        // Both nibbles of a byte are moved at once: 1 + code / 2048 and 1 + code / 128.
        let mut low = 0.0f32 - lower;
        let mut high = 0.0f32 - upper;
        #[unroll]
        for i in 0..HALF {
            let byte = moved(words[comptime!(first + i / 4)], comptime!(8 * (i % 4) as u32), 12u32);
            low += f32::reinterpret((byte & 0x0000_f000u32) | one) * values[i];
            high += f32::reinterpret((byte & 0x000f_0000u32) | one) * values[comptime!(HALF + i)];
        }
        // Codes are meant as 1 + code / 16.
        sum += (lower + upper) + 128.0f32 * low + 8.0f32 * high;
    } else {
        #[unroll]
        for i in 0..GROUP {
            // Of 4 bits both halves of a group share their words.
            let word = comptime!(if format == Format::Int4 { i % HALF / 4 } else { i / 4 });
            sum += code(words[comptime!(first + word)], i, one, format) * values[i];
        }
    }
    step.scale * sum
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
            Step { scale: 16.0f32 * scale, zero: 1.0f32 + f32::cast_from(word & 15u32) / 16.0f32 }
        }
        Format::Fp8 => Step { scale: f32::cast_from(scale), zero: 0.0f32.runtime() },
    }
}

/// The scale of a group of an output, as it is stored.
#[cube]
#[allow(clippy::manual_div_ceil, reason = "kernels have no `div_ceil`")]
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
pub fn code(word: u32, #[comptime] i: usize, one: u32, #[comptime] format: Format) -> f32 {
    match format {
        // 1 + (code + 128) / 256.
        Format::Int8 => {
            let at = comptime!(8 * (i % 4) as u32);
            f32::reinterpret((moved(word ^ 0x8080_8080u32, at, 15u32) & 0x007f_8000u32) | one)
        }
        // 1 + code / 16.
        Format::Int4 => {
            let at = comptime!(8 * (i % 4) as u32 + if i < GROUP / 2 { 0 } else { 4 });
            f32::reinterpret((moved(word, at, 19u32) & 0x0078_0000u32) | one)
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

/// Words that hold a group.
pub fn words_of(format: Format) -> usize {
    if format == Format::Int4 { WORDS } else { 2 * WORDS }
}
