use std::arch::x86_64::*;
use std::mem::transmute;

use super::input::{Floats, Pairs};
use super::matrix::BLOCK;
use super::portable::widen_e4m3;

/// The lower and the upper bytes of E4M3's numbers, without sign, as bf16.
static E4M3: ([u8; 128], [u8; 128]) = {
    let mut bytes = ([0; 128], [0; 128]);
    let mut code = 0;
    while code < 128 {
        let number = (widen_e4m3(code as u8).to_bits() >> 16) as u16;
        [bytes.0[code], bytes.1[code]] = number.to_le_bytes();
        code += 1;
    }
    bytes
};

/// [`E4M3`] in registers.
struct Tables {
    lows: [__m512i; 2],
    highs: [__m512i; 2],
}

impl Tables {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new() -> Self {
        let table = |bytes: &[u8; 128]| {
            let at = bytes.as_ptr();
            // SAFETY: 128 bytes fill two registers.
            unsafe { [_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(64).cast())] }
        };
        Self { lows: table(&E4M3.0), highs: table(&E4M3.1) }
    }

    /// Codes in bf16: of each 16, the first half, then the second.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn words(&self, codes: &[u8; 64]) -> [__m512i; 2] {
        // SAFETY: 64 codes fill a register.
        let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
        let low = _mm512_permutex2var_epi8(self.lows[0], codes, self.lows[1]);
        let high = _mm512_permutex2var_epi8(self.highs[0], codes, self.highs[1]);
        let high = _mm512_ternarylogic_epi32::<0xf8>(high, codes, _mm512_set1_epi8(i8::MIN)); // high | codes & sign
        [_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)]
    }
}

/// Adds the products of a block and of rows of numbers, whose even ones come before the odd, to the sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub(super) fn multiply<const ROWS: usize>(
    codes: &[u8; BLOCK],
    scale: f32,
    x: [&[Floats]; ROWS],
    block: usize,
    sums: &mut [__m512; ROWS],
) {
    let tables = Tables::new();
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let mut parts = [_mm512_setzero_ps(); ROWS];
    for (i, codes) in codes.as_chunks().0.iter().enumerate() {
        for (j, words) in tables.words(codes).iter().enumerate() {
            let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(*words));
            let odd = _mm512_castsi512_ps(_mm512_and_si512(*words, upper));
            for (x, part) in x.iter().zip(&mut parts) {
                let x = x[block].chunk(2 * i + j).as_ptr();
                // SAFETY: a chunk fills two registers.
                let x = unsafe { [_mm512_load_ps(x), _mm512_load_ps(x.add(16))] };
                *part = _mm512_fmadd_ps(even, x[0], *part);
                *part = _mm512_fmadd_ps(odd, x[1], *part);
            }
        }
    }
    add(parts, scale, sums);
}

/// Does the same with rows of pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512bf16")]
#[inline]
pub(super) fn multiply_pairs<const ROWS: usize>(
    codes: &[u8; BLOCK],
    scale: f32,
    x: [&Pairs; ROWS],
    sums: &mut [__m512; ROWS],
) {
    let tables = Tables::new();
    let mut parts = [_mm512_setzero_ps(); ROWS];
    for (i, codes) in codes.as_chunks().0.iter().enumerate() {
        for (j, words) in tables.words(codes).iter().enumerate() {
            for (x, part) in x.iter().zip(&mut parts) {
                // SAFETY: a block's pairs fill four registers; the types differ only in what their bits mean.
                unsafe {
                    let x = _mm512_load_si512(x.0.as_ptr().add(16 * (2 * i + j)).cast());
                    let (words, x) = (transmute::<__m512i, __m512bh>(*words), transmute::<__m512i, __m512bh>(x));
                    *part = _mm512_dpbf16_ps(*part, words, x);
                }
            }
        }
    }
    add(parts, scale, sums);
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add<const ROWS: usize>(parts: [__m512; ROWS], scale: f32, sums: &mut [__m512; ROWS]) {
    let scale = _mm512_set1_ps(scale);
    for (part, sum) in parts.iter().zip(sums) {
        *sum = _mm512_fmadd_ps(*part, scale, *sum);
    }
}
