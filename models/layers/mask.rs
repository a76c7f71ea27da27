use std::ops::Range;

use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};

use super::Positions;
use crate::Backend;

/// The position of a column that holds no token.
pub const PAD: i32 = -1;

/// Which keys each query sees, derived from positions alone.
///
/// A query at position `p` sees the keys of its own sequence at positions up to `p`, and with a sliding window of `w`
/// only those above `p - w`. Padding has no position and is never seen, on whichever side it stands.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    queries: &'a Positions,
    keys: &'a Positions,
    /// Key columns that the cache no longer holds.
    dropped: usize,
    sliding_window: Option<usize>,
    /// Positions of a chunk, beyond whose beginning no query sees, where that makes a difference.
    chunk: Option<usize>,
}

/// What the queries of a block see of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Every query sees every key.
    All,
    /// Some see some.
    Some,
    /// None sees any.
    None,
}

impl<'a> Mask<'a> {
    /// A mask for queries `[batch, q]` over the keys `[batch, dropped + k]` whose first `dropped` columns are gone.
    pub fn new(queries: &'a Positions, keys: &'a Positions, dropped: usize, sliding_window: Option<usize>) -> Self {
        Self { queries, keys, dropped, sliding_window, chunk: None }
    }

    /// The same where a query sees no further back than to the last multiple of `chunk`.
    pub fn in_chunks(self, chunk: Option<usize>) -> Self {
        Self { chunk: chunk.filter(|chunk| self.keys.longest() > *chunk), ..self }
    }

    /// Whether more than order and a window decide what is seen, which not every kernel knows.
    pub fn has_chunks(&self) -> bool {
        self.chunk.is_some()
    }

    /// Sequences.
    pub fn batch(&self) -> usize {
        self.queries.batch()
    }

    /// Queries of each sequence.
    pub fn queries(&self) -> usize {
        self.queries.columns()
    }

    /// Keys of each sequence.
    pub fn keys(&self) -> usize {
        self.keys.columns() - self.dropped
    }

    /// Positions of the queries, `[batch, q]`.
    pub fn query_positions(&self) -> &'a Positions {
        self.queries
    }

    /// Positions of the keys, `[batch, dropped + k]`.
    pub fn key_positions(&self) -> &'a Positions {
        self.keys
    }

    /// Key columns that the cache no longer holds.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Positions that a query sees, itself included, if not all.
    pub fn sliding_window(&self) -> Option<usize> {
        self.sliding_window
    }

    /// The positions of query `q` and key `k` of sequence `row`.
    pub fn positions(&self, row: usize, q: usize, k: usize) -> (i32, i32) {
        (self.queries.row(row)[q], self.keys.row(row)[self.dropped + k])
    }

    /// Whether query `q` of sequence `row` sees key `k`.
    pub fn sees(&self, row: usize, q: usize, k: usize) -> bool {
        let (query, key) = self.positions(row, q, k);
        self.allows(query, key)
    }

    /// What the queries `q` see of the keys `k`, over all sequences; only blocks that a border crosses are looked at
    /// key by key.
    pub fn visibility(&self, q: Range<usize>, k: Range<usize>) -> Visibility {
        let rows: Vec<_> = (0..self.batch()).map(|row| self.row_visibility(row, q.clone(), k.clone())).collect();
        match rows.first() {
            Some(first) if rows.iter().all(|row| row == first) => *first,
            _ => Visibility::Some,
        }
    }

    /// What the queries `q` of sequence `row` see of its keys `k`.
    pub(crate) fn row_visibility(&self, row: usize, q: Range<usize>, k: Range<usize>) -> Visibility {
        let queries = &self.queries.row(row)[q];
        let keys = &self.keys.row(row)[self.dropped..][k];
        let ends = |positions: &[i32]| {
            let real = || positions.iter().copied().filter(|position| *position != PAD);
            Some((real().min()?, real().max()?))
        };
        let (Some((first_query, last_query)), Some((first_key, last_key))) = (ends(queries), ends(keys)) else {
            return Visibility::None;
        };
        if first_key > last_query || !self.near(first_query, last_key) {
            return Visibility::None;
        }
        let whole = !queries.contains(&PAD) && !keys.contains(&PAD);
        match whole && last_key <= first_query && self.near(last_query, first_key) {
            true => Visibility::All,
            false => Visibility::Some,
        }
    }

    /// What to add to scores, in f32: 0 where a key is seen, else `lowest`; `[batch, 1, q, k]`.
    ///
    /// `lowest` is finite, so that a query that sees nothing (padding) yields numbers and not NaN.
    pub fn additive<B: Backend>(
        &self,
        q: Range<usize>,
        k: Range<usize>,
        lowest: f32,
        device: &B::Device,
    ) -> Tensor<B, 4> {
        let shape = [self.batch(), 1, q.len(), k.len()];
        let mut values = Vec::with_capacity(shape.iter().product());
        for row in 0..self.batch() {
            let keys = &self.keys.row(row)[self.dropped..][k.clone()];
            for &query in &self.queries.row(row)[q.clone()] {
                values.extend(keys.iter().map(|&key| if self.allows(query, key) { 0.0 } else { lowest }));
            }
        }
        Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
    }

    fn allows(&self, query: i32, key: i32) -> bool {
        key != PAD && key <= query && self.near(query, key)
    }

    /// Whether the window of `query` reaches back to `key`, and its chunk too.
    fn near(&self, query: i32, key: i32) -> bool {
        let (query, key) = (i64::from(query), i64::from(key));
        self.sliding_window.is_none_or(|window| query - key < window as i64)
            && self.chunk.is_none_or(|chunk| key / chunk as i64 >= query / chunk as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_on_either_side_is_never_seen() {
        let positions = Positions::new(2, vec![PAD, PAD, 0, 1, 0, 1, PAD, PAD]);
        let mask = Mask::new(&positions, &positions, 0, None);
        let seen = |row, q| (0..4).filter(|&k| mask.sees(row, q, k)).collect::<Vec<_>>();
        assert_eq!(seen(0, 3), [2, 3]);
        assert_eq!(seen(1, 1), [0, 1]);
        assert_eq!((seen(0, 0), seen(1, 3)), (vec![], vec![]));
    }

    #[test]
    fn a_chunk_begins_at_its_multiples() {
        let keys = Positions::new(1, (0..7).collect());
        let queries = Positions::new(1, vec![2, 5, 6]);
        let mask = Mask::new(&queries, &keys, 0, None).in_chunks(Some(3));
        let seen = |q| (0..7).filter(|&k| mask.sees(0, q, k)).collect::<Vec<_>>();
        assert_eq!([seen(0), seen(1), seen(2)], [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!(mask.visibility(1..3, 0..3), Visibility::None);
        assert_eq!(mask.visibility(0..2, 1..6), Visibility::Some);
        assert_eq!(mask.visibility(1..2, 3..6), Visibility::All);
        assert!(!mask.in_chunks(Some(7)).has_chunks());
    }

    #[test]
    fn a_window_counts_the_query_itself() {
        let keys = Positions::new(1, (0..6).collect());
        let query = Positions::new(1, vec![5]);
        let mask = Mask::new(&query, &keys, 2, Some(3));
        assert_eq!((0..4).map(|k| mask.sees(0, 0, k)).collect::<Vec<_>>(), [false, true, true, true]);
        assert_eq!(mask.visibility(0..1, 0..1), Visibility::None);
        assert_eq!(mask.visibility(0..1, 0..2), Visibility::Some);
        assert_eq!(mask.visibility(0..1, 1..4), Visibility::All);
    }
}
