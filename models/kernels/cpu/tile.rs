use super::entry::Entry;
use super::simd::Simd;

/// What a tile of a product of many rows is made of.
#[derive(Clone, Copy)]
pub(super) struct Tile<E> {
    /// Decoded rows, `weights_stride` apart.
    pub(super) weights: *const E,
    pub(super) weights_stride: usize,
    /// The entries of a row.
    pub(super) depth: usize,
    /// `[depth, LANES]`
    pub(super) x: *const E,
    /// From one group of columns to the next.
    pub(super) group: usize,
    /// Groups of columns, 1 or 2.
    pub(super) width: usize,
    /// Rows of sums, `sums_stride` apart.
    pub(super) sums: *mut f32,
    pub(super) sums_stride: usize,
}

/// Adds the products of `OUTPUTS` rows of weights and one or two groups of columns to their sums.
///
/// # Safety
/// The pointers of `tile` point to as many entries as its fields say, nothing else refers to the sums, and `simd`
/// multiplies pairs if the entries are pairs.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, E: Entry, const OUTPUTS: usize>(simd: S, tile: Tile<E>) {
    // SAFETY: as the caller promises.
    unsafe {
        match tile.width {
            1 => multiply::<S, E, OUTPUTS, 1>(simd, tile),
            _ => multiply::<S, E, OUTPUTS, 2>(simd, tile),
        }
    }
}

/// # Safety
/// See [`tile`].
#[inline(always)]
unsafe fn multiply<S: Simd, E: Entry, const OUTPUTS: usize, const WIDTH: usize>(simd: S, tile: Tile<E>) {
    let mut sums = [[simd.splat(0.0); WIDTH]; OUTPUTS];
    // SAFETY: every index stays within what the caller promises, and an entry is as wide as an f32.
    unsafe {
        for (i, sums) in sums.iter_mut().enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = simd.load(tile.sums.add(i * tile.sums_stride + j * S::LANES));
            }
        }
        for k in 0..tile.depth {
            let mut x = [simd.splat(0.0); WIDTH];
            for (j, x) in x.iter_mut().enumerate() {
                *x = simd.load(tile.x.add(j * tile.group + k * S::LANES).cast());
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let weight = (*tile.weights.add(i * tile.weights_stride + k)).splat(simd);
                for (x, sum) in x.iter().zip(sums) {
                    *sum = E::fma(simd, weight, *x, *sum);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                simd.store(*sum, tile.sums.add(i * tile.sums_stride + j * S::LANES));
            }
        }
    }
}
