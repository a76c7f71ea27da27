//! 4-bit integers in groups of 32 with a scale and a zero point each: `weight = scale · (code - zero)`.
//!
//! Sixteen bytes hold a group: their low nibbles its first sixteen codes, their high nibbles the others. A scale and its
//! zero point share 16 bits: above a positive float of 8 bits of exponent and 4 of mantissa, the upper bits of an f32
//! without its sign; below the zero point.

use burn::tensor::DType;

use super::format::Part;
use super::group::{GROUP, nearest, sum};

/// Scales to try for a group, as fractions of the one that just spans its numbers; each with three zero points.
const TRIALS: usize = 12;
const SMALLEST: f32 = 0.70;
const STEP: f32 = 0.03;

/// Bits of an f32 below those that a scale keeps.
const DROPPED: u32 = 19;

pub(super) fn parts([outputs, inputs]: [usize; 2]) -> [Part; 2] {
    let codes = Part { suffix: "", stored: "U8", dtype: DType::U8, shape: [outputs, inputs / 2], rows: 1 };
    let shape = [outputs, inputs / GROUP];
    [codes, Part { suffix: "_scale", stored: "U16", dtype: DType::U16, shape, rows: 1 }]
}

pub(super) fn pack(weights: &[f32], _shape: [usize; 2]) -> [Vec<u8>; 2] {
    let (mut codes, mut scales) = (Vec::with_capacity(weights.len() / 2), Vec::new());
    for group in weights.as_chunks::<GROUP>().0 {
        let step = best_step(group);
        let code = |i: usize| step.code(group[i]);
        codes.extend((0..GROUP / 2).map(|i| code(i) | code(i + GROUP / 2) << 4));
        scales.extend(step.word().to_le_bytes());
    }
    [codes, scales]
}

pub(super) fn unpack(codes: &[u8], words: &[u8]) -> Vec<f32> {
    let steps = words.as_chunks::<2>().0.iter().map(|bytes| Step::from_word(u16::from_le_bytes(*bytes)));
    let groups = codes.as_chunks::<{ GROUP / 2 }>().0.iter().zip(steps);
    let group = |(codes, step): (&[u8; GROUP / 2], Step)| {
        std::array::from_fn::<f32, GROUP, _>(|i| {
            let byte = codes[i % (GROUP / 2)];
            step.weight(if i < GROUP / 2 { byte & 15 } else { byte >> 4 })
        })
    };
    groups.flat_map(group).collect()
}

/// What the codes of a group stand for.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    scale: f32,
    zero: f32,
}

impl Step {
    fn new(scale: f32, zero: f32) -> Self {
        // Rounded to the bits that are kept; never infinite, and never nought where it was not.
        let bits = (scale.max(f32::MIN_POSITIVE).to_bits() + (1 << (DROPPED - 1))) >> DROPPED;
        let scale = f32::from_bits(bits.min(0xfef) << DROPPED);
        Self { scale, zero: zero.clamp(0.0, 15.0) }
    }

    fn from_word(word: u16) -> Self {
        Self { scale: f32::from_bits(u32::from(word >> 4) << DROPPED), zero: f32::from(word & 15) }
    }

    fn word(self) -> u16 {
        ((self.scale.to_bits() >> DROPPED) as u16) << 4 | self.zero as u16
    }

    fn code(self, weight: f32) -> u8 {
        // A cast saturates, and makes nought of what is no number.
        if self.scale == 0.0 { 0 } else { self.level(weight, 1.0 / self.scale) as u8 }
    }

    /// The code as a number, given one over the scale; nothing but arithmetic, so that many are found at once.
    fn level(self, weight: f32, inverse: f32) -> f32 {
        (nearest((weight * inverse).clamp(-16.0, 16.0)) + self.zero).clamp(0.0, 15.0)
    }

    fn weight(self, code: u8) -> f32 {
        self.scale * (f32::from(code) - self.zero)
    }

    fn error(self, group: &[f32; GROUP]) -> f32 {
        let inverse = 1.0 / self.scale;
        sum(|i| ((self.level(group[i], inverse) - self.zero) * self.scale - group[i]).powi(2))
    }

    /// The scale that suits the codes of this one best: least squares.
    fn refined(self, group: &[f32; GROUP]) -> Self {
        let inverse = 1.0 / self.scale;
        let unit = |i: usize| self.level(group[i], inverse) - self.zero;
        let (above, below) = (sum(|i| unit(i) * group[i]), sum(|i| unit(i).powi(2)));
        if above > 0.0 && below > 0.0 { Self::new(above / below, self.zero) } else { self }
    }
}

fn best_step(group: &[f32; GROUP]) -> Step {
    let low = group.iter().fold(0f32, |a, b| a.min(*b));
    let high = group.iter().fold(0f32, |a, b| a.max(*b));
    if low == 0.0 && high == 0.0 {
        return Step::default();
    }
    let steps = (0..TRIALS).flat_map(|trial| {
        let span = SMALLEST + STEP * trial as f32;
        let scale = (high - low) * span / 15.0;
        // What is cut off is cut off at both ends alike.
        let zero = (-(low + (high - low) * (1.0 - span) / 2.0) / scale).round();
        [-1.0, 0.0, 1.0].map(|shift| Step::new(scale, zero + shift))
    });
    let all = steps.flat_map(|step| [step, step.refined(group)]);
    let weighed = all.map(|step| (step.error(group), step));
    weighed.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(Step::default(), |(_, step)| step)
}
