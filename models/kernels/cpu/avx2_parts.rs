use std::arch::x86_64::*;

use half::bf16;

use super::input::Quantised;

/// The lower 8 codes as f32, times `scale`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn scaled(codes: __m128i, scale: __m256) -> __m256 {
    _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), scale)
}

/// The scales of a pair of groups, in the four lanes of each group.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn spread(scales: &[bf16; 4], pair: usize) -> __m256 {
    let order = _mm256_set_epi32(
        0x0302_8080,
        0x0302_8080,
        0x0302_8080,
        0x0302_8080,
        0x0100_8080,
        0x0100_8080,
        0x0100_8080,
        0x0100_8080,
    );
    // SAFETY: a pair of scales is four bytes.
    let scales = unsafe { scales[2 * pair..][..2].as_ptr().cast::<i32>().read_unaligned() };
    _mm256_castsi256_ps(_mm256_shuffle_epi8(_mm256_set1_epi32(scales), order))
}

/// The scales of a pair of groups of 4-bit codes, in the four lanes of each, and their zero points, in the bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn steps(words: &[u16; 4], pair: usize) -> (__m256, __m256i) {
    let order =
        _mm256_set_epi64x(0x0302_0302_0302_0302, 0x0302_0302_0302_0302, 0x0100_0100_0100_0100, 0x0100_0100_0100_0100);
    // SAFETY: a pair of words is four bytes.
    let words = unsafe { words[2 * pair..][..2].as_ptr().cast::<i32>().read_unaligned() };
    let words = _mm256_shuffle_epi8(_mm256_set1_epi32(words), order);
    let scales = _mm256_slli_epi32::<15>(_mm256_and_si256(words, _mm256_set1_epi32(0xfff0)));
    let zeros = _mm256_and_si256(words, _mm256_set1_epi16(0xf));
    (_mm256_castsi256_ps(scales), _mm256_or_si256(zeros, _mm256_slli_epi16::<8>(zeros)))
}

/// Adds the products of the halves of a pair of groups.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn multiply_groups<const ROWS: usize>(
    pair: usize,
    codes: [__m256i; 2],
    scales: __m256,
    x: [&Quantised; ROWS],
    block: usize,
    sums: &mut [__m256; ROWS],
) {
    let (a, b) = (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes[0])), _mm256_srai_epi16::<8>(codes[0]));
    let (c, d) = (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes[1])), _mm256_srai_epi16::<8>(codes[1]));
    for (x, sum) in x.iter().zip(sums) {
        let at = x.numbers[pair][block].0.as_ptr().cast::<__m256i>();
        let x_scales = x.scales[block].0[8 * pair..][..8].as_ptr();
        // SAFETY: 64 numbers of two bytes fill four registers, and eight scales one.
        unsafe {
            let (w, x, y, z) = (
                _mm256_load_si256(at),
                _mm256_load_si256(at.add(1)),
                _mm256_load_si256(at.add(2)),
                _mm256_load_si256(at.add(3)),
            );
            let first = _mm256_add_epi32(_mm256_madd_epi16(a, w), _mm256_madd_epi16(b, x));
            let last = _mm256_add_epi32(_mm256_madd_epi16(c, y), _mm256_madd_epi16(d, z));
            let products = _mm256_cvtepi32_ps(_mm256_add_epi32(first, last));
            *sum = _mm256_fmadd_ps(products, _mm256_mul_ps(scales, _mm256_load_ps(x_scales)), *sum);
        }
    }
}

/// The upper 8 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn upper(bytes: __m128i) -> __m128i {
    _mm_unpackhi_epi64(bytes, bytes)
}

/// # Safety
/// `at` points to 8 numbers.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn widened(at: *const __m128i) -> __m256 {
    // SAFETY: as the caller promises.
    let numbers = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(at) });
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(numbers))
}

/// E4M3 but for NaN as f16, divided by 256.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn halves(codes: __m128i) -> __m256i {
    _mm256_and_si256(_mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(codes)), _mm256_set1_epi16(0xbf80_u16 as i16))
}

/// E4M3 as f16, divided by 256.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn numbers(codes: __m128i) -> __m256i {
    let magnitude = _mm256_set1_epi16(0x7f);
    let nan = _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_cvtepi8_epi16(codes), magnitude), magnitude);
    _mm256_or_si256(halves(codes), _mm256_srli_epi16::<1>(nan))
}

/// 32 f16 as f32.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn wide_halves(first: __m256i, last: __m256i) -> [__m256; 4] {
    let a = _mm256_cvtph_ps(_mm256_castsi256_si128(first));
    let b = _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(first));
    let c = _mm256_cvtph_ps(_mm256_castsi256_si128(last));
    let d = _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(last));
    [a, b, c, d]
}
