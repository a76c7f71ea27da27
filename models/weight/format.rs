use std::fmt;
use std::str::FromStr;

use burn::tensor::DType;

use super::{fp8, int4, int8};

/// How a matrix `[out, in]` is packed: small codes, and scales that several codes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// 8-bit integers, a scale for each 32: 8.5 bits a weight.
    Int8,
    /// 4-bit integers, a scale and a zero point for each 32: 4.5 bits a weight.
    Int4,
    /// 8-bit floats (E4M3), a scale for each block of 128 × 128: what the hub calls `fp8`.
    Fp8,
}

/// One of the two arrays of a packed matrix, as a checkpoint stores it and as a device holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What follows the matrix's name in a checkpoint.
    pub suffix: &'static str,
    /// Its dtype in safetensors' words, which say what the numbers mean.
    pub stored: &'static str,
    /// Unsigned integers of the same width, which devices hold: nothing is converted but by kernels.
    pub dtype: DType,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Rows of the matrix that one row of this array serves.
    pub rows: usize,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Int4, Self::Fp8];

    /// Its name in a `config.json` and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Fp8 => "fp8",
        }
    }

    /// Whether a matrix of this shape can be packed: groups have to fill its rows.
    pub fn suits(self, [outputs, inputs]: [usize; 2]) -> bool {
        outputs > 0 && inputs > 0 && inputs.is_multiple_of(super::GROUP)
    }

    /// The codes and the scales of a matrix `[out, in]`.
    pub fn parts(self, shape: [usize; 2]) -> [Part; 2] {
        match self {
            Self::Int8 => int8::parts(shape),
            Self::Int4 => int4::parts(shape),
            Self::Fp8 => fp8::parts(shape),
        }
    }

    /// Rows that have to stay together when a matrix is cut.
    pub fn block_rows(self) -> usize {
        self.parts([1, super::GROUP])[1].rows
    }

    /// Packs whole rows, or a whole matrix where blocks span rows: the bytes of the codes and of the scales.
    ///
    /// In groups, scales are those of the smallest squared error among several that are tried; a block's lets its largest
    /// weight just fit.
    pub fn pack(self, weights: &[f32], shape: [usize; 2]) -> [Vec<u8>; 2] {
        assert_eq!(weights.len(), shape[0] * shape[1], "the weights fill the shape");
        match self {
            Self::Int8 => int8::pack(weights, shape),
            Self::Int4 => int4::pack(weights, shape),
            Self::Fp8 => fp8::pack(weights, shape),
        }
    }

    /// The weights that codes and scales stand for, in f32.
    pub fn unpack(self, [codes, scales]: [&[u8]; 2], shape: [usize; 2]) -> Vec<f32> {
        match self {
            Self::Int8 => int8::unpack(codes, scales),
            Self::Int4 => int4::unpack(codes, scales),
            Self::Fp8 => fp8::unpack(codes, scales, shape),
        }
    }
}

impl Part {
    /// Bytes of the array.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1] * self.dtype.size()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|format| format.name()).collect();
            format!("unknown format `{name}`, expected {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a weight may be off by, as a fraction of the largest of its group or block.
    fn bound(format: Format) -> f32 {
        match format {
            Format::Int8 => 0.006,
            Format::Int4 => 0.1,
            Format::Fp8 => 0.07,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Unpacked, weights are near what was packed, whatever their size; the arrays are as long as announced.
        #[test]
        fn unpacks_what_it_packed(
            which in 0..3usize, rows in 1..5usize, groups in 1..7usize, exponent in -60..30i32, seed in any::<u64>(),
        ) {
            let (format, shape) = (Format::ALL[which], [rows, 32 * groups]);
            let mut state = seed | 1;
            let weights: Vec<f32> = (0..shape[0] * shape[1]).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * 2f32.powi(exponent)
            }).collect();
            let parts = format.pack(&weights, shape);
            for (bytes, part) in parts.iter().zip(format.parts(shape)) {
                prop_assert_eq!(bytes.len(), part.len());
            }
            let got = format.unpack([&parts[0], &parts[1]], shape);
            let largest = weights.iter().fold(0f32, |a, b| a.max(b.abs()));
            for (got, want) in got.iter().zip(&weights) {
                prop_assert!((got - want).abs() <= bound(format) * 2.0 * largest, "{format}: {got} {want}");
            }
        }
    }

    #[test]
    fn nought_stays_nought() {
        for format in Format::ALL {
            let parts = format.pack(&[0.0; 128], [2, 64]);
            assert_eq!(format.unpack([&parts[0], &parts[1]], [2, 64]), [0.0; 128], "{format}");
        }
    }

    /// A single large number does not cost its neighbours more than its own group's step.
    #[test]
    fn groups_are_apart() {
        let mut weights = [0.01f32; 64];
        weights[3] = 100.0;
        for format in [Format::Int8, Format::Int4] {
            let parts = format.pack(&weights, [1, 64]);
            let got = format.unpack([&parts[0], &parts[1]], [1, 64]);
            assert!(got[32..].iter().all(|w| (w - 0.01).abs() < 1e-4), "{format}: {got:?}");
        }
    }
}
