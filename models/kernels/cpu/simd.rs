use half::{bf16, f16};

use super::ahead::Ahead;
use super::entry::{Entry, Pair};
use super::format::RUN;
use super::input::{Floats, Pairs, Quantised, QuantisedBlock};
use super::matrix::BLOCK;
use super::tile::Tile;
use super::work::Work;

/// The numbers that are decoded at a time.
pub(super) const CHUNK: usize = 32;

/// What an instruction set does. A value of the type is the proof that the CPU has it.
pub(super) trait Simd: Copy + Send + Sync {
    /// A register of f32.
    type Lanes: Copy;

    /// Decoded weights: as many registers as 32 numbers fill.
    type Chunk: Copy + AsRef<[Self::Lanes]>;

    /// The numbers of a register.
    const LANES: usize;

    /// Outputs that [`tile`](Simd::tile) multiplies at a time, but where [`outputs`](Simd::outputs) says otherwise.
    const TILE: usize;

    /// Whether it multiplies a run of blocks of integers at a time.
    const RUNS: bool = false;

    /// Does `work`, compiled for this instruction set.
    fn run(self, work: impl Work);

    /// Does `work`, compiled with products of pairs, where the CPU has them.
    fn run_with_pairs(self, _work: impl Work) {
        unreachable!("pairs are for CPUs that multiply them")
    }

    fn splat(self, value: f32) -> Self::Lanes;

    /// # Safety
    /// `from` points to `LANES` numbers.
    unsafe fn load(self, from: *const f32) -> Self::Lanes;

    /// # Safety
    /// `to` points to `LANES` numbers that nothing else refers to.
    unsafe fn store(self, lanes: Self::Lanes, to: *mut f32);

    /// `a * b + c`
    fn fma(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;

    fn sum(self, lanes: Self::Lanes) -> f32;

    fn f32(self, weights: &[f32; 32]) -> Self::Chunk;
    fn bf16(self, weights: &[bf16; 32]) -> Self::Chunk;
    fn f16(self, weights: &[f16; 32]) -> Self::Chunk;
    fn int8(self, codes: &[i8; 32], scale: f32) -> Self::Chunk;
    fn int4(self, codes: &[u8; 16], word: u16) -> Self::Chunk;
    fn fp8(self, codes: &[u8; 32], scale: f32) -> Self::Chunk;

    /// Outputs that [`tile`](Simd::tile) multiplies at a time, of such entries.
    #[inline(always)]
    fn outputs<E: Entry>(self) -> usize {
        Self::TILE
    }

    /// Multiplies as many rows of weights by the columns of one or two registers: [`tile::tile`] of the size
    /// that fills the registers, or what the CPU has for it.
    ///
    /// # Safety
    /// As [`tile::tile`] says; `depth` is that of whole blocks, and a group has `LANES` columns.
    ///
    /// [`tile::tile`]: super::tile::tile
    unsafe fn tile<E: Entry>(self, tile: Tile<E>);

    /// Whether the CPU multiplies [`Pair`]s.
    fn multiplies_pairs(self) -> bool {
        false
    }

    /// `a * b + c`, where `a` and `b` are pairs whose two products are added.
    ///
    /// # Safety
    /// The CPU multiplies pairs.
    #[inline(always)]
    unsafe fn fma_pairs(self, _a: Self::Lanes, _b: Self::Lanes, _c: Self::Lanes) -> Self::Lanes {
        unreachable!("pairs are for CPUs that multiply them")
    }

    /// Rounds numbers to pairs, where the CPU multiplies them.
    #[inline(always)]
    fn round(self, _numbers: &[f32; BLOCK], _to: &mut [Pair; BLOCK / 2]) {
        unreachable!("pairs are for CPUs that multiply them")
    }

    /// Asks for the memory at `address`, which need not be valid, to be brought to the second-level cache, or, where it is
    /// used once, past it.
    #[inline(always)]
    fn prefetch(self, _address: *const u8, _once: bool) {}

    /// Asks for what lies ahead of `part`, as much as that is, wherever it is.
    #[inline(always)]
    fn ask<T>(self, part: &T, ahead: Ahead) {
        for line in (0..size_of::<T>()).step_by(64) {
            self.prefetch((&raw const *part).cast::<u8>().wrapping_add(ahead.bytes + line), ahead.once);
        }
    }

    /// The sum of products of 32 weights and inputs, lane by lane, added to `sum`.
    #[inline(always)]
    fn dot(self, weights: Self::Chunk, x: &[f32; CHUNK], mut sum: Self::Lanes) -> Self::Lanes {
        for (i, w) in weights.as_ref().iter().enumerate() {
            // SAFETY: a chunk's registers hold 32 numbers together, as many as `x`.
            sum = self.fma(*w, unsafe { self.load(x.as_ptr().add(i * Self::LANES)) }, sum);
        }
        sum
    }

    /// Adds the products of a block of [`Weights::Int8`](super::Weights::Int8) to the sums of each row of `x`.
    fn multiply_int8<const ROWS: usize>(
        self,
        codes: &[i8; BLOCK],
        scales: &[bf16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [Self::Lanes; ROWS],
    );

    /// Adds the products of a block of [`Weights::Int4`](super::Weights::Int4) to the sums of each row of `x`.
    fn multiply_int4<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK / 2],
        scales: &[u16; 4],
        x: [&Quantised; ROWS],
        block: usize,
        sums: &mut [Self::Lanes; ROWS],
    );

