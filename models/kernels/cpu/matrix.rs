use half::{bf16, f16};

/// Consecutive weights that share a scale in [`Weights::Int8`] and [`Weights::Int4`].
pub(super) const GROUP: usize = 32;

/// Rows and columns of the blocks that share a scale in [`Weights::Fp8`].
pub(super) const BLOCK: usize = 128;

/// `outputs` rows of `inputs` weights, one row after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    weights: Weights<'a>,
    outputs: usize,
    inputs: usize,
}

/// The numbers of a matrix as they are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weights<'a> {
    /// One f32 a weight.
    F32(&'a [f32]),
    /// One bf16 a weight.
    Bf16(&'a [bf16]),
    /// One f16 a weight.
    F16(&'a [f16]),
    /// A weight is its code times the scale of its group of 32.
    Int8 {
        /// `[outputs, inputs]`
        codes: &'a [i8],
        /// `[outputs, inputs / 32]`
        scales: &'a [bf16],
    },
    /// A weight is its nibble less the zero point of its group of 32, times the group's scale; the low nibbles of a
    /// group's 16 bytes are its first 16 weights, the high nibbles its last.
    Int4 {
        /// `[outputs, inputs / 2]`
        codes: &'a [u8],
        /// `[outputs, inputs / 32]`: the zero point in the lowest 4 bits; above them the bits 19..31 of the f32 that is
        /// the scale
        scales: &'a [u16],
    },
    /// A weight is its E4M3 code times the scale of its block of 128 by 128.
    Fp8 {
        /// `[outputs, inputs]`
        codes: &'a [u8],
        /// `[outputs / 128, inputs / 128]`, both rounded up
        scales: &'a [f32],
    },
}

impl<'a> Matrix<'a> {
    /// Takes `weights` for a matrix `[outputs, inputs]`.
    ///
    /// # Panics
    /// If there are not as many codes and scales as the shape asks for.
    pub(crate) fn new(weights: Weights<'a>, outputs: usize, inputs: usize) -> Self {
        let all = outputs * inputs;
        let (codes, scales, expected) = match weights {
            Weights::F32(weights) => (weights.len(), 0, (all, 0)),
            Weights::Bf16(weights) => (weights.len(), 0, (all, 0)),
            Weights::F16(weights) => (weights.len(), 0, (all, 0)),
            Weights::Int8 { codes, scales } => (codes.len(), scales.len(), (all, all / GROUP)),
            Weights::Int4 { codes, scales } => (codes.len(), scales.len(), (all / 2, all / GROUP)),
            Weights::Fp8 { codes, scales } => {
                (codes.len(), scales.len(), (all, outputs.div_ceil(BLOCK) * inputs.div_ceil(BLOCK)))
            }
        };
        assert_eq!((codes, scales), expected, "codes and scales of a matrix [{outputs}, {inputs}]");
        let grouped = matches!(weights, Weights::Int8 { .. } | Weights::Int4 { .. });
        assert!(!grouped || inputs.is_multiple_of(GROUP), "{inputs} inputs are not groups of {GROUP}");
        Self { weights, outputs, inputs }
    }

    /// The weights.
    pub(crate) fn weights(&self) -> Weights<'a> {
        self.weights
    }

    /// The number of rows.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The numbers of a row.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Whether neighbours share a scale.
    pub(super) fn has_groups(&self) -> bool {
        matches!(self.weights, Weights::Int8 { .. } | Weights::Int4 { .. })
    }

    /// Whether weights are bf16, but for a scale that whole blocks share.
    pub(super) fn is_bf16(&self) -> bool {
        matches!(self.weights, Weights::Bf16(_) | Weights::Fp8 { .. })
    }

    /// Whether weights lose little when they are rounded to bf16.
    pub(super) fn suits_bf16(&self) -> bool {
        !matches!(self.weights, Weights::F32(_) | Weights::F16(_))
    }
}
