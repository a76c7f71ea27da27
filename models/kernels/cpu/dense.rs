use half::{bf16, f16};

use super::ahead::Ahead;
use super::entry::Pair;
use super::format::{Format, Row, blocks};
use super::input::{Floats, Input};
use super::matrix::BLOCK;
use super::simd::Simd;

/// A number that weights are stored as.
pub(super) trait Number: Copy + Default + 'static {
    fn widen<S: Simd>(simd: S, weights: &[Self; 32]) -> S::Chunk;

    /// Writes pairs where nothing is to be rounded; whether it has.
    #[inline(always)]
    fn pairs(_weights: &[Self; BLOCK], _to: &mut [Pair; BLOCK / 2]) -> bool {
        false
    }
}

impl Number for f32 {
    #[inline(always)]
    fn widen<S: Simd>(simd: S, weights: &[Self; 32]) -> S::Chunk {
        simd.f32(weights)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn widen<S: Simd>(simd: S, weights: &[Self; 32]) -> S::Chunk {
        simd.bf16(weights)
    }

    #[inline(always)]
    fn pairs(weights: &[Self; BLOCK], to: &mut [Pair; BLOCK / 2]) -> bool {
        const { assert!(size_of::<[Pair; BLOCK / 2]>() == size_of::<[bf16; BLOCK]>()) };
        // SAFETY: both are as many bytes, and any are pairs; CPUs that multiply pairs have the first byte lowest.
        unsafe { std::ptr::copy_nonoverlapping(weights.as_ptr().cast::<u8>(), to.as_mut_ptr().cast(), 2 * BLOCK) };
        true
    }
}

impl Number for f16 {
    #[inline(always)]
    fn widen<S: Simd>(simd: S, weights: &[Self; 32]) -> S::Chunk {
        simd.f16(weights)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Dense<'a, N>(pub(super) &'a [N]);

impl<'a, N: Number> Format<'a> for Dense<'a, N> {
    type Codes = [N; BLOCK];
    type Scales = ();
    type Input = [Floats];

    const READ: usize = size_of::<Floats>();

    #[inline(always)]
    fn row(self, output: usize, inputs: usize) -> Row<'a, Self> {
        let (codes, rest) = blocks(&self.0[output * inputs..][..inputs]);
        Row { codes, scales: &[(); usize::MAX][..codes.len()], rest: rest.map(|codes| (codes, ())) }
    }

    #[inline(always)]
    fn input(input: &Input) -> &[Floats] {
        &input.floats
    }

    #[inline(always)]
    fn multiply<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &[N; BLOCK],
        (): &(),
        x: [&[Floats]; ROWS],
        block: usize,
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    ) {
        for (i, codes) in codes.as_chunks().0.iter().enumerate() {
            simd.ask(codes, ahead);
            let weights = N::widen(simd, codes);
            for (x, sum) in x.iter().zip(sums.iter_mut()) {
                if ROWS == 1 {
                    // Alone, a row would wait for its sum at each step.
                    let part = simd.dot(weights, x[block].chunk(i), simd.splat(0.0));
                    *sum = simd.fma(part, simd.splat(1.0), *sum);
                } else {
                    *sum = simd.dot(weights, x[block].chunk(i), *sum);
                }
            }
        }
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, codes: &[N; BLOCK], (): &(), to: &mut [f32; BLOCK]) {
        for (codes, to) in codes.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
            simd.store_chunk(N::widen(simd, codes), to);
        }
    }

    #[inline(always)]
    fn decode_pairs<S: Simd>(simd: S, codes: &[N; BLOCK], (): &(), to: &mut [Pair; BLOCK / 2]) {
        if !N::pairs(codes, to) {
            let mut numbers = [0.0; BLOCK];
            Self::decode(simd, codes, &(), &mut numbers);
            simd.round(&numbers, to);
        }
    }
}
