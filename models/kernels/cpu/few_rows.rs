use super::format::{self, Format, Kernel, Row};
use super::input::Input;
use super::matrix::{BLOCK, Matrix};
use super::simd::Simd;
use super::work::Work;

/// Up to so many rows of `x`, weights are multiplied as they are read, instead of decoded for a product of matrices.
pub(super) const FEW_ROWS: usize = 8;

/// Bytes of `x` that stay in the first-level cache while weights pass through it.
const NEAR: usize = 24 << 10;

/// Bytes between what is multiplied and what is asked for meanwhile.
const AHEAD: usize = 2 << 10;

/// Multiplies a few rows of `x` by consecutive rows of a matrix, reading every weight once, in memory's order.
pub(super) struct FewRows<'a, 'x> {
    pub(super) matrix: Matrix<'a>,
    /// The first row of the matrix.
    pub(super) first: usize,
    /// The rows of `x`.
    pub(super) x: &'x [Input],
    /// `[rows, run]`
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

    #[inline(always)]
    fn run<S: Simd, F: Format<'a>>(mut self, simd: S, weights: F) {
        let run = self.y.first().map_or(0, |y| y.len());
        // Memory is read fastest in its order, one row of weights at a time; unless `x` is too long for the first-level
        // cache, when four rows side by side share what is loaded of it.
        let near = self.x.iter().map(|x| F::input(x).len() * F::READ).sum::<usize>() <= NEAR;
        let mut done = 0;
        while done < run {
            let first = self.first + done;
            let inputs = self.matrix.inputs();
            if near || run - done < 4 {
                self.outputs(simd, [weights.row(first, inputs)], done);
                done += 1;
            } else {
                let (a, b) = (weights.row(first, inputs), weights.row(first + 1, inputs));
                let (c, d) = (weights.row(first + 2, inputs), weights.row(first + 3, inputs));
                self.outputs(simd, [a, b, c, d], done);
                done += 4;
            }
        }
    }
}

impl<'a> FewRows<'a, '_> {
    /// Multiplies `OUTPUTS` rows of weights by all rows of `x`, a pair of them at a time: beyond the first pair,
    /// weights come from the cache.
    #[inline(always)]
    fn outputs<S: Simd, F: Format<'a>, const OUTPUTS: usize>(
        &mut self,
        simd: S,
        rows: [Row<'a, F>; OUTPUTS],
        at: usize,
    ) {
        for (x, y) in self.x.chunks(2).zip(self.y.chunks_mut(2)) {
            match x {
                [a, b] => write(y, at, products(simd, &rows, [F::input(a), F::input(b)])),
                x => write(y, at, products(simd, &rows, [F::input(&x[0])])),
            }
        }
    }
}

#[inline(always)]
fn write<const ROWS: usize, const OUTPUTS: usize>(y: &mut [&mut [f32]], at: usize, products: [[f32; ROWS]; OUTPUTS]) {
    for (i, products) in products.iter().enumerate() {
        for (y, product) in y.iter_mut().zip(products) {
            y[at + i] = *product;
        }
    }
}

/// The scalar products of rows of weights and rows of `x`. Each has a sum of its own: no row depends on another.
#[inline(always)]
fn products<'a, S: Simd, F: Format<'a>, const ROWS: usize, const OUTPUTS: usize>(
    simd: S,
    weights: &[Row<'a, F>; OUTPUTS],
    x: [&[F::Input]; ROWS],
) -> [[f32; ROWS]; OUTPUTS] {
    let blocks = weights[0].codes.len();
    assert!(weights.iter().all(|row| row.codes.len() == blocks && row.scales.len() >= blocks));
    let mut sums = [[simd.splat(0.0); ROWS]; OUTPUTS];
    let done = F::multiply_runs(simd, weights, x, &mut sums);
    for i in done..blocks {
        // Not a loop, so that sums stay in registers.
        multiply(simd, weights, x, i, 0, &mut sums);
        if OUTPUTS == 4 {
            multiply(simd, weights, x, i, 1, &mut sums);
            multiply(simd, weights, x, i, 2, &mut sums);
            multiply(simd, weights, x, i, 3, &mut sums);
        }
    }
    for (row, sums) in weights.iter().zip(&mut sums) {
        if let Some((codes, scales)) = &row.rest {
            F::multiply(simd, codes, scales, x, blocks, sums);
        }
    }
    let mut products = [[0.0; ROWS]; OUTPUTS];
    for (products, sums) in products.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        *products = simd.sum(*sums);
    }
    products
}

#[inline(always)]
fn multiply<'a, S: Simd, F: Format<'a>, const ROWS: usize, const OUTPUTS: usize>(
    simd: S,
    weights: &[Row<'a, F>; OUTPUTS],
    x: [&[F::Input]; ROWS],
    block: usize,
    output: usize,
    sums: &mut [[S::Lanes; ROWS]; OUTPUTS],
) {
    let row = &weights[output];
    // Where codes take longer to decode than to come, the CPU does not look ahead far enough by itself, either.
    if OUTPUTS > 1 || size_of::<F::Codes>() < BLOCK {
        let codes = (&raw const row.codes[block]).cast::<u8>();
        for line in (0..size_of::<F::Codes>()).step_by(64) {
            simd.prefetch(codes.wrapping_add(AHEAD + line));
        }
    }
    F::multiply(simd, &row.codes[block], &row.scales[block], x, block, &mut sums[output]);
}