    /// Adds the products of a block of [`Weights::Fp8`](super::Weights::Fp8) to the sums of each row of `x`.
    #[inline(always)]
    fn multiply_fp8<const ROWS: usize>(
        self,
        codes: &[u8; BLOCK],
        scale: f32,
        x: [&[Floats]; ROWS],
        block: usize,
        sums: &mut [Self::Lanes; ROWS],
    ) {
        for (i, codes) in codes.as_chunks().0.iter().enumerate() {
            let weights = self.fp8(codes, scale);
            for (x, sum) in x.iter().zip(sums.iter_mut()) {
                *sum = self.dot(weights, x[block].chunk(i), *sum);
            }
        }
    }

    /// Does what [`multiply_fp8`](Self::multiply_fp8) does with the block of `x` in pairs.
    ///
    /// # Safety
    /// The CPU multiplies pairs.
    #[inline(always)]
    unsafe fn multiply_fp8_pairs<const ROWS: usize>(
        self,
        _codes: &[u8; BLOCK],
        _scale: f32,
        _x: [&Pairs; ROWS],
        _sums: &mut [Self::Lanes; ROWS],
    ) {
        unreachable!("pairs are for CPUs that multiply them")
    }

    /// Does what [`multiply_int8`](Self::multiply_int8) does for a run of blocks, and asks for what lies `ahead`
    /// of each as it comes to it.
    #[inline(always)]
    fn multiply_int8_run<const ROWS: usize>(
        self,
        codes: &[[i8; BLOCK]; RUN],
        scales: &[[bf16; 4]; RUN],
        x: [&Quantised; ROWS],
        run: usize,
        ahead: Ahead,
        sums: &mut [Self::Lanes; ROWS],
    ) {
        for (i, (codes, scales)) in codes.iter().zip(scales).enumerate() {
            self.ask(codes, ahead);
            self.multiply_int8(codes, scales, x, run * RUN + i, sums);
        }
    }

    /// Does what [`multiply_int4`](Self::multiply_int4) does for a run of blocks, and asks for what lies `ahead`
    /// of each as it comes to it.
    #[inline(always)]
    fn multiply_int4_run<const ROWS: usize>(
        self,
        codes: &[[u8; BLOCK / 2]; RUN],
        scales: &[[u16; 4]; RUN],
        x: [&Quantised; ROWS],
        run: usize,
        ahead: Ahead,
        sums: &mut [Self::Lanes; ROWS],
    ) {
        for (i, (codes, scales)) in codes.iter().zip(scales).enumerate() {
            self.ask(codes, ahead);
            self.multiply_int4(codes, scales, x, run * RUN + i, sums);
        }
    }

    /// Brings quantised numbers in the order in which they are multiplied.
    fn arrange(self, block: &mut QuantisedBlock);

    /// Brings numbers in the order in which fp8 is decoded.
    #[inline(always)]
    fn shuffle(self, _floats: &mut Floats) {}

    /// Brings pairs in the order in which fp8 is decoded.
    #[inline(always)]
    fn shuffle_pairs(self, _pairs: &mut Pairs) {}

    #[inline(always)]
    fn store_chunk(self, weights: Self::Chunk, to: &mut [f32; CHUNK]) {
        for (i, w) in weights.as_ref().iter().enumerate() {
            // SAFETY: a chunk's registers hold 32 numbers together, as many as `to`.
            unsafe { self.store(*w, to.as_mut_ptr().add(i * Self::LANES)) };
        }
    }
}
