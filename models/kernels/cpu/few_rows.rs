use std::ops::Range;
use std::sync::LazyLock;

use super::ahead::Ahead;
use super::format::{self, Format, Kernel, RUN, Row};
use super::input::Input;
use super::matrix::{BLOCK, Matrix};
use super::simd::Simd;
use super::work::Work;

/// Up to so many rows of `x`, weights are multiplied as they are read, instead of decoded for a product of matrices.
pub(super) const FEW_ROWS: usize = 8;

/// Bytes of `x` that stay in the first-level cache while weights pass through it: three quarters of it. What is taken for
/// its size may be another cache's.
static NEAR: LazyLock<usize> =
    LazyLock::new(|| cache_size::l1_cache_size().unwrap_or(0).clamp(32 << 10, 48 << 10) / 4 * 3);

/// Bytes of weights between what is multiplied and what is asked for: what comes while the memory takes to answer.
const AHEAD: usize = 4 << 10;

/// Multiplies a few rows of `x` by consecutive rows of a matrix, reading every weight once.
pub(super) struct FewRows<'a, 'x> {
    pub(super) matrix: Matrix<'a>,
    /// The first row of the matrix.
    pub(super) first: usize,
    /// The rows of `x`.
    pub(super) x: &'x [Input],
    /// Zeros, `[rows, run]`.
    pub(super) y: Vec<&'x mut [f32]>,
}

impl Work for FewRows<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        format::run(simd, self);
    }
}

impl<'a> Kernel<'a> for FewRows<'a, '_> {
    fn matrix(&self) -> Matrix<'a> {
        self.matrix
    }

    /// Goes down the rows of weights, as many blocks of each as of `x` stay near, and meanwhile asks for what comes: for
    /// the same blocks of the row below where these are not all, and else for what lies a page on, be it in the rows below:
    /// they lie side by side, and the memory is not waited for where one ends.
    #[inline(always)]
    fn run<S: Simd, F: Format<'a>>(mut self, simd: S, weights: F) {
        let (inputs, run) = (self.matrix.inputs(), self.y.first().map_or(0, |y| y.len()));
        let blocks = inputs / BLOCK;
        let pieces = (self.x.len() * blocks * F::READ).div_ceil(*NEAR).max(1);
        let near = blocks.div_ceil(pieces).next_multiple_of(RUN).max(RUN);
        let bytes = if near < blocks { blocks * size_of::<F::Codes>() } else { AHEAD };
        // Where `x` takes more than half of the cache. Further rows of it, and the row below, find weights in the second.
        let once = self.x.len() == 1 && near >= blocks && blocks * F::READ > *NEAR / 3 * 2;
        let ahead = Ahead { bytes, once };
        for begin in (0..blocks.max(1)).step_by(near) {
            let end = (begin + near).min(blocks);
            for i in 0..run {
                self.add(simd, &weights.row(self.first + i, inputs), begin..end, ahead, i);
            }
        }
    }
}

impl<'a> FewRows<'a, '_> {
    /// Adds the products of blocks of a row of weights and of all rows of `x`, a pair of them at a time: beyond the
    /// first pair, weights come from the cache.
    #[inline(always)]
    fn add<S: Simd, F: Format<'a>>(
        &mut self,
        simd: S,
        row: &Row<'a, F>,
        blocks: Range<usize>,
        mut ahead: Ahead,
        at: usize,
    ) {
        for (x, y) in self.x.chunks(2).zip(self.y.chunks_mut(2)) {
            match x {
                [a, b] => {
                    let products = products(simd, row, ahead, [F::input(a), F::input(b)], blocks.clone());
                    y[0][at] += products[0];
                    y[1][at] += products[1];
                }
                x => y[0][at] += products(simd, row, ahead, [F::input(&x[0])], blocks.clone())[0],
            }
            ahead = Ahead::HERE; // It has been asked for: from here on what is read at once is, which costs little.
        }
    }
}

/// The scalar products of blocks of a row of weights, and what its last block leaves, and of rows of `x`. Each has a sum
/// of its own: no row depends on what others hold, but, to the last bits, on how many there are.
#[inline(always)]
fn products<'a, S: Simd, F: Format<'a>, const ROWS: usize>(
    simd: S,
    row: &Row<'a, F>,
    ahead: Ahead,
    x: [&F::Input; ROWS],
    blocks: Range<usize>,
) -> [f32; ROWS] {
    let is_last = blocks.end == row.codes.len();
    let mut sums = [simd.splat(0.0); ROWS];
    // A line of scales is read several times.
    let of_scales = ahead.bytes / size_of::<F::Codes>() * size_of::<F::Scales>();
    let ahead_of_scales = Ahead { bytes: of_scales, once: false };
    let mut block = blocks.start;
    if F::in_runs::<S>() {
        let (codes, scales) = (&row.codes[blocks.clone()], &row.scales[blocks.clone()]);
        for (codes, scales) in codes.as_chunks().0.iter().zip(scales.as_chunks().0) {
            simd.ask(scales, ahead_of_scales);
            F::multiply_run(simd, codes, scales, x, block / RUN, ahead, &mut sums);
            block += RUN;
        }
    }
    for block in block..blocks.end {
        simd.ask(&row.scales[block], ahead_of_scales);
        F::multiply(simd, &row.codes[block], &row.scales[block], x, block, ahead, &mut sums);
    }
    if let (true, Some((codes, scales))) = (is_last, &row.rest) {
        F::multiply(simd, codes, scales, x, blocks.end, Ahead::HERE, &mut sums);
    }
    let mut products = [0.0; ROWS];
    for (product, sum) in products.iter_mut().zip(sums) {
        *product = simd.sum(sum);
    }
    products
}
