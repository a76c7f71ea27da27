use super::ahead::Ahead;
use super::format::{Format, Row, blocks};
use super::input::{Floats, Input};
use super::matrix::BLOCK;
use super::simd::Simd;

#[derive(Clone, Copy)]
pub(super) struct Fp8<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [f32],
}

impl<'a> Format<'a> for Fp8<'a> {
    type Codes = [u8; BLOCK];
    type Scales = f32;
    type Input = [Floats];

    const READ: usize = size_of::<Floats>();

    #[inline(always)]
    fn row(self, output: usize, inputs: usize) -> Row<'a, Self> {
        let (codes, rest) = blocks(&self.codes[output * inputs..][..inputs]);
        let across = inputs.div_ceil(BLOCK);
        let scales = &self.scales[output / BLOCK * across..][..across];
        Row { codes, scales, rest: rest.map(|rest| (rest, scales[across - 1])) }
    }

    #[inline(always)]
    fn input(input: &Input) -> &[Floats] {
        &input.shuffled
    }

    #[inline(always)]
    fn multiply<S: Simd, const ROWS: usize>(
        simd: S,
        codes: &Self::Codes,
        scale: &f32,
        x: [&[Floats]; ROWS],
        block: usize,
        ahead: Ahead,
        sums: &mut [S::Lanes; ROWS],
    ) {
        simd.ask(codes, ahead);
        simd.multiply_fp8(codes, *scale, x, block, sums);
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, codes: &Self::Codes, scale: &f32, to: &mut [f32; BLOCK]) {
        for (codes, to) in codes.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
            simd.store_chunk(simd.fp8(codes, *scale), to);
        }
    }
}
