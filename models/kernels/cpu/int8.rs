use half::bf16;

use super::ahead::Ahead;
use super::format::{Format, RUN, Row, blocks};
use super::input::{Input, Quantised};
use super::matrix::{BLOCK, GROUP};
use super::simd::Simd;

#[derive(Clone, Copy)]
pub(super) struct Int8<'a> {
    pub(super) codes: &'a [i8],
    pub(super) scales: &'a [bf16],
}

impl<'a> Format<'a> for Int8<'a> {
    type Codes = [i8; BLOCK];
    type Scales = [bf16; BLOCK / GROUP];
    type Input = Quantised;

    const READ: usize = size_of::<[i16; BLOCK]>() + size_of::<[[f32; BLOCK / GROUP]; 2]>();

    #[inline(always)]
    fn row(self, output: usize, inputs: usize) -> Row<'a, Self> {
        let (codes, rest) = blocks(&self.codes[output * inputs..][..inputs]);
        let (scales, rest_scales) = blocks(&self.scales[output * (inputs / GROUP)..][..inputs / GROUP]);
        Row { codes, scales, rest: rest.zip(rest_scales) }
    }

    #[inline(always)]
    fn input(input: &Input) -> &Quantised {
        &input.quantised
    }

    #[inline(always)]
    fn multiply<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &Self::Codes,
        scales: &Self::Scales,
        x: [&Quantised; ROWS],
        block: usize,
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    ) {
        simd.ask(codes, ahead);
        simd.multiply_int8(codes, scales, x, block, sums);
    }

    #[inline(always)]
    fn in_runs<S: Simd>() -> bool {
        S::RUNS
    }

    #[inline(always)]
    fn multiply_run<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &[Self::Codes; RUN],
        scales: &[Self::Scales; RUN],
        x: [&Quantised; ROWS],
        run: usize,
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    ) {
        simd.multiply_int8_run(codes, scales, x, run, ahead, sums);
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, codes: &Self::Codes, scales: &Self::Scales, to: &mut [f32; BLOCK]) {
        for ((codes, scale), to) in codes.as_chunks().0.iter().zip(scales).zip(to.as_chunks_mut().0) {
            simd.store_chunk(simd.int8(codes, widen(*scale)), to);
        }
    }
}

#[inline(always)]
pub(super) fn widen(scale: bf16) -> f32 {
    f32::from_bits(u32::from(scale.to_bits()) << 16)
}
