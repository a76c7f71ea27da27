use std::ops::Range;

use super::attention::Attention;
use super::numbers::NumbersMut;
use super::scores::{self, KEYS, Softmax};
use super::simd::Simd;
use super::tile::{Tile, tile};
use super::work::Work;
use crate::layers::Visibility;

/// Up to so many rows of scores, to turn keys for a product of matrices costs more than it saves.
const FEW: usize = 8;

/// Some queries of the heads that share a key head, one row each: `[queries, group]`.
pub(super) struct Block<'a, 'y> {
    pub(super) of: Attention<'a>,
    pub(super) sequence: usize,
    pub(super) kv_head: usize,
    pub(super) queries: Range<usize>,
    /// Of each query, `[group, head_dim]`.
    pub(super) y: Vec<NumbersMut<'y>>,
}

/// What a block computes with; rows of `width` numbers are filled up with zeros to whole registers.
struct Scratch {
    head_dim: usize,
    width: usize,
    rows: usize,
    /// `[rows, width]`
    q: Vec<f32>,
    /// `[KEYS, width]`, or turned: `[KEYS / lanes, width, lanes]`
    keys: Vec<f32>,
    /// `[width / lanes, KEYS, lanes]`
    values: Vec<f32>,
    /// `[rows, KEYS]`
    scores: Vec<f32>,
    /// `[rows, width]`
    out: Vec<f32>,
    softmax: Vec<Softmax>,
}

impl Work for Block<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let keys = self.of.k.shape[2];
        let mut scratch = self.scratch::<S>();
        for first in (0..keys).step_by(KEYS) {
            let block = first..keys.min(first + KEYS);
            let visibility = self.of.mask.row_visibility(self.sequence, self.queries.clone(), block.clone());
            if visibility != Visibility::None {
                self.add(simd, &mut scratch, block, visibility);
            }
        }
        let group = self.of.group();
        for (row, softmax) in scratch.softmax.iter().enumerate() {
            // A query of padding may have seen no block at all.
            let inverse = 1.0 / softmax.sum.max(f32::MIN_POSITIVE);
            let out = &mut scratch.out[row * scratch.width..][..scratch.head_dim];
            out.iter_mut().for_each(|out| *out *= inverse);
            self.y[row / group].narrow(row % group * scratch.head_dim, out);
        }
    }
}

impl Block<'_, '_> {
    #[inline(always)]
    fn scratch<S: Simd>(&self) -> Scratch {
        let (group, head_dim) = (self.of.group(), self.of.q.shape[3]);
        let (width, rows) = (head_dim.next_multiple_of(S::LANES), self.queries.len() * group);
        let zeros = |rows: usize, width: usize| vec![0.0; rows * width];
        let mut q = zeros(rows, width);
        for (row, q) in q.chunks_exact_mut(width).enumerate() {
            let (query, head) = (self.queries.start + row / group, self.kv_head * group + row % group);
            self.of.q.row([self.sequence, head, query], &mut q[..head_dim]);
            q.iter_mut().for_each(|q| *q *= self.of.scale);
        }
        let (keys, values) = (zeros(KEYS, width), zeros(KEYS, width));
        let (scores, out) = (zeros(rows, KEYS), zeros(rows, width));
        let softmax = |row| match self.of.sinks {
            Some(sinks) => Softmax::of(sinks[self.kv_head * group + row % group]),
            None => Softmax::default(),
        };
        Scratch { head_dim, width, rows, q, keys, values, scores, out, softmax: (0..rows).map(softmax).collect() }
    }

