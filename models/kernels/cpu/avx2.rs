use std::arch::x86_64::*;

use half::{bf16, f16};

use super::avx2_parts::{halves, multiply_groups, numbers, scaled, spread, steps, upper, wide_halves, widened};
use super::entry::Entry;
use super::input::{Floats, Quantised, QuantisedBlock};
use super::int4::step;
use super::matrix::BLOCK;
use super::simd::Simd;
use super::tile::{Tile, tile};
use super::work::Work;

/// AVX2 with FMA and F16C: 8 numbers at a time.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run(simd: Avx2, work: impl Work) {
    work.run(simd);
}

// Every `unsafe` below calls instructions of a set that `self` proves the CPU to have; pointers come of references to
// as many numbers as are read, or are the caller's promise.
impl Simd for Avx2 {
    type Lanes = __m256;
    type Chunk = [__m256; 4];

    const LANES: usize = 8;
    const TILE: usize = 6;

    fn run(self, work: impl Work) {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { run(self, work) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, lanes: __m256, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, lanes) }
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn sum(self, lanes: __m256) -> f32 {
        // SAFETY: see above.
        unsafe {
            let sum = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
            let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
            _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)))
        }
    }

    #[inline(always)]
    fn f32(self, weights: &[f32; 32]) -> Self::Chunk {
        let at = weights.as_ptr();
        // SAFETY: see above.
        unsafe {
            [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8)), _mm256_loadu_ps(at.add(16)), _mm256_loadu_ps(at.add(24))]
        }
    }

    #[inline(always)]
    fn bf16(self, weights: &[bf16; 32]) -> Self::Chunk {
        let at = weights.as_ptr().cast::<__m128i>();
        // SAFETY: see above.
        unsafe { [widened(at), widened(at.add(1)), widened(at.add(2)), widened(at.add(3))] }
    }

    #[inline(always)]
    fn f16(self, weights: &[f16; 32]) -> Self::Chunk {
        let at = weights.as_ptr().cast::<__m128i>();
        // SAFETY: see above.
        unsafe {
            let (a, b) = (_mm_loadu_si128(at), _mm_loadu_si128(at.add(1)));
            let (c, d) = (_mm_loadu_si128(at.add(2)), _mm_loadu_si128(at.add(3)));
            [_mm256_cvtph_ps(a), _mm256_cvtph_ps(b), _mm256_cvtph_ps(c), _mm256_cvtph_ps(d)]
        }
    }

    #[inline(always)]
    fn int8(self, codes: &[i8; 32], scale: f32) -> Self::Chunk {
        let at = codes.as_ptr().cast::<__m128i>();
        // SAFETY: see above.
        unsafe {
            let (first, last, scale) = (_mm_loadu_si128(at), _mm_loadu_si128(at.add(1)), _mm256_set1_ps(scale));
            [scaled(first, scale), scaled(upper(first), scale), scaled(last, scale), scaled(upper(last), scale)]
        }
    }

    /// Takes the zero point off, then goes the way of int8.
    #[inline(always)]
    fn int4(self, codes: &[u8; 16], word: u16) -> Self::Chunk {
        let (scale, zero) = step(word);
        // SAFETY: see above.
        unsafe {
            let codes = _mm_loadu_si128(codes.as_ptr().cast());
            let (nibble, zero) = (_mm_set1_epi8(0xf), _mm_set1_epi8(zero as i8));
            let low = _mm_sub_epi8(_mm_and_si128(codes, nibble), zero);
            let high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16::<4>(codes), nibble), zero);
            let scale = _mm256_set1_ps(scale);
            [scaled(low, scale), scaled(upper(low), scale), scaled(high, scale), scaled(upper(high), scale)]
        }
    }

    /// Puts E4M3's bits where f16 has them, which divides by 256, and lets the CPU widen f16.
    #[inline(always)]
    fn fp8(self, codes: &[u8; 32], scale: f32) -> Self::Chunk {
        let at = codes.as_ptr().cast::<__m128i>();
        // SAFETY: see above.
        unsafe {
            let scale = _mm256_set1_ps(scale * 256.0);
            let [first, last] = [_mm_loadu_si128(at), _mm_loadu_si128(at.add(1))];
            let [a, b, c, d] = wide_halves(numbers(first), numbers(last));
            [_mm256_mul_ps(a, scale), _mm256_mul_ps(b, scale), _mm256_mul_ps(c, scale), _mm256_mul_ps(d, scale)]
        }
    }

    #[inline(always)]
    fn multiply_int8<const ROWS: usize>(
        self,
        codes: &[i8; BLOCK],
        scales: &[bf16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [__m256; ROWS],
    ) {
        for (pair, codes) in codes.as_chunks::<64>().0.iter().enumerate() {
            let at = codes.as_ptr().cast::<__m256i>();
            // SAFETY: see above.
            unsafe {
                let (a, b) = (_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1)));
                let first = _mm256_permute2x128_si256::<0x20>(a, b);
                let last = _mm256_permute2x128_si256::<0x31>(a, b);
                multiply_groups(pair, [first, last], spread(scales, pair), x, block, sums);
            }
        }
    }

    #[inline(always)]
    fn multiply_int4<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK / 2],
        scales: &[u16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [__m256; ROWS],
    ) {
        for (pair, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
            // SAFETY: see above.
            unsafe {
                let codes = _mm256_loadu_si256(codes.as_ptr().cast());
                let (scales, zeros) = steps(scales, pair);
                let nibble = _mm256_set1_epi8(0xf);
                let first = _mm256_sub_epi8(_mm256_and_si256(codes, nibble), zeros);
                let last = _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble), zeros);
                multiply_groups(pair, [first, last], scales, x, block, sums);
            }
        }
    }

    /// Leaves the scale, and codes that are not numbers, to the end of the block.
    #[inline(always)]
    fn multiply_fp8<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK],
        scale: f32,
        x: [&[Floats]; ROWS],
        block: usize,
        sums: &mut [__m256; ROWS],
    ) {
        // SAFETY: see above.
        unsafe {
            let mut parts = [_mm256_setzero_ps(); ROWS];
            let mut nan = _mm256_setzero_si256();
            for (i, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                let at = codes.as_ptr().cast::<__m128i>();
                let magnitude = _mm256_and_si256(_mm256_loadu_si256(at.cast()), _mm256_set1_epi8(0x7f));
                nan = _mm256_or_si256(nan, _mm256_cmpeq_epi8(magnitude, _mm256_set1_epi8(0x7f)));
                let weights = wide_halves(halves(_mm_loadu_si128(at)), halves(_mm_loadu_si128(at.add(1))));
                for (x, part) in x.iter().zip(&mut parts) {
                    *part = self.dot(weights, x[block].chunk(i), *part);
                }
            }
            let scale = if _mm256_movemask_epi8(nan) == 0 { scale * 256.0 } else { f32::NAN };
            for (part, sum) in parts.iter().zip(sums) {
                *sum = _mm256_fmadd_ps(*part, _mm256_set1_ps(scale), *sum);
            }
        }
    }

    /// Parts numbers of even and of odd places: `[pair of groups, half of a group, even or odd, group, 8]`.
    #[inline(always)]
    fn arrange(self, block: &mut QuantisedBlock) {
        let numbers = block.numbers;
        for (i, numbers) in numbers.as_chunks::<16>().0.iter().enumerate() {
            let (pair, group, half) = (i / 4, i / 2 % 2, i % 2);
            let to = &mut block.numbers[pair * 64 + half * 32 + group * 8..][..24];
            for place in 0..8 {
                to[place] = numbers[2 * place];
                to[16 + place] = numbers[2 * place + 1];
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8, once: bool) {
        // SAFETY: a prefetch does not fault, whatever the address.
        unsafe {
            match once {
                true => _mm_prefetch::<_MM_HINT_NTA>(address.cast()),
                false => _mm_prefetch::<_MM_HINT_T1>(address.cast()),
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<E: Entry>(self, of: Tile<E>) {
        // SAFETY: as the caller promises.
        unsafe { tile::<Self, E, { Self::TILE }>(self, of) }
    }
}
