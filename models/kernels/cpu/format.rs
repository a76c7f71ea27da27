use super::ahead::Ahead;
use super::dense::Dense;
use super::entry::Pair;
use super::fp8::Fp8;
use super::input::Input;
use super::int4::Int4;
use super::int8::Int8;
use super::matrix::{BLOCK, Matrix, Weights};
use super::simd::Simd;

/// Work on a matrix that is written once, and compiled for each instruction set and each format.
pub(super) trait Kernel<'a> {
    fn matrix(&self) -> Matrix<'a>;

    /// Does it; to be marked `#[inline(always)]`.
    fn run<S: Simd, F: Format<'a>>(self, simd: S, weights: F);
}

/// Runs `kernel` in the format of its matrix.
#[inline(always)]
pub(super) fn run<'a, S: Simd>(simd: S, kernel: impl Kernel<'a>) {
    match kernel.matrix().weights() {
        Weights::F32(weights) => kernel.run(simd, Dense(weights)),
        Weights::Bf16(weights) => kernel.run(simd, Dense(weights)),
        Weights::F16(weights) => kernel.run(simd, Dense(weights)),
        Weights::Int8 { codes, scales } => kernel.run(simd, Int8 { codes, scales }),
        Weights::Int4 { codes, scales } => kernel.run(simd, Int4 { codes, scales }),
        Weights::Fp8 { codes, scales } => kernel.run(simd, Fp8 { codes, scales }),
    }
}

/// Blocks whose scales fill a register.
pub(super) const RUN: usize = 4;

/// How weights are stored: where a row lies, and what its blocks of 128 weights are.
pub(super) trait Format<'a>: Copy {
    /// The codes of a block.
    type Codes: Copy + 'a;

    /// The scales of a block.
    type Scales: Copy + 'a;

    /// A row of `x`, as it is multiplied.
    type Input: ?Sized + 'static;

    /// Bytes of it that are read for a block.
    const READ: usize;

    /// The row of `output` in a matrix of `inputs` columns.
    fn row(self, output: usize, inputs: usize) -> Row<'a, Self>;

    /// A row of `x` in the form that this format takes.
    fn input(input: &Input) -> &Self::Input;

    /// Adds the products of a block and of each row of `x` to the sums, and asks for what lies `ahead` of the codes as
    /// it comes to them.
    fn multiply<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &Self::Codes,
        scales: &Self::Scales,
        x: [&Self::Input; ROWS],
        block: usize,
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    );

    /// Whether `simd` has more than [`multiply`](Self::multiply) for a run of blocks.
    #[inline(always)]
    fn in_runs<S: Simd>() -> bool {
        false
    }

    /// Does the same for a run of blocks.
    #[inline(always)]
    fn multiply_run<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &[Self::Codes; RUN],
        scales: &[Self::Scales; RUN],
        x: [&Self::Input; ROWS],
        run: usize,
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    ) {
        for (i, (codes, scales)) in codes.iter().zip(scales).enumerate() {
            Self::multiply(simd, codes, scales, x, run * RUN + i, ahead, sums);
        }
    }

    /// Writes the weights of a block.
    fn decode<S: Simd>(simd: S, codes: &Self::Codes, scales: &Self::Scales, to: &mut [f32; BLOCK]);

    /// Writes the weights of a block, rounded to bf16; only where `simd` multiplies pairs.
    #[inline(always)]
    fn decode_pairs<S: Simd>(simd: S, codes: &Self::Codes, scales: &Self::Scales, to: &mut [Pair; BLOCK / 2]) {
        let mut numbers = [0.0; BLOCK];
        Self::decode(simd, codes, scales, &mut numbers);
        simd.round(&numbers, to);
    }
}

/// One row of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Row<'a, F: Format<'a>> {
    pub(super) codes: &'a [F::Codes],
    pub(super) scales: &'a [F::Scales],
    /// What the blocks leave of the row, filled up with zeros.
    pub(super) rest: Option<(F::Codes, F::Scales)>,
}

/// Cuts a row in blocks; what is left over is filled up with zeros.
#[inline(always)]
pub(super) fn blocks<T: Copy + Default, const N: usize>(row: &[T]) -> (&[[T; N]], Option<[T; N]>) {
    let (blocks, rest) = row.as_chunks();
    let filled = (!rest.is_empty()).then(|| {
        let mut filled = [T::default(); N];
        filled[..rest.len()].copy_from_slice(rest);
        filled
    });
    (blocks, filled)
}