    /// Adds what the keys of a block contribute.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, scratch: &mut Scratch, block: Range<usize>, visibility: Visibility) {
        let Scratch { head_dim, width, rows, .. } = *scratch;
        let few = rows <= FEW;
        let mut row = vec![0.0; width];
        for (i, key) in block.clone().enumerate() {
            if few {
                self.of.k.row([self.sequence, self.kv_head, key], &mut scratch.keys[i * width..][..head_dim]);
            } else {
                self.of.k.row([self.sequence, self.kv_head, key], &mut row[..head_dim]);
                let to = &mut scratch.keys[i / S::LANES * S::LANES * width + i % S::LANES..];
                to.iter_mut().step_by(S::LANES).zip(&row).for_each(|(to, x)| *to = *x);
            }
            self.of.v.row([self.sequence, self.kv_head, key], &mut row[..head_dim]);
            for (j, row) in row.chunks_exact(S::LANES).enumerate() {
                scratch.values[(j * KEYS + i) * S::LANES..][..S::LANES].copy_from_slice(row);
            }
        }
        if few {
            scores::dots(simd, &scratch.q, &scratch.keys, width, &mut scratch.scores);
        } else {
            scratch.scores.fill(0.0);
            let of_scores = Matrices { weights: &scratch.q, stride: width, depth: head_dim, x: &scratch.keys };
            of_scores.multiply(simd, rows, KEYS, width * S::LANES, &mut scratch.scores);
        }
        let group = self.of.group();
        let seen = (visibility == Visibility::Some).then(|| self.of.mask.key_positions().row(self.sequence));
        let seen = seen.map(|keys| &keys[self.of.mask.dropped()..][block.clone()]);
        let window = self.of.mask.sliding_window().map_or(i32::MAX, |window| window.try_into().unwrap_or(i32::MAX));
        for (row, softmax) in scratch.softmax.iter_mut().enumerate() {
            let scores: &mut [f32; KEYS] = &mut scratch.scores.as_chunks_mut().0[row];
            if let Some(softcap) = self.of.softcap {
                scores::cap(scores, softcap);
            }
            scores::cut(scores, block.len());
            if let Some(keys) = seen {
                let query = self.of.mask.query_positions().row(self.sequence)[self.queries.start + row / group];
                scores::hide(scores, query, keys, window);
            }
            let rescale = softmax.add(scores);
            if rescale != 1.0 {
                scratch.out[row * width..][..width].iter_mut().for_each(|out| *out *= rescale);
            }
        }
        let mixture = Matrices { weights: &scratch.scores, stride: KEYS, depth: block.len(), x: &scratch.values };
        mixture.multiply(simd, rows, width, KEYS * S::LANES, &mut scratch.out);
    }
}

/// Two matrices, one of them turned in registers' widths.
struct Matrices<'a> {
    /// Rows of `depth` numbers, `stride` apart.
    weights: &'a [f32],
    stride: usize,
    depth: usize,
    /// `[columns / lanes, .., lanes]`
    x: &'a [f32],
}

impl Matrices<'_> {
    /// Adds the product to `sums`, `[rows, columns]`; the groups of columns are `group` numbers apart.
    #[inline(always)]
    fn multiply<S: Simd>(&self, simd: S, rows: usize, columns: usize, group: usize, sums: &mut [f32]) {
        assert!(self.depth <= self.stride && self.weights.len() >= rows * self.stride && sums.len() >= rows * columns);
        assert!(columns.is_multiple_of(S::LANES) && self.depth * S::LANES <= group);
        assert!(self.x.len() >= columns / S::LANES * group);
        for column in (0..columns).step_by(2 * S::LANES) {
            let mut row = 0;
            while row < rows {
                let tile_of = Tile {
                    weights: self.weights[row * self.stride..].as_ptr(),
                    weights_stride: self.stride,
                    depth: self.depth,
                    x: self.x[column / S::LANES * group..].as_ptr(),
                    group,
                    width: 2.min((columns - column) / S::LANES),
                    sums: sums[row * columns + column..].as_mut_ptr(),
                    sums_stride: columns,
                };
                // SAFETY: there are as many rows of weights and sums, and `width` groups of columns, as asserted.
                row += unsafe {
                    match rows - row {
                        rows if rows >= S::TILE => {
                            simd.tile(tile_of);
                            S::TILE
                        }
                        4.. => {
                            tile::<S, f32, 4>(simd, tile_of);
                            4
                        }
                        _ => {
                            tile::<S, f32, 1>(simd, tile_of);
                            1
                        }
                    }
                };
            }
        }
    }
}
