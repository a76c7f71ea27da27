use super::entry::{Entry, Pair};
use super::exact::Exact;
use super::format::RUN;
use super::level::Level;
use super::matrix::{BLOCK, GROUP, Matrix, Weights};
use super::pairs;
use super::simd::{CHUNK, Simd};
use super::work::Work;

/// A row of `x`, filled up to blocks of 128 numbers with zeros, in the forms that the weights at hand ask for.
#[derive(Default)]
pub(super) struct Input {
    pub(super) floats: Vec<Floats>,
    /// In the order in which fp8 is decoded.
    pub(super) shuffled: Vec<Floats>,
    pub(super) quantised: Quantised,
    pub(super) pairs: Vec<Pairs>,
    /// In the order in which fp8 is decoded to pairs.
    pub(super) shuffled_pairs: Vec<Pairs>,
}

/// What the greatest number of a group becomes: two signed bytes can say it.
const GREATEST: f32 = 0x7f7f as f32;

/// 128 numbers.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Floats(pub(super) [f32; BLOCK]);

/// As many numbers, in bf16.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Pairs(pub(super) [Pair; BLOCK / 2]);

/// A row in groups of 32 numbers, each as 16-bit integers times a scale of its own. What is read together lies together,
/// so that nothing else takes room in the nearest cache.
#[derive(Default)]
pub(super) struct Quantised {
    /// The first and the last halves of the blocks, as [`Simd::arrange`] leaves them.
    pub(super) numbers: [Vec<Half>; 2],
    /// What to begin the sums of each block with: for instruction sets that ask for weights above zero.
    pub(super) starts: Vec<Sixteen<i32>>,
    /// The scales of the groups of each block, four times.
    pub(super) scales: Vec<Sixteen<f32>>,
    pub(super) runs: Vec<Run>,
}

/// Half of a block of quantised numbers.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Half(pub(super) [i16; BLOCK / 2]);

/// What fills a register of 512 bits.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sixteen<T>(pub(super) [T; 16]);

/// What four blocks have of each of their 16 groups.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) scales: Sixteen<f32>,
    /// Sums of quantised numbers, times their scale.
    pub(super) sums: Sixteen<f32>,
    /// The same without the numbers' lower digits.
    pub(super) upper_sums: Sixteen<f32>,
}

/// A block while it is quantised.
pub(super) struct QuantisedBlock {
    pub(super) numbers: [i16; BLOCK],
    pub(super) starts: [i32; 16],
}

impl Input {
    pub(super) fn new(level: Level, x: &[f32], exact: Exact, matrices: &[Matrix]) -> Self {
        let mut input = Self { floats: filled(x), ..Self::default() };
        let (in_pairs, others): (Vec<&Matrix>, Vec<_>) =
            matrices.iter().partition(|matrix| pairs::are_for(level, exact, matrix));
        let is_fp8 = |matrix: &&Matrix| matches!(matrix.weights(), Weights::Fp8 { .. });
        if others.iter().any(|matrix| matrix.has_groups()) {
            level.run(Quantise { floats: &input.floats, to: &mut input.quantised });
        }
        if others.iter().any(is_fp8) {
            input.shuffled = input.floats.clone();
            input.shuffled.iter_mut().for_each(|floats| level.shuffle(floats));
        }
        if !in_pairs.iter().all(is_fp8) {
            input.pairs = input.floats.iter().map(Pairs::of).collect();
        }
        if in_pairs.iter().any(is_fp8) {
            input.shuffled_pairs = input.floats.iter().map(Pairs::of).collect();
            input.shuffled_pairs.iter_mut().for_each(|pairs| level.shuffle_pairs(pairs));
        }
        input
    }
}

/// Numbers that are to be quantised.
struct Quantise<'a> {
    floats: &'a [Floats],
    to: &'a mut Quantised,
}

