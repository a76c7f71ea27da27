use std::mem::offset_of;

use super::level::Level;
use super::matrix::{BLOCK, GROUP, Matrix, Weights};
use super::simd::{CHUNK, Simd};
use super::work::Work;

/// A row of `x`, filled up to blocks of 128 numbers with zeros, in the forms that the weights at hand ask for.
#[derive(Default)]
pub(super) struct Input {
    pub(super) floats: Vec<Floats>,
    /// In the order in which fp8 is decoded.
    pub(super) shuffled: Vec<Floats>,
    pub(super) quantised: Vec<Quantised>,
}

/// What the greatest number of a group becomes: two signed bytes can say it.
const GREATEST: f32 = 0x7f7f as f32;

/// 128 numbers.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Floats(pub(super) [f32; BLOCK]);

/// Four groups of 32 numbers, each as 16-bit integers times a scale of its own.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Quantised {
    /// In the order, and cut in digits as [`Simd::arrange`](super::simd::Simd::arrange) says.
    pub(super) numbers: [i16; BLOCK],
    /// What to begin sums with: for instruction sets that ask for weights above zero.
    pub(super) starts: [i32; 16],
    /// The scale of each group, four times.
    pub(super) scales: [f32; 16],
    /// The scales of the groups of this block and the three after it.
    pub(super) run_scales: [f32; 16],
    /// The sums of the numbers of those groups without their lower digits, times their scales.
    pub(super) run_sums: [f32; 16],
}

// Kernels load them with instructions that ask for this.
const _: () = assert!(
    offset_of!(Quantised, starts) % 64 == 0
        && offset_of!(Quantised, scales) % 64 == 0
        && offset_of!(Quantised, run_scales) % 64 == 0
        && offset_of!(Quantised, run_sums) % 64 == 0
);

impl Input {
    pub(super) fn new(level: Level, x: &[f32], matrices: &[Matrix]) -> Self {
        let mut input = Self { floats: filled(x), ..Self::default() };
        if matrices.iter().any(|matrix| matches!(matrix.weights(), Weights::Int8 { .. } | Weights::Int4 { .. })) {
            level.run(Quantise { floats: &input.floats, to: &mut input.quantised });
        }
        if matrices.iter().any(|matrix| matches!(matrix.weights(), Weights::Fp8 { .. })) {
            input.shuffled = input.floats.clone();
            input.shuffled.iter_mut().for_each(|floats| level.shuffle(floats));
        }
        input
    }
}

/// Numbers that are to be quantised.
struct Quantise<'a> {
    floats: &'a [Floats],
    to: &'a mut Vec<Quantised>,
}

impl Work for Quantise<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.to.reserve_exact(self.floats.len());
        for (i, floats) in self.floats.iter().enumerate() {
            let (quantised, sums) = Quantised::new(simd, floats);
            self.to.push(quantised);
            let groups = i % 4 * 4..i % 4 * 4 + 4;
            let scales = quantised.scales.as_chunks::<4>().0.iter().map(|scales| scales[0]);
            let first = &mut self.to[i / 4 * 4];
            first.run_sums[groups.clone()].copy_from_slice(&sums);
            first.run_scales[groups].iter_mut().zip(scales).for_each(|(to, scale)| *to = scale);
        }
    }
}

impl Floats {
    #[inline(always)]
    pub(super) fn chunk(&self, i: usize) -> &[f32; CHUNK] {
        &self.0.as_chunks().0[i]
    }
}

impl Quantised {
    /// Rounds each number to a fraction of the greatest of its group. A group that has a number which is not finite
    /// has none as its scale, and no product with it is one.
    #[inline(always)]
    fn new<S: Simd>(simd: S, floats: &Floats) -> (Self, [f32; 4]) {
        let (scales, sums) = ([0.0; 16], [0.0; 16]);
        let mut quantised = Self { numbers: [0; BLOCK], starts: [0; 16], scales, run_scales: scales, run_sums: sums };
        let groups = floats.0.as_chunks::<GROUP>().0.iter().zip(quantised.numbers.as_chunks_mut::<GROUP>().0);
        for ((x, to), scale) in groups.zip(quantised.scales.as_chunks_mut::<4>().0) {
            // Among magnitudes, bits are in the order of numbers, and what is not finite comes last.
            let greatest = x.iter().fold(0, |greatest, x| (x.to_bits() & 0x7fff_ffff).max(greatest));
            let greatest = f32::from_bits(greatest);
            if !greatest.is_finite() {
                *scale = [f32::NAN; 4];
                continue;
            }
            let inverse = (GREATEST / greatest).min(f32::MAX);
            for (x, to) in x.iter().zip(to) {
                // Where a float of this size has its last bit, the sum is rounded to an integer: its lower bits.
                *to = (x * inverse + f32::from_bits(0x4b40_0000)).to_bits() as i16;
            }
            *scale = [greatest / GREATEST; 4];
        }
        let mut sums = [0.0; 4];
        for (i, numbers) in quantised.numbers.as_chunks::<GROUP>().0.iter().enumerate() {
            let sum: i32 = numbers.iter().map(|number| i32::from(*number) - i32::from(*number as i8)).sum();
            sums[i] = sum as f32 * quantised.scales[4 * i];
        }
        simd.arrange(&mut quantised);
        (quantised, sums)
    }
}

fn filled(row: &[f32]) -> Vec<Floats> {
    let mut blocks = vec![Floats([0.0; BLOCK]); row.len().div_ceil(BLOCK)];
    for (block, row) in blocks.iter_mut().zip(row.chunks(BLOCK)) {
        block.0[..row.len()].copy_from_slice(row);
    }
    blocks
}
