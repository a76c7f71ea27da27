use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::avx512_runs::multiply;
use super::entry::Pair;
use super::input::Quantised;
use super::matrix::BLOCK;

/// The scales of four groups, in the four lanes of each group.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn spread(scales: &[bf16; 4]) -> __m512 {
    let order = _mm512_set_epi32(
        0x0706_8080,
        0x0706_8080,
        0x0706_8080,
        0x0706_8080,
        0x0504_8080,
        0x0504_8080,
        0x0504_8080,
        0x0504_8080,
        0x0302_8080,
        0x0302_8080,
        0x0302_8080,
        0x0302_8080,
        0x0100_8080,
        0x0100_8080,
        0x0100_8080,
        0x0100_8080,
    );
    // SAFETY: four scales are eight bytes.
    let scales = unsafe { scales.as_ptr().cast::<i64>().read_unaligned() };
    _mm512_castsi512_ps(_mm512_shuffle_epi8(_mm512_set1_epi64(scales), order))
}

/// The scales of four groups of 4-bit codes, in the four lanes of each, and 128 less their zero points, in the bytes.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn steps(words: &[u16; 4]) -> (__m512, __m512i) {
    // SAFETY: four words are eight bytes.
    let words = _mm512_set1_epi64(unsafe { words.as_ptr().cast::<i64>().read_unaligned() });
    // Of each group, its word in all words of 16 bits.
    let order =
        _mm512_set_epi64(PLACES[3], PLACES[3], PLACES[2], PLACES[2], PLACES[1], PLACES[1], PLACES[0], PLACES[0]);
    let words = _mm512_shuffle_epi8(words, order);
    let scales = _mm512_slli_epi32::<15>(_mm512_and_si512(words, _mm512_set1_epi32(0xfff0)));
    let zeros = _mm512_and_si512(words, _mm512_set1_epi16(0xf));
    let zeros = _mm512_or_si512(zeros, _mm512_slli_epi16::<8>(zeros));
    (_mm512_castsi512_ps(scales), _mm512_sub_epi8(_mm512_set1_epi8(i8::MIN), zeros))
}

/// Where the bytes of one word of four are, four times.
const PLACES: [i64; 4] = [0x0100_0100_0100_0100, 0x0302_0302_0302_0302, 0x0504_0504_0504_0504, 0x0706_0706_0706_0706];

/// Adds the products of the halves of four groups, whose codes have 128 added to them, which `starts` takes off again.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
pub(super) fn multiply_groups<const ROWS: usize>(
    codes: [__m512i; 2],
    scales: __m512,
    x: [&Quantised; ROWS],
    block: usize,
    sums: &mut [__m512; ROWS],
) {
    for (x, sum) in x.iter().zip(sums) {
        // SAFETY: starts and scales fill a register each.
        let (start, x_scales) = unsafe {
            (_mm512_load_si512(x.starts[block].0.as_ptr().cast()), _mm512_load_ps(x.scales[block].0.as_ptr()))
        };
        let products = multiply(codes, [&x.numbers[0][block], &x.numbers[1][block]], start);
        *sum = _mm512_fmadd_ps(products, _mm512_mul_ps(scales, x_scales), *sum);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn widened(numbers: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(numbers)))
}

/// Rounds numbers to bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn round(numbers: &[f32; BLOCK], to: &mut [Pair; BLOCK / 2]) {
    for (numbers, to) in numbers.as_chunks::<32>().0.iter().zip(to.as_chunks_mut::<16>().0) {
        let at = numbers.as_ptr();
        // SAFETY: 32 numbers fill two registers, 16 pairs, as wide as f32, one.
        unsafe {
            let pairs = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(at.add(16)), _mm512_loadu_ps(at));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), transmute::<__m512bh, __m512i>(pairs));
        }
    }
}
