use half::{bf16, f16};

use super::entry::Entry;
use super::input::{Quantised, QuantisedBlock};
use super::int4::step;
use super::int8::widen;
use super::matrix::{BLOCK, GROUP};
use super::simd::Simd;
use super::tile::{Tile, tile};
use super::work::Work;

/// Plain Rust, in loops that a compiler makes vectors of.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type Lanes = [f32; 4];

impl Simd for Portable {
    type Lanes = Lanes;
    type Chunk = [Lanes; 8];

    const LANES: usize = 4;
    const TILE: usize = 4;

    fn run(self, work: impl Work) {
        work.run(self);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Lanes {
        // SAFETY: the caller promises 4 numbers there.
        unsafe { from.cast::<Lanes>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, lanes: Lanes, to: *mut f32) {
        // SAFETY: the caller promises room for 4 numbers there.
        unsafe { to.cast::<Lanes>().write_unaligned(lanes) }
    }

    #[inline(always)]
    fn fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        lanes(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn sum(self, lanes: Lanes) -> f32 {
        (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    }

    #[inline(always)]
    fn f32(self, weights: &[f32; 32]) -> Self::Chunk {
        chunk(|i| weights[i])
    }

    #[inline(always)]
    fn bf16(self, weights: &[bf16; 32]) -> Self::Chunk {
        chunk(|i| f32::from_bits(u32::from(weights[i].to_bits()) << 16))
    }

    #[inline(always)]
    fn f16(self, weights: &[f16; 32]) -> Self::Chunk {
        chunk(|i| widen_f16(weights[i].to_bits()))
    }

    #[inline(always)]
    fn int8(self, codes: &[i8; 32], scale: f32) -> Self::Chunk {
        chunk(|i| f32::from(codes[i]) * scale)
    }

    #[inline(always)]
    fn int4(self, codes: &[u8; 16], word: u16) -> Self::Chunk {
        let (scale, zero) = step(word);
        let levels = levels(codes, zero);
        chunk(|i| f32::from(levels[i]) * scale)
    }

    #[inline(always)]
    fn fp8(self, codes: &[u8; 32], scale: f32) -> Self::Chunk {
        chunk(|i| widen_e4m3(codes[i]) * scale)
    }

    #[inline(always)]
    fn multiply_int8<const ROWS: usize>(
        self,
        codes: &[i8; BLOCK],
        scales: &[bf16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [Lanes; ROWS],
    ) {
        for (i, scale) in scales.iter().enumerate() {
            multiply_group(&codes.as_chunks().0[i], widen(*scale), x, block, i, sums);
        }
    }

    #[inline(always)]
    fn multiply_int4<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK / 2],
        scales: &[u16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [Lanes; ROWS],
    ) {
        for (i, (codes, word)) in codes.as_chunks::<16>().0.iter().zip(scales).enumerate() {
            let (scale, zero) = step(*word);
            multiply_group(&levels(codes, zero), scale, x, block, i, sums);
        }
    }

    #[inline(always)]
    fn arrange(self, _block: &mut QuantisedBlock) {}

    #[inline(always)]
    unsafe fn tile<E: Entry>(self, of: Tile<E>) {
        // SAFETY: as the caller promises.
        unsafe { tile::<Self, E, { Self::TILE }>(self, of) }
    }
}

/// The low and the high nibbles, less their zero point.
#[inline(always)]
fn levels(codes: &[u8; GROUP / 2], zero: u8) -> [i8; GROUP] {
    let mut levels = [0; GROUP];
    for (i, code) in codes.iter().enumerate() {
        levels[i] = (code & 15) as i8 - zero as i8;
        levels[i + GROUP / 2] = (code >> 4) as i8 - zero as i8;
    }
    levels
}

/// Adds the products of 32 codes and of a group of each row of `x`.
#[inline(always)]
fn multiply_group<const ROWS: usize>(
    codes: &[i8; GROUP],
    scale: f32,
    x: [&Quantised; ROWS],
    block: usize,
    group: usize,
    sums: &mut [Lanes; ROWS],
) {
    for (x, sums) in x.iter().zip(sums) {
        let mut products = [0; 4];
        for (codes, x) in codes.as_chunks::<4>().0.iter().zip(x.group(block, group).as_chunks::<4>().0) {
            for i in 0..4 {
                products[i] += i32::from(codes[i]) * i32::from(x[i]);
            }
        }
        for (sum, product) in sums.iter_mut().zip(products) {
            *sum += product as f32 * (scale * x.scale(block, group));
        }
    }
}

#[inline(always)]
fn lanes(mut of: impl FnMut(usize) -> f32) -> Lanes {
    let mut lanes = [0.0; 4];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = of(i);
    }
    lanes
}

#[inline(always)]
fn chunk(mut of: impl FnMut(usize) -> f32) -> [Lanes; 8] {
    let mut chunk = [[0.0; 4]; 8];
    for (i, number) in chunk.as_flattened_mut().iter_mut().enumerate() {
        *number = of(i);
    }
    chunk
}

/// The number of an f16: its bits where f32 has them, then the exponent's bias made good by a product.
#[inline(always)]
pub(super) fn widen_f16(bits: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000); // 2^112
    let infinite = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | infinite | u32::from(bits & 0x8000) << 16)
}

/// The number of an E4M3 code, which has no infinities.
#[inline(always)]
pub(super) const fn widen_e4m3(code: u8) -> f32 {
    let magnitude = f32::from_bits(((code & 0x7f) as u32) << 20) * f32::from_bits(0x7b80_0000); // 2^120
    let nan = if code & 0x7f == 0x7f { 0x7fc0_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | nan | ((code & 0x80) as u32) << 24)
}
