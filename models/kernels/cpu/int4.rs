use super::ahead::Ahead;
use super::format::{Format, RUN, Row, blocks};
use super::input::{Input, Quantised};
use super::matrix::{BLOCK, GROUP};
use super::simd::Simd;

#[derive(Clone, Copy)]
pub(super) struct Int4<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [u16],
}

impl<'a> Format<'a> for Int4<'a> {
    type Codes = [u8; BLOCK / 2];
    type Scales = [u16; BLOCK / GROUP];
    type Input = Quantised;

    /// On AVX-512; twice as much elsewhere.
    const READ: usize = size_of::<[i8; BLOCK]>() + size_of::<[[f32; BLOCK / GROUP]; 2]>();

    #[inline(always)]
    fn row(self, output: usize, inputs: usize) -> Row<'a, Self> {
        let (codes, rest) = blocks(&self.codes[output * (inputs / 2)..][..inputs / 2]);
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
        simd.multiply_int4(codes, scales, x, block, sums);
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
        simd.multiply_int4_run(codes, scales, x, run, ahead, sums);
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, codes: &Self::Codes, scales: &Self::Scales, to: &mut [f32; BLOCK]) {
        for ((codes, word), to) in codes.as_chunks().0.iter().zip(scales).zip(to.as_chunks_mut().0) {
            simd.store_chunk(simd.int4(codes, *word), to);
        }
    }
}

/// The scale and the zero point of a group.
#[inline(always)]
pub(super) fn step(word: u16) -> (f32, u8) {
    (f32::from_bits(u32::from(word >> 4) << 19), (word & 15) as u8)
}
