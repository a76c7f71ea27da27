use std::arch::x86_64::*;

use half::bf16;

use super::ahead::Ahead;
use super::format::RUN;
use super::input::{Half, Quantised, Sixteen};
use super::matrix::BLOCK;
use super::simd::Simd;

/// Adds the products of a run of blocks of 4-bit codes to the sums.
///
/// Of `x` the upper digits alone are multiplied: they are 8 bits, whose rounding is a tenth of what 4-bit weights lack.
/// Nibbles are multiplied as they are; what their zero points are too much is the sum of `x`, group by group.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
pub(super) fn multiply_int4<const ROWS: usize>(
    simd: impl Simd,
    codes: &[[u8; BLOCK / 2]; RUN],
    scales: &[[u16; 4]; RUN],
    x: [&Quantised; ROWS],
    run: usize,
    ahead: Ahead,
    sums: &mut [__m512; ROWS],
) {
    let nibble = _mm512_set1_epi8(0xf);
    let words = words(scales);
    let scales = _mm512_castsi512_ps(_mm512_slli_epi32::<15>(_mm512_and_si512(words, _mm512_set1_epi32(0xfff0))));
    let zeros = _mm512_mul_ps(scales, _mm512_cvtepi32_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xf))));
    let mut steps = [scales; ROWS];
    for ((step, x), sum) in steps.iter_mut().zip(&x).zip(sums.iter_mut()) {
        let x = &x.runs[run];
        *step = _mm512_mul_ps(_mm512_mul_ps(scales, numbers(&x.scales)), _mm512_set1_ps(256.0));
        *sum = _mm512_fnmadd_ps(zeros, numbers(&x.upper_sums), *sum);
    }
    let uppers = blocks_of(&x, 0, run);
    for (i, codes) in codes.iter().enumerate() {
        simd.ask(codes, ahead);
        // SAFETY: 64 codes fill a register.
        let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
        let first = _mm512_and_si512(codes, nibble);
        let last = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble);
        for ((step, upper), sum) in steps.iter().zip(&uppers).zip(sums.iter_mut()) {
            let products = multiply_half([first, last], &upper[i], _mm512_setzero_si512());
            *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), of_groups(*step, i), *sum);
        }
    }
}

/// Does the same with codes of 8 bits and all of `x`. Codes are multiplied with 128 added to them, which the sum of `x`
/// takes off again, group by group.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
pub(super) fn multiply_int8<const ROWS: usize>(
    simd: impl Simd,
    codes: &[[i8; BLOCK]; RUN],
    scales: &[[bf16; 4]; RUN],
    x: [&Quantised; ROWS],
    run: usize,
    ahead: Ahead,
    sums: &mut [__m512; ROWS],
) {
    let scales = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words(scales)));
    let offsets = _mm512_mul_ps(scales, _mm512_set1_ps(128.0));
    let mut steps = [scales; ROWS];
    for ((step, x), sum) in steps.iter_mut().zip(&x).zip(sums.iter_mut()) {
        let x = &x.runs[run];
        *step = _mm512_mul_ps(scales, numbers(&x.scales));
        *sum = _mm512_fnmadd_ps(offsets, numbers(&x.sums), *sum);
    }
    let (uppers, lowers) = (blocks_of(&x, 0, run), blocks_of(&x, 1, run));
    for (i, codes) in codes.iter().enumerate() {
        simd.ask(codes, ahead);
        let codes = halves_of_groups(codes);
        for (((step, upper), lower), sum) in steps.iter().zip(&uppers).zip(&lowers).zip(sums.iter_mut()) {
            let products = multiply(codes, [&upper[i], &lower[i]], _mm512_setzero_si512());
            *sum = _mm512_fmadd_ps(products, of_groups(*step, i), *sum);
        }
    }
}

/// The first and the last halves of four groups of 8-bit codes, with 128 added to them.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn halves_of_groups(codes: &[i8; BLOCK]) -> [__m512i; 2] {
    let at = codes.as_ptr().cast::<__m512i>();
    // SAFETY: 128 codes fill two registers.
    let (ab, cd) = unsafe { (_mm512_loadu_si512(at), _mm512_loadu_si512(at.add(1))) };
    let offset = _mm512_set1_epi8(i8::MIN);
    let first = _mm512_shuffle_i64x2::<0b10_00_10_00>(ab, cd);
    let last = _mm512_shuffle_i64x2::<0b11_01_11_01>(ab, cd);
    [_mm512_xor_si512(first, offset), _mm512_xor_si512(last, offset)]
}

/// The products of the halves of four groups, in the four lanes of each, added to `start`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
pub(super) fn multiply(codes: [__m512i; 2], [upper, lower]: [&Half; 2], start: __m512i) -> __m512 {
    let upper = multiply_half(codes, upper, _mm512_setzero_si512());
    let lower = multiply_half(codes, lower, start);
    _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(upper), lower))
}

/// As [`multiply`], of the upper or the lower digits alone.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn multiply_half(codes: [__m512i; 2], digits: &Half, start: __m512i) -> __m512i {
    let at = digits.0.as_ptr().cast::<__m512i>();
    // SAFETY: 128 digits of a byte fill two registers.
    let (first, last) = unsafe { (_mm512_load_si512(at), _mm512_load_si512(at.add(1))) };
    _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, codes[0], first), codes[1], last)
}

/// The upper or the lower digits of a run's blocks, of each row. With closures for loops, it would be called.
#[inline(always)]
fn blocks_of<'x, const ROWS: usize>(x: &[&'x Quantised; ROWS], digits: usize, run: usize) -> [&'x [Half; RUN]; ROWS] {
    let mut blocks = [&x[0].numbers[digits].as_chunks().0[run]; ROWS];
    for (blocks, x) in blocks.iter_mut().zip(x).skip(1) {
        *blocks = &x.numbers[digits].as_chunks().0[run];
    }
    blocks
}

/// Of the scales of a run's groups those of block `i`, in the four lanes of each group.
#[target_feature(enable = "avx512f")]
#[inline]
fn of_groups(scales: __m512, i: usize) -> __m512 {
    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    _mm512_permutexvar_ps(_mm512_add_epi32(lanes, _mm512_set1_epi32(4 * i as i32)), scales)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn numbers(of: &Sixteen<f32>) -> __m512 {
    // SAFETY: they fill a register.
    unsafe { _mm512_load_ps(of.0.as_ptr()) }
}

/// The words of a run's scales.
#[target_feature(enable = "avx512f")]
#[inline]
fn words<T>(scales: &[[T; 4]; RUN]) -> __m512i {
    const { assert!(size_of::<T>() == 2) };
    // SAFETY: 16 words fill half a register.
    _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(scales.as_ptr().cast()) })
}
