use std::arch::x86_64::*;
use std::mem::transmute;

use half::{bf16, f16};

use super::ahead::Ahead;
use super::amx;
use super::avx512_fp8;
use super::avx512_order::{arrange, shuffle, shuffle_pairs};
use super::avx512_parts::{multiply_groups, round, spread, steps, widened};
use super::avx512_runs::{self, halves_of_groups};
use super::entry::{Entry, Pair};
use super::format::RUN;
use super::input::{Floats, Pairs, Quantised, QuantisedBlock};
use super::int4::step;
use super::matrix::BLOCK;
use super::simd::Simd;
use super::tile::{Tile, tile};
use super::work::Work;

/// AVX-512 as Ice Lake and Zen 4 have it, with bytes' tables and sums of products: 16 numbers at a time.
#[derive(Clone, Copy)]
pub(super) struct Avx512 {
    /// Whether there is AVX512_BF16, too.
    pairs: bool,
    /// Whether there is AMX for bf16, too.
    tiles: bool,
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has.then_some(Self { pairs: false, tiles: false })
    }

    /// With products of pairs, if the CPU has them.
    pub(super) fn with_pairs(self) -> Option<Self> {
        is_x86_feature_detected!("avx512bf16").then_some(Self { pairs: true, ..self })
    }

    /// With products of tiles of pairs, if the CPU has them.
    pub(super) fn with_tiles(self) -> Option<Self> {
        (self.pairs && amx::is_usable()).then_some(Self { tiles: true, ..self })
    }

    pub(super) fn multiplies_tiles(self) -> bool {
        self.tiles
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
fn run(simd: Avx512, work: impl Work) {
    work.run(simd);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx512bf16,avx2,fma")]
fn run_with_pairs(simd: Avx512, work: impl Work) {
    work.run(simd);
}

// Every `unsafe` below calls instructions of a set that `self` proves the CPU to have; pointers come of references to
// as many numbers as are read, or are the caller's promise.
impl Simd for Avx512 {
    type Lanes = __m512;
    type Chunk = [__m512; 2];

    const LANES: usize = 16;
    const TILE: usize = 14;
    const RUNS: bool = true;

    fn run(self, work: impl Work) {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { run(self, work) }
    }

    fn run_with_pairs(self, work: impl Work) {
        assert!(self.pairs, "pairs are for CPUs that multiply them");
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { run_with_pairs(self, work) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, lanes: __m512, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, lanes) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn sum(self, lanes: __m512) -> f32 {
        // SAFETY: see above.
        unsafe {
            let half = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes)));
            let sum = _mm256_add_ps(_mm512_castps512_ps256(lanes), half);
            let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
            let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
            _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)))
        }
    }

    #[inline(always)]
    fn f32(self, weights: &[f32; 32]) -> Self::Chunk {
        // SAFETY: see above.
        unsafe { [_mm512_loadu_ps(weights.as_ptr()), _mm512_loadu_ps(weights.as_ptr().add(16))] }
    }

    #[inline(always)]
    fn bf16(self, weights: &[bf16; 32]) -> Self::Chunk {
        let at = weights.as_ptr().cast::<__m256i>();
        // SAFETY: see above.
        unsafe { [widened(_mm256_loadu_si256(at)), widened(_mm256_loadu_si256(at.add(1)))] }
    }

    #[inline(always)]
    fn f16(self, weights: &[f16; 32]) -> Self::Chunk {
        let at = weights.as_ptr().cast::<__m256i>();
        // SAFETY: see above.
        unsafe { [_mm512_cvtph_ps(_mm256_loadu_si256(at)), _mm512_cvtph_ps(_mm256_loadu_si256(at.add(1)))] }
    }

    #[inline(always)]
    fn int8(self, codes: &[i8; 32], scale: f32) -> Self::Chunk {
        let at = codes.as_ptr().cast::<__m128i>();
        // SAFETY: see above.
        unsafe {
            let scale = _mm512_set1_ps(scale);
            let (first, last) = (_mm_loadu_si128(at), _mm_loadu_si128(at.add(1)));
            [
                _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(first)), scale),
                _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(last)), scale),
            ]
        }
    }

    /// Looks the scaled levels up in a register; the lookup takes no notice of the bits above a nibble.
    #[inline(always)]
    fn int4(self, codes: &[u8; 16], word: u16) -> Self::Chunk {
        let (scale, zero) = step(word);
        // SAFETY: see above.
        unsafe {
            let levels = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
            let levels = _mm512_sub_ps(levels, _mm512_set1_ps(zero.into()));
            let levels = _mm512_mul_ps(levels, _mm512_set1_ps(scale));
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast()));
            [_mm512_permutexvar_ps(codes, levels), _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(codes), levels)]
        }
    }

    /// Puts E4M3's bits where f16 has them, which divides by 256, and lets the CPU widen f16.
    #[inline(always)]
    fn fp8(self, codes: &[u8; 32], scale: f32) -> Self::Chunk {
        // SAFETY: see above.
        unsafe {
            let words = _mm512_cvtepi8_epi16(_mm256_loadu_si256(codes.as_ptr().cast()));
            let halves = _mm512_and_si512(_mm512_slli_epi16::<7>(words), _mm512_set1_epi16(0xbf80_u16 as i16));
            let not_nan =
                _mm512_cmpneq_epi16_mask(_mm512_and_si512(words, _mm512_set1_epi16(0x7f)), _mm512_set1_epi16(0x7f));
            let halves = _mm512_mask_mov_epi16(_mm512_set1_epi16(0x7fff), not_nan, halves);
            let scale = _mm512_set1_ps(scale * 256.0);
            let (first, last) = (_mm512_castsi512_si256(halves), _mm512_extracti64x4_epi64::<1>(halves));
            [_mm512_mul_ps(_mm512_cvtph_ps(first), scale), _mm512_mul_ps(_mm512_cvtph_ps(last), scale)]
        }
    }

    #[inline(always)]
    fn multiply_int8<const ROWS: usize>(
        self,
        codes: &[i8; BLOCK],
        scales: &[bf16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [__m512; ROWS],
    ) {
        // SAFETY: see above.
        unsafe { multiply_groups(halves_of_groups(codes), spread(scales), x, block, sums) }
    }

    #[inline(always)]
    fn multiply_int4<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK / 2],
        scales: &[u16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [__m512; ROWS],
    ) {
        // SAFETY: see above.
        unsafe {
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            let (scales, offset) = steps(scales);
            let nibble = _mm512_set1_epi8(0xf);
            let first = _mm512_add_epi8(_mm512_and_si512(codes, nibble), offset);
            let last = _mm512_add_epi8(_mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble), offset);
            multiply_groups([first, last], scales, x, block, sums);
        }
    }

    #[inline(always)]
    fn multiply_int8_run<const ROWS: usize>(
        self,
        codes: &[[i8; BLOCK]; RUN],
        scales: &[[bf16; 4]; RUN],
        x: [&Quantised; ROWS],
        run: usize,
        ahead: Ahead,
        sums: &mut [__m512; ROWS],
    ) {
        // SAFETY: see above.
        unsafe { avx512_runs::multiply_int8(self, codes, scales, x, run, ahead, sums) }
    }

    #[inline(always)]
    fn multiply_int4_run<const ROWS: usize>(
        self,
        codes: &[[u8; BLOCK / 2]; RUN],
        scales: &[[u16; 4]; RUN],
        x: [&Quantised; ROWS],
        run: usize,
        ahead: Ahead,
        sums: &mut [__m512; ROWS],
    ) {
        // SAFETY: see above.
        unsafe { avx512_runs::multiply_int4(self, codes, scales, x, run, ahead, sums) }
    }

    /// Looks the two bytes of each bf16 up.
    #[inline(always)]
    fn multiply_fp8<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK],
        scale: f32,
        x: [&[Floats]; ROWS],
        block: usize,
        sums: &mut [__m512; ROWS],
    ) {
        // SAFETY: see above.
        unsafe { avx512_fp8::multiply(codes, scale, x, block, sums) }
    }

    #[inline(always)]
    fn arrange(self, block: &mut QuantisedBlock) {
        arrange(block);
    }

    #[inline(always)]
    unsafe fn multiply_fp8_pairs<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK],
        scale: f32,
        x: [&Pairs; ROWS],
        sums: &mut [__m512; ROWS],
    ) {
        // SAFETY: see above; the CPU multiplies pairs, as the caller promises.
        unsafe { avx512_fp8::multiply_pairs(codes, scale, x, sums) }
    }

    fn shuffle(self, floats: &mut Floats) {
        shuffle(floats);
    }

    fn shuffle_pairs(self, pairs: &mut Pairs) {
        shuffle_pairs(pairs);
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
    fn outputs<E: Entry>(self) -> usize {
        if E::NUMBERS == 2 && self.tiles { amx::OUTPUTS } else { Self::TILE }
    }

    #[inline(always)]
    unsafe fn tile<E: Entry>(self, of: Tile<E>) {
        // SAFETY: as the caller promises.
        unsafe {
            match E::NUMBERS {
                1 => tile::<Self, E, { Self::TILE }>(self, of),
                _ if self.tiles => amx::tile(of),
                _ => tile_of_pairs(self, of),
            }
        }
    }

    fn multiplies_pairs(self) -> bool {
        self.pairs
    }

    #[inline(always)]
    unsafe fn fma_pairs(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as the caller promises; the types differ only in what their bits mean.
        unsafe { _mm512_dpbf16_ps(c, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b)) }
    }

    #[inline(always)]
    fn round(self, numbers: &[f32; BLOCK], to: &mut [Pair; BLOCK / 2]) {
        assert!(self.pairs, "pairs are for CPUs that multiply them");
        // SAFETY: the CPU has them.
        unsafe { round(numbers, to) }
    }
}

/// # Safety
/// See [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
unsafe fn tile_of_pairs<E: Entry>(simd: Avx512, of: Tile<E>) {
    // SAFETY: as the caller promises.
    unsafe { tile::<Avx512, E, { Avx512::TILE }>(simd, of) }
}
