//! 8-bit floats (E4M3) in blocks of 128 × 128 with a scale each: `weight = scale · code`.
//!
//! What the hub calls `fp8` with `weight_block_size: [128, 128]` (DeepSeek-V3, arXiv 2412.19437).

use burn::tensor::DType;

use super::format::Part;

/// Rows and columns of a block.
const BLOCK: usize = 128;

/// The largest number of E4M3.
const LARGEST: f32 = 448.0;

pub(super) fn parts([outputs, inputs]: [usize; 2]) -> [Part; 2] {
    let codes = Part { suffix: "", stored: "F8_E4M3", dtype: DType::U8, shape: [outputs, inputs], rows: 1 };
    let shape = [outputs.div_ceil(BLOCK), inputs.div_ceil(BLOCK)];
    [codes, Part { suffix: "_scale_inv", stored: "F32", dtype: DType::U32, shape, rows: BLOCK }]
}

pub(super) fn pack(weights: &[f32], [_, inputs]: [usize; 2]) -> [Vec<u8>; 2] {
    let (mut codes, mut scales) = (Vec::with_capacity(weights.len()), Vec::new());
    for rows in weights.chunks(BLOCK * inputs) {
        let scale_of = |block: usize| {
            let columns = block * BLOCK..inputs.min((block + 1) * BLOCK);
            let numbers = rows.chunks(inputs).flat_map(|row| &row[columns.clone()]);
            numbers.fold(0f32, |a, b| a.max(b.abs())) / LARGEST
        };
        let of_rows: Vec<f32> = (0..inputs.div_ceil(BLOCK)).map(scale_of).collect();
        codes.extend(rows.iter().enumerate().map(|(i, weight)| match of_rows[i % inputs / BLOCK] {
            0.0 => 0,
            scale => encode(weight / scale),
        }));
        scales.extend(of_rows.iter().flat_map(|scale| scale.to_le_bytes()));
    }
    [codes, scales]
}

pub(super) fn unpack(codes: &[u8], scales: &[u8], [_, inputs]: [usize; 2]) -> Vec<f32> {
    let scales: Vec<f32> = scales.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let across = inputs.div_ceil(BLOCK);
    let scale = |i: usize| scales[i / inputs / BLOCK * across + i % inputs / BLOCK];
    codes.iter().enumerate().map(|(i, code)| decode(*code) * scale(i)).collect()
}

/// The number that a code stands for.
pub(crate) fn decode(code: u8) -> f32 {
    let magnitude = code & 0x7f;
    let value = match magnitude {
        0x7f => f32::NAN,
        // An f16 has the same fields with an exponent that begins 8 lower.
        _ => half::f16::from_bits(u16::from(magnitude) << 7).to_f32() * 256.0,
    };
    if code & 0x80 == 0 { value } else { -value }
}

/// The nearest code; ties go to the even one.
fn encode(number: f32) -> u8 {
    // Asked first: the lesser of NaN and a number is the number.
    if number.is_nan() {
        return 0x7f;
    }
    let sign = if number.is_sign_negative() { 0x80 } else { 0 };
    let size = number.abs().min(LARGEST);
    // Steps of 2⁻⁹ below the smallest normal number 2⁻⁶, of an eighth of the power of two above it.
    let exponent = (size.to_bits() >> 23).max(127 - 6);
    let step = f32::from_bits((exponent - 3) << 23);
    let steps = (size / step).round_ties_even() as u32;
    // Eight steps and one more exponent are the same number.
    let code = (exponent - (127 - 6)) * 8 + steps;
    sign | code as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code is its own nearest; a number between two goes to the nearer.
    #[test]
    fn codes_are_their_own_nearest() {
        let positive: Vec<f32> = (0..0x7f).map(decode).collect();
        assert!(
            positive.is_sorted() && positive[0] == 0.0 && positive[0x7e] == LARGEST && positive[1] == 2f32.powi(-9)
        );
        for (code, number) in positive.iter().enumerate() {
            assert_eq!(encode(*number), code as u8);
            assert_eq!(encode(-number), code as u8 | 0x80);
            if let Some(next) = positive.get(code + 1) {
                assert_eq!(encode(number * 0.6 + next * 0.4), code as u8);
                assert_eq!(encode(number * 0.4 + next * 0.6), code as u8 + 1);
            }
        }
        assert!(decode(encode(f32::NAN)).is_nan());
        assert_eq!(encode(1e9), 0x7e);
    }
}