impl Work for Quantise<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.to.reserve(self.floats.len());
        for (i, floats) in self.floats.iter().enumerate() {
            self.to.push(simd, i, floats);
        }
    }
}

impl Floats {
    #[inline(always)]
    pub(super) fn chunk(&self, i: usize) -> &[f32; CHUNK] {
        &self.0.as_chunks().0[i]
    }
}

impl Pairs {
    fn of(floats: &Floats) -> Self {
        Self(std::array::from_fn(|i| Pair::of(&floats.0[2 * i..])))
    }
}

impl Quantised {
    fn reserve(&mut self, blocks: usize) {
        self.numbers.iter_mut().for_each(|halves| halves.reserve_exact(blocks));
        self.starts.reserve_exact(blocks);
        self.scales.reserve_exact(blocks);
        self.runs.reserve_exact(blocks.div_ceil(RUN));
    }

    /// Rounds each number of block `i` to a fraction of the greatest of its group. A group that has a number which is
    /// not finite has none as its scale, and no product with it is one.
    #[inline(always)]
    fn push<S: Simd>(&mut self, simd: S, i: usize, floats: &Floats) {
        let mut block = QuantisedBlock { numbers: [0; BLOCK], starts: [0; 16] };
        let mut scales = Sixteen([0.0; 16]);
        if i.is_multiple_of(RUN) {
            self.runs.push(Run { scales, sums: scales, upper_sums: scales });
        }
        let run = self.runs.last_mut().expect("a run begins with its first block");
        let groups = floats.0.as_chunks::<GROUP>().0.iter().zip(block.numbers.as_chunks_mut::<GROUP>().0);
        for (group, (x, to)) in groups.enumerate() {
            // Among magnitudes, bits are in the order of numbers, and what is not finite comes last.
            let greatest = x.iter().fold(0, |greatest, x| (x.to_bits() & 0x7fff_ffff).max(greatest));
            let greatest = f32::from_bits(greatest);
            let scale = if greatest.is_finite() { greatest / GREATEST } else { f32::NAN };
            if greatest.is_finite() {
                let inverse = (GREATEST / greatest).min(f32::MAX);
                for (x, to) in x.iter().zip(to.iter_mut()) {
                    // Where a float of this size has its last bit, the sum is rounded to an integer: its lower bits.
                    *to = (x * inverse + f32::from_bits(0x4b40_0000)).to_bits() as i16;
                }
            }
            scales.0[4 * group..][..4].fill(scale);
            let of_run = i % RUN * (BLOCK / GROUP) + group;
            let sum = to.iter().map(|number| i32::from(*number)).sum::<i32>();
            let lower = to.iter().map(|number| i32::from(*number as i8)).sum::<i32>();
            run.scales.0[of_run] = scale;
            run.sums.0[of_run] = sum as f32 * scale;
            run.upper_sums.0[of_run] = (sum - lower) as f32 * scale;
        }
        simd.arrange(&mut block);
        let (first, last) = block.numbers.split_at(BLOCK / 2);
        for (halves, half) in self.numbers.iter_mut().zip([first, last]) {
            halves.push(Half(half.try_into().expect("half a block")));
        }
        self.starts.push(Sixteen(block.starts));
        self.scales.push(scales);
    }

    /// The numbers of a group, where blocks are not arranged.
    #[inline(always)]
    pub(super) fn group(&self, block: usize, group: usize) -> &[i16; GROUP] {
        &self.numbers[group / 2][block].0.as_chunks().0[group % 2]
    }

    #[inline(always)]
    pub(super) fn scale(&self, block: usize, group: usize) -> f32 {
        self.scales[block].0[4 * group]
    }
}

fn filled(row: &[f32]) -> Vec<Floats> {
    let mut blocks = vec![Floats([0.0; BLOCK]); row.len().div_ceil(BLOCK)];
    for (block, row) in blocks.iter_mut().zip(row.chunks(BLOCK)) {
        block.0[..row.len()].copy_from_slice(row);
    }
    blocks
}
