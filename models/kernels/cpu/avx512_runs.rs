use std::arch::x86_64::*;

use half::bf16;

use super::input::Quantised;
use super::matrix::BLOCK;

/// Blocks whose scales fill a register.
pub(super) const RUN: usize = 4;

/// Bytes between what is multiplied and what is asked for meanwhile.
const AHEAD: usize = 3 << 10;

/// Adds the products of the runs that begin rows of 4-bit codes to the sums; gives how many blocks those are.
///
/// Of `x` the upper digits alone are multiplied: they are 8 bits, whose rounding is a tenth of what 4-bit weights lack.
/// Nibbles are multiplied as they are; what their zero points are too much is the sum of `x`, group by group.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
pub(super) fn multiply_int4<const ROWS: usize, const OUTPUTS: usize>(
    codes: [&[[u8; BLOCK / 2]]; OUTPUTS],
    scales: [&[[u16; 4]]; OUTPUTS],
    x: [&[Quantised]; ROWS],
    sums: &mut [[__m512; ROWS]; OUTPUTS],
) -> usize {
    let runs = codes[0].len() / RUN;
    let nibble = _mm512_set1_epi8(0xf);
    for run in 0..runs {
        for ((codes, scales), sums) in codes.iter().zip(&scales).zip(sums.iter_mut()) {
            let (codes, scales) = (&codes.as_chunks::<RUN>().0[run], &scales.as_chunks::<RUN>().0[run]);
            prefetch(codes, AHEAD);
            prefetch(scales, AHEAD * size_of_val(scales) / size_of_val(codes));
            let words = words(scales);
            let scales =
                _mm512_castsi512_ps(_mm512_slli_epi32::<15>(_mm512_and_si512(words, _mm512_set1_epi32(0xfff0))));
            let zeros = _mm512_cvtepi32_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xf)));
            let zeros = _mm512_mul_ps(scales, zeros);
            let mut steps = [scales; ROWS];
            for ((step, x), sum) in steps.iter_mut().zip(&x).zip(sums.iter_mut()) {
                let [x_scales, x_sums] = of_run(x, run);
                *step = _mm512_mul_ps(_mm512_mul_ps(scales, x_scales), _mm512_set1_ps(256.0));
                *sum = _mm512_fnmadd_ps(zeros, x_sums, *sum);
            }
            for (i, codes) in codes.iter().enumerate() {
                // SAFETY: 64 codes fill a register.
                let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
                let first = _mm512_and_si512(codes, nibble);
                let last = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble);
                for ((step, x), sum) in steps.iter().zip(&x).zip(sums.iter_mut()) {
                    let products = multiply_upper([first, last], &x[run * RUN + i]);
                    *sum = _mm512_fmadd_ps(products, of_groups(*step, i), *sum);
                }
            }
        }
    }
    runs * RUN
}

/// Does the same with codes of 8 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
pub(super) fn multiply_int8<const ROWS: usize, const OUTPUTS: usize>(
    codes: [&[[i8; BLOCK]]; OUTPUTS],
    scales: [&[[bf16; 4]]; OUTPUTS],
    x: [&[Quantised]; ROWS],
    sums: &mut [[__m512; ROWS]; OUTPUTS],
) -> usize {
    let runs = codes[0].len() / RUN;
    let offset = _mm512_set1_epi8(i8::MIN);
    for run in 0..runs {
        for ((codes, scales), sums) in codes.iter().zip(&scales).zip(sums.iter_mut()) {
            let (codes, scales) = (&codes.as_chunks::<RUN>().0[run], &scales.as_chunks::<RUN>().0[run]);
            prefetch(codes, AHEAD);
            prefetch(scales, AHEAD * size_of_val(scales) / size_of_val(codes));
            let scales = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words(scales)));
            let mut steps = [scales; ROWS];
            for (step, x) in steps.iter_mut().zip(&x) {
                *step = _mm512_mul_ps(scales, of_run(x, run)[0]);
            }
            for (i, codes) in codes.iter().enumerate() {
                let at = codes.as_ptr().cast::<__m512i>();
                // SAFETY: 128 codes fill two registers.
                let (ab, cd) = unsafe { (_mm512_loadu_si512(at), _mm512_loadu_si512(at.add(1))) };
                let first = _mm512_xor_si512(_mm512_shuffle_i64x2::<0b10_00_10_00>(ab, cd), offset);
                let last = _mm512_xor_si512(_mm512_shuffle_i64x2::<0b11_01_11_01>(ab, cd), offset);
                for ((step, x), sum) in steps.iter().zip(&x).zip(sums.iter_mut()) {
                    let x = &x[run * RUN + i];
                    // SAFETY: the starts fill a register.
                    let start = unsafe { _mm512_load_si512(x.starts.as_ptr().cast()) };
                    *sum = _mm512_fmadd_ps(multiply([first, last], x, start), of_groups(*step, i), *sum);
                }
            }
        }
    }
    runs * RUN
}

/// The products of the halves of four groups, in the four lanes of each, added to `start`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
pub(super) fn multiply(codes: [__m512i; 2], x: &Quantised, start: __m512i) -> __m512 {
    let at = x.numbers.as_ptr().cast::<__m512i>();
    // SAFETY: 128 numbers of two bytes fill four registers.
    let [a, b, c, d] = unsafe {
        let (a, b) = (_mm512_load_si512(at), _mm512_load_si512(at.add(1)));
        [a, b, _mm512_load_si512(at.add(2)), _mm512_load_si512(at.add(3))]
    };
    let high = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[0], a), codes[1], b);
    let low = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, codes[0], c), codes[1], d);
    _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low))
}

/// As [`multiply`] of the upper digits alone, a 256th.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn multiply_upper(codes: [__m512i; 2], x: &Quantised) -> __m512 {
    let at = x.numbers.as_ptr().cast::<__m512i>();
    // SAFETY: the upper digits of 128 numbers fill two registers.
    let (a, b) = unsafe { (_mm512_load_si512(at), _mm512_load_si512(at.add(1))) };
    let sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[0], a), codes[1], b);
    _mm512_cvtepi32_ps(sum)
}

/// Of the scales of a run's groups those of block `i`, in the four lanes of each group.
#[target_feature(enable = "avx512f")]
#[inline]
fn of_groups(scales: __m512, i: usize) -> __m512 {
    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    _mm512_permutexvar_ps(_mm512_add_epi32(lanes, _mm512_set1_epi32(4 * i as i32)), scales)
}

/// The scales of a run's groups of `x`, and their sums.
#[target_feature(enable = "avx512f")]
#[inline]
fn of_run(x: &[Quantised], run: usize) -> [__m512; 2] {
    let x = &x[run * RUN];
    // SAFETY: 16 scales and 16 sums fill a register each.
    unsafe { [_mm512_load_ps(x.run_scales.as_ptr()), _mm512_load_ps(x.run_sums.as_ptr())] }
}

/// The words of a run's scales.
#[target_feature(enable = "avx512f")]
#[inline]
fn words<T>(scales: &[[T; 4]; RUN]) -> __m512i {
    const { assert!(size_of::<T>() == 2) };
    // SAFETY: 16 words fill half a register.
    _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(scales.as_ptr().cast()) })
}

/// Asks for what lies `ahead` bytes after a run.
#[target_feature(enable = "avx512f")]
#[inline]
fn prefetch<T>(run: &[T; RUN], ahead: usize) {
    for line in (0..size_of_val(run)).step_by(64) {
        _mm_prefetch::<_MM_HINT_T0>(run.as_ptr().cast::<i8>().wrapping_add(ahead + line));
    }
}
