use std::arch::aarch64::*;

use half::{bf16, f16};

use super::entry::Entry;
use super::input::{Quantised, QuantisedBlock};
use super::int4::step;
use super::int8::widen;
use super::matrix::{BLOCK, GROUP};
use super::simd::Simd;
use super::tile::{Tile, tile};
use super::work::Work;

/// NEON: 4 numbers at a time.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

impl Neon {
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

#[target_feature(enable = "neon")]
fn run(simd: Neon, work: impl Work) {
    work.run(simd);
}

// Every `unsafe` below calls instructions of a set that `self` proves the CPU to have; pointers come of references to
// as many numbers as are read, or are the caller's promise.
impl Simd for Neon {
    type Lanes = float32x4_t;
    type Chunk = [float32x4_t; 8];

    const LANES: usize = 4;
    const TILE: usize = 8;

    fn run(self, work: impl Work) {
        // SAFETY: `self` proves that the CPU has the feature.
        unsafe { run(self, work) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, lanes: float32x4_t, to: *mut f32) {
        // SAFETY: see above.
        unsafe { vst1q_f32(to, lanes) }
    }

    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn sum(self, lanes: float32x4_t) -> f32 {
        // SAFETY: see above.
        unsafe { vaddvq_f32(lanes) }
    }

    #[inline(always)]
    fn f32(self, weights: &[f32; 32]) -> Self::Chunk {
        let mut chunk = [self.splat(0.0); 8];
        for (lanes, weights) in chunk.iter_mut().zip(weights.as_chunks::<4>().0) {
            // SAFETY: see above.
            *lanes = unsafe { vld1q_f32(weights.as_ptr()) };
        }
        chunk
    }

    #[inline(always)]
    fn bf16(self, weights: &[bf16; 32]) -> Self::Chunk {
        let mut chunk = [self.splat(0.0); 8];
        for (lanes, weights) in chunk.iter_mut().zip(weights.as_chunks::<4>().0) {
            // SAFETY: see above.
            *lanes = unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(weights.as_ptr().cast()))) };
        }
        chunk
    }

    #[inline(always)]
    fn f16(self, weights: &[f16; 32]) -> Self::Chunk {
        let mut chunk = [self.splat(0.0); 8];
        for (lanes, weights) in chunk.iter_mut().zip(weights.as_chunks::<4>().0) {
            // SAFETY: see above.
            *lanes = unsafe { halves(vmovl_u16(vld1_u16(weights.as_ptr().cast()))) };
        }
        chunk
    }

    #[inline(always)]
    fn int8(self, codes: &[i8; 32], scale: f32) -> Self::Chunk {
        let at = codes.as_ptr();
        // SAFETY: see above.
        unsafe { scaled(vld1q_s8(at), vld1q_s8(at.add(16)), scale) }
    }

    #[inline(always)]
    fn int4(self, codes: &[u8; 16], word: u16) -> Self::Chunk {
        let (scale, zero) = step(word);
        // SAFETY: see above.
        unsafe {
            let [low, high] = levels(codes, zero);
            scaled(low, high, scale)
        }
    }

    /// Puts E4M3's bits where f16 has them, which divides by 256.
    #[inline(always)]
    fn fp8(self, codes: &[u8; 32], scale: f32) -> Self::Chunk {
        let mut chunk = [self.splat(0.0); 8];
        for (lanes, codes) in chunk.as_chunks_mut::<2>().0.iter_mut().zip(codes.as_chunks::<8>().0) {
            // SAFETY: see above.
            unsafe {
                let words = vmovl_s8(vreinterpret_s8_u8(vld1_u8(codes.as_ptr())));
                let magnitude = vandq_s16(words, vdupq_n_s16(0x7f));
                let nan = vshrq_n_u16::<1>(vceqq_s16(magnitude, vdupq_n_s16(0x7f)));
                let bits = vandq_s16(vshlq_n_s16::<7>(words), vdupq_n_s16(0xbf80_u16 as i16));
                let bits = vorrq_u16(vreinterpretq_u16_s16(bits), nan);
                lanes[0] = vmulq_n_f32(halves(vmovl_u16(vget_low_u16(bits))), scale * 256.0);
                lanes[1] = vmulq_n_f32(halves(vmovl_high_u16(bits)), scale * 256.0);
            }
        }
        chunk
    }

    #[inline(always)]
    fn multiply_int8<const ROWS: usize>(
        self,
        codes: &[i8; BLOCK],
        scales: &[bf16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [float32x4_t; ROWS],
    ) {
        for (group, (codes, scale)) in codes.as_chunks::<GROUP>().0.iter().zip(scales).enumerate() {
            let at = codes.as_ptr();
            // SAFETY: see above.
            unsafe { multiply_group(vld1q_s8(at), vld1q_s8(at.add(16)), widen(*scale), x, block, group, sums) };
        }
    }

    #[inline(always)]
    fn multiply_int4<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK / 2],
        scales: &[u16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [float32x4_t; ROWS],
    ) {
        for (group, (codes, word)) in codes.as_chunks::<16>().0.iter().zip(scales).enumerate() {
            // SAFETY: see above.
            unsafe {
                let (scale, zero) = step(*word);
                let [low, high] = levels(codes, zero);
                multiply_group(low, high, scale, x, block, group, sums);
            }
        }
    }

    fn arrange(self, _block: &mut QuantisedBlock) {}

    #[inline(always)]
    unsafe fn tile<E: Entry>(self, of: Tile<E>) {
        // SAFETY: as the caller promises.
        unsafe { tile::<Self, E, { Self::TILE }>(self, of) }
    }
}

