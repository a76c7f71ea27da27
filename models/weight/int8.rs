//! 8-bit integers in groups of 32 with a scale each: `weight = scale · code`.

use burn::tensor::DType;
use half::bf16;

use super::format::Part;
use super::group::{GROUP, nearest, sum};

/// Scales to try for a group, as fractions of the one that lets its largest number just fit.
const TRIALS: [f32; 9] = [0.988, 0.991, 0.994, 0.997, 1.0, 1.002, 1.004, 1.006, 1.008];

pub(super) fn parts([outputs, inputs]: [usize; 2]) -> [Part; 2] {
    let codes = Part { suffix: "", stored: "I8", dtype: DType::U8, shape: [outputs, inputs], rows: 1 };
    let shape = [outputs, inputs / GROUP];
    [codes, Part { suffix: "_scale", stored: "BF16", dtype: DType::U16, shape, rows: 1 }]
}

pub(super) fn pack(weights: &[f32], _shape: [usize; 2]) -> [Vec<u8>; 2] {
    let (mut codes, mut scales) = (Vec::with_capacity(weights.len()), Vec::new());
    for group in weights.as_chunks::<GROUP>().0 {
        let scale = best_scale(group);
        codes.extend(group.map(|weight| code(weight, scale) as u8));
        scales.extend(bf16::from_f32(scale).to_le_bytes());
    }
    [codes, scales]
}

pub(super) fn unpack(codes: &[u8], scales: &[u8]) -> Vec<f32> {
    let scales = scales.as_chunks::<2>().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32());
    let groups = codes.as_chunks::<GROUP>().0.iter().zip(scales);
    groups.flat_map(|(codes, scale)| codes.map(|code| f32::from(code as i8) * scale)).collect()
}

fn best_scale(group: &[f32; GROUP]) -> f32 {
    let largest = group.iter().fold(0f32, |a, b| a.max(b.abs()));
    if largest < 127.0 * f32::MIN_POSITIVE {
        return 0.0;
    }
    let trials = TRIALS.iter().map(|trial| bf16::from_f32(largest / 127.0 * trial).to_f32());
    let error = |scale: f32| {
        let inverse = 1.0 / scale;
        sum(|i| (level(group[i], inverse) * scale - group[i]).powi(2))
    };
    trials.map(|scale| (error(scale), scale)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, scale)| scale)
}

fn code(weight: f32, scale: f32) -> i8 {
    // A cast saturates, and makes nought of what is no number.
    if scale == 0.0 { 0 } else { level(weight, 1.0 / scale) as i8 }
}

/// The code as a number, given one over the scale; nothing but arithmetic, so that many are found at once.
fn level(weight: f32, inverse: f32) -> f32 {
    nearest((weight * inverse).clamp(-127.0, 127.0))
}
