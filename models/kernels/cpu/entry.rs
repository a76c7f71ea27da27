use super::format::Format;
use super::matrix::BLOCK;
use super::simd::Simd;

/// What a product of many rows is made of: four bytes of each side that are multiplied at a time.
pub(super) trait Entry: Copy + Default + Send + Sync + 'static {
    /// The numbers of one.
    const NUMBERS: usize;

    /// Of as many numbers as it holds, or fewer, zeros beyond.
    fn of(numbers: &[f32]) -> Self;

    /// Writes the weights of a block.
    fn decode<'a, S: Simd, F: Format<'a>>(simd: S, codes: &F::Codes, scales: &F::Scales, to: &mut [Self]);

    fn splat<S: Simd>(self, simd: S) -> S::Lanes;

    /// `a * b + c`, where `a` and `b` hold entries, and `c` numbers.
    ///
    /// # Safety
    /// `simd` multiplies pairs, if entries are pairs.
    unsafe fn fma<S: Simd>(simd: S, a: S::Lanes, b: S::Lanes, c: S::Lanes) -> S::Lanes;
}

/// Two bf16: the first in the lower half, as they lie in memory.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct Pair(u32);

impl Entry for f32 {
    const NUMBERS: usize = 1;

    #[inline(always)]
    fn of(numbers: &[f32]) -> Self {
        numbers[0]
    }

    #[inline(always)]
    fn decode<'a, S: Simd, F: Format<'a>>(simd: S, codes: &F::Codes, scales: &F::Scales, to: &mut [Self]) {
        F::decode(simd, codes, scales, to.try_into().expect("a block"));
    }

    #[inline(always)]
    fn splat<S: Simd>(self, simd: S) -> S::Lanes {
        simd.splat(self)
    }

    #[inline(always)]
    unsafe fn fma<S: Simd>(simd: S, a: S::Lanes, b: S::Lanes, c: S::Lanes) -> S::Lanes {
        simd.fma(a, b, c)
    }
}

impl Entry for Pair {
    const NUMBERS: usize = 2;

    /// Drops what bf16 does not hold.
    #[inline(always)]
    fn of(numbers: &[f32]) -> Self {
        let odd = numbers.get(1).map_or(0, |odd| odd.to_bits());
        Self(numbers[0].to_bits() >> 16 | odd & 0xffff_0000)
    }

    #[inline(always)]
    fn decode<'a, S: Simd, F: Format<'a>>(simd: S, codes: &F::Codes, scales: &F::Scales, to: &mut [Self]) {
        let to: &mut [Self; BLOCK / 2] = to.try_into().expect("a block");
        F::decode_pairs(simd, codes, scales, to);
    }

    #[inline(always)]
    fn splat<S: Simd>(self, simd: S) -> S::Lanes {
        simd.splat(f32::from_bits(self.0))
    }

    #[inline(always)]
    unsafe fn fma<S: Simd>(simd: S, a: S::Lanes, b: S::Lanes, c: S::Lanes) -> S::Lanes {
        // SAFETY: as the caller promises.
        unsafe { simd.fma_pairs(a, b, c) }
    }
}