/// The numbers of f16 bits: where f32 has them, then the exponent's bias made good by a product.
#[target_feature(enable = "neon")]
#[inline]
fn halves(bits: uint32x4_t) -> float32x4_t {
    let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
    let infinite = vandq_u32(vcgeq_u32(magnitude, vdupq_n_u32(0x7c00 << 13)), vdupq_n_u32(0x7f80_0000));
    let number = vmulq_n_f32(vreinterpretq_f32_u32(magnitude), f32::from_bits(0x7780_0000)); // 2^112
    let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
    vreinterpretq_f32_u32(vorrq_u32(vorrq_u32(vreinterpretq_u32_f32(number), infinite), sign))
}

/// The low and the high nibbles, less their zero point.
#[target_feature(enable = "neon")]
#[inline]
fn levels(codes: &[u8; 16], zero: u8) -> [int8x16_t; 2] {
    // SAFETY: the array fills a register.
    let codes = unsafe { vld1q_u8(codes.as_ptr()) };
    let (low, high) = (vandq_u8(codes, vdupq_n_u8(0xf)), vshrq_n_u8::<4>(codes));
    let zero = vdupq_n_u8(zero);
    [vreinterpretq_s8_u8(vsubq_u8(low, zero)), vreinterpretq_s8_u8(vsubq_u8(high, zero))]
}

/// The codes as f32, times `scale`.
#[target_feature(enable = "neon")]
#[inline]
fn scaled(first: int8x16_t, last: int8x16_t, scale: f32) -> [float32x4_t; 8] {
    let mut chunk = [vdupq_n_f32(0.0); 8];
    let words = [vmovl_s8(vget_low_s8(first)), vmovl_high_s8(first), vmovl_s8(vget_low_s8(last)), vmovl_high_s8(last)];
    for (lanes, words) in chunk.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        lanes[0] = vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))), scale);
        lanes[1] = vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(words)), scale);
    }
    chunk
}

/// Adds the products of 32 codes and of a group of each row of `x`.
#[target_feature(enable = "neon")]
#[inline]
fn multiply_group<const ROWS: usize>(
    first: int8x16_t,
    last: int8x16_t,
    scale: f32,
    x: [&Quantised; ROWS],
    block: usize,
    group: usize,
    sums: &mut [float32x4_t; ROWS],
) {
    let words = [vmovl_s8(vget_low_s8(first)), vmovl_high_s8(first), vmovl_s8(vget_low_s8(last)), vmovl_high_s8(last)];
    for (x, sum) in x.iter().zip(sums) {
        let (mut even, mut odd) = (vdupq_n_s32(0), vdupq_n_s32(0));
        for (words, x_numbers) in words.iter().zip(x.group(block, group).as_chunks::<8>().0) {
            // SAFETY: the array fills a register.
            let numbers = unsafe { vld1q_s16(x_numbers.as_ptr()) };
            even = vmlal_s16(even, vget_low_s16(*words), vget_low_s16(numbers));
            odd = vmlal_high_s16(odd, *words, numbers);
        }
        let products = vcvtq_f32_s32(vaddq_s32(even, odd));
        *sum = vfmaq_n_f32(*sum, products, scale * x.scale(block, group));
    }
}
