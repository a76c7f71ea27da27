use cubecl::prelude::*;

use super::attention::Sizes;
use super::attention_tiles::PLANES;
use super::mma::{COLUMNS, Pair, TILE, nought};

/// The softmax of a tile so far, each unit's share of it: rows `i` and `i + 8` for unit `4 · i + j`.
///
/// Online softmax: Milakov & Gimelshein 2018 (arXiv 1805.02867).
#[derive(CubeType)]
pub struct Running {
    /// The highest scores of the rows.
    top: Array<f32>,
    /// The sums of this unit's weights.
    sum: Array<f32>,
    /// The mixtures of values, eight columns each.
    pub mixed: Sequence<Array<Pair<f32>>>,
}

#[cube]
impl Running {
    /// Nothing has been seen.
    pub fn new(#[comptime] head_dim: usize) -> Running {
        let mut top = Array::<f32>::new(2usize);
        let mut sum = Array::<f32>::new(2usize);
        #[unroll]
        for r in 0..2usize {
            top[r] = f32::min_value();
            sum[r] = 0.0f32;
        }
        let mut mixed = Sequence::<Array<Pair<f32>>>::new();
        #[unroll]
        for _ in 0..comptime!(head_dim / COLUMNS) {
            mixed.push(nought());
        }
        Running { top, sum, mixed }
    }

    /// Adds a score that has no value to the `r`th row, of which nothing has been seen.
    pub fn see(&mut self, #[comptime] r: usize, score: f32) {
        self.top[r] = score;
        let j = UNIT_POS_X % 4;
        self.sum[r] = select(j == 0, 1.0f32, 0.0f32);
    }

    /// Turns scores into weights, and rescales what has been mixed for them.
    pub fn weigh(&mut self, scores: &mut Sequence<Array<Pair<f32>>>) {
        let lowest = f32::min_value();
        #[unroll]
        for r in 0..2usize {
            let mut highest = self.top[r];
            #[unroll]
            for b in 0..comptime!(scores.len()) {
                let score = scores.index(b)[r];
                highest = max(highest, max(score[0], score[1]));
            }
            // The units of a row hold its scores together.
            highest = max(highest, plane_shuffle_xor(highest, 1));
            highest = max(highest, plane_shuffle_xor(highest, 2));
            let rescale = f32::exp(self.top[r] - highest);
            self.top[r] = highest;
            self.sum[r] *= rescale;
            #[unroll]
            for n in 0..comptime!(self.mixed.len()) {
                let part = self.mixed.index_mut(n);
                part[r] = part[r] * Pair::new(rescale);
            }
            #[unroll]
            for b in 0..comptime!(scores.len()) {
                let part = scores.index_mut(b);
                let score = part[r];
                let mut weights = Pair::<f32>::empty();
                #[unroll]
                for c in 0..2usize {
                    let weight = select(score[c] <= lowest, 0.0f32, f32::exp(score[c] - highest));
                    weights[c] = weight;
                    self.sum[r] += weight;
                }
                part[r] = weights;
            }
        }
    }

    /// Puts the planes' shares together and writes the rows from `first` on, a head of `vectors` vectors each; where the
    /// keys are `split`, only this cube's share of them, to be put together by [`join`](super::attention_split::join).
    #[allow(clippy::too_many_arguments, reason = "kernels have no tuples")]
    pub fn combine<X: Float, N: Size>(
        &self,
        out: &mut Array<Vector<X, N>>,      // [batch, queries, heads, head_dim]
        shares: &mut Array<Vector<f32, N>>, // [splits, batch, queries, heads, head_dim]
        marks: &mut Array<f32>,             // [splits, batch, queries, heads, 2]
        first: usize,
        rows: usize,
        split: usize,
        sizes: &Sizes,
        #[comptime] vectors: usize,
        #[comptime] is_split: bool,
    ) {
        let width = N::value().comptime();
        let (plane, i, j) = (UNIT_POS_Y as usize, UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
        let mut tops = SharedMemory::<f32>::new(PLANES * TILE);
        let mut sums = SharedMemory::<f32>::new(PLANES * TILE);
        // A round for each eight vectors of the head: [planes, rows, vectors].
        let mut mixed = SharedMemory::<Vector<f32, N>>::new(PLANES * TILE * COLUMNS);
        #[unroll]
        for r in 0..2usize {
            let pair = self.sum[r] + plane_shuffle_xor(self.sum[r], 1);
            let sum = pair + plane_shuffle_xor(pair, 2);
            if j == 0 {
                tops[plane * TILE + i + 8 * r] = self.top[r];
                sums[plane * TILE + i + 8 * r] = sum;
            }
        }
        #[unroll]
        for part in 0..comptime!(vectors / COLUMNS) {
            #[unroll]
            for r in 0..2usize {
                if first + i + 8 * r < rows {
                    #[unroll]
                    for c in 0..2usize {
                        let mut vector = Vector::<f32, N>::empty();
                        #[unroll]
                        for n in 0..width {
                            let numbers = self.mixed.index(part * width + n)[r];
                            vector[n] = numbers[c];
                        }
                        mixed[(plane * TILE + i + 8 * r) * COLUMNS + 2 * j + c] = vector;
                    }
                }
            }
            sync_cube();
            let (row, column) = (UNIT_POS as usize / COLUMNS, UNIT_POS as usize % COLUMNS);
            if row < TILE && first + row < rows {
                let mut top = f32::min_value();
                #[unroll]
                for p in 0..PLANES {
                    top = max(top, tops[p * TILE + row]);
                }
                let mut sum = 0.0f32;
                let mut mixture = Vector::<f32, N>::new(0.0f32);
                #[unroll]
                for p in 0..PLANES {
                    let weight = f32::exp(tops[p * TILE + row] - top);
                    sum += sums[p * TILE + row] * weight;
                    mixture += mixed[(p * TILE + row) * COLUMNS + column] * Vector::new(weight);
                }
                let (query, head) = ((first + row) / sizes.group, (first + row) % sizes.group);
                let heads = CUBE_COUNT_Y as usize * sizes.group;
                let at =
                    (CUBE_POS_Z as usize * sizes.queries + query) * heads + CUBE_POS_Y as usize * sizes.group + head;
                if is_split {
                    let at = split * CUBE_COUNT_Z as usize * sizes.queries * heads + at;
                    shares[at * vectors + part * COLUMNS + column] = mixture;
                    if comptime!(part == 0) && column == 0 {
                        marks[2 * at] = top;
                        marks[2 * at + 1] = sum;
                    }
                } else {
                    // A query of padding has seen nothing: 0 / tiny.
                    let share = mixture * Vector::new(1.0f32 / max(sum, f32::MIN_POSITIVE));
                    out[at * vectors + part * COLUMNS + column] = Vector::cast_from(share);
                }
            }
            sync_cube();
        }
    }
}
