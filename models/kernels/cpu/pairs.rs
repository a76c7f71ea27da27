use half::bf16;

use super::ahead::Ahead;
use super::dense::Dense;
use super::exact::Exact;
use super::few_rows::FewRows;
use super::format::{Format, Kernel, Row};
use super::fp8::Fp8;
use super::input::{Input, Pairs};
use super::level::Level;
use super::matrix::{BLOCK, Matrix, Weights};
use super::simd::Simd;
use super::work::Work;

/// Whether both sides are exact in bf16, and the CPU multiplies pairs of it.
pub(super) fn are_for(level: Level, exact: Exact, matrix: &Matrix) -> bool {
    exact == Exact::Bf16 && level.multiplies_pairs() && matrix.is_bf16()
}

/// Multiplies a few rows of `x` that are exact in bf16 by weights that are, too: two products at a time.
pub(super) struct FewRowsInPairs<'a, 'x>(pub(super) FewRows<'a, 'x>);

impl Work for FewRowsInPairs<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert!(simd.multiplies_pairs(), "pairs are for instruction sets that multiply them");
        match self.0.matrix.weights() {
            Weights::Bf16(weights) => Kernel::run(self.0, simd, InPairs(Dense(weights))),
            Weights::Fp8 { codes, scales } => Kernel::run(self.0, simd, InPairs(Fp8 { codes, scales })),
            _ => unreachable!("other weights are not multiplied in pairs"),
        }
    }
}

/// Weights that are read as pairs of bf16; made only where the CPU multiplies them.
#[derive(Clone, Copy)]
struct InPairs<F>(F);

trait Paired<'a>: Format<'a> {
    /// A row of `x` in the order in which weights are decoded.
    fn pairs(input: &Input) -> &[Pairs];

    /// See [`Format::multiply`].
    ///
    /// # Safety
    /// The CPU multiplies pairs.
    unsafe fn multiply_pairs<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &Self::Codes,
        scales: &Self::Scales,
        x: [&Pairs; ROWS],
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    );
}

impl<'a> Paired<'a> for Dense<'a, bf16> {
    #[inline(always)]
    fn pairs(input: &Input) -> &[Pairs] {
        &input.pairs
    }

    #[inline(always)]
    unsafe fn multiply_pairs<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &[bf16; BLOCK],
        (): &(),
        x: [&Pairs; ROWS],
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    ) {
        simd.ask(codes, ahead);
        let mut parts = [simd.splat(0.0); ROWS];
        for at in (0..BLOCK / 2).step_by(S::LANES) {
            // SAFETY: registers fill a block evenly, and the CPU multiplies pairs, as the caller promises.
            unsafe {
                let weights = simd.load(codes.as_ptr().cast::<f32>().add(at));
                for (x, part) in x.iter().zip(&mut parts) {
                    *part = simd.fma_pairs(weights, simd.load(x.0.as_ptr().cast::<f32>().add(at)), *part);
                }
            }
        }
        for (part, sum) in parts.into_iter().zip(sums) {
            *sum = simd.fma(part, simd.splat(1.0), *sum);
        }
    }
}

impl<'a> Paired<'a> for Fp8<'a> {
    #[inline(always)]
    fn pairs(input: &Input) -> &[Pairs] {
        &input.shuffled_pairs
    }

    #[inline(always)]
    unsafe fn multiply_pairs<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &[u8; BLOCK],
        scale: &f32,
        x: [&Pairs; ROWS],
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    ) {
        simd.ask(codes, ahead);
        // SAFETY: as the caller promises.
        unsafe { simd.multiply_fp8_pairs(codes, *scale, x, sums) };
    }
}

impl<'a, F: Paired<'a>> Format<'a> for InPairs<F> {
    type Codes = F::Codes;
    type Scales = F::Scales;
    type Input = [Pairs];

    const READ: usize = size_of::<Pairs>();

    #[inline(always)]
    fn row(self, output: usize, inputs: usize) -> Row<'a, Self> {
        let Row { codes, scales, rest } = self.0.row(output, inputs);
        Row { codes, scales, rest }
    }

    #[inline(always)]
    fn input(input: &Input) -> &[Pairs] {
        F::pairs(input)
    }

    #[inline(always)]
    fn multiply<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &Self::Codes,
        scales: &Self::Scales,
        x: [&[Pairs]; ROWS],
        block: usize,
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    ) {
        // SAFETY: who makes this format has asserted it.
        unsafe { F::multiply_pairs(simd, codes, scales, x.map(|x| &x[block]), ahead, sums) };
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, codes: &Self::Codes, scales: &Self::Scales, to: &mut [f32; BLOCK]) {
        F::decode(simd, codes, scales, to);
    }
}
