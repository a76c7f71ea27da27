mod rows;

use std::ops::Range;

use burn::prelude::Tensor;

use super::Heads;
use crate::Backend;

/// Columns by which a cache that was not sized ahead grows.
const STEP: usize = 256;

/// Keys and values that one layer has seen, `[batch, num_kv_heads, columns, head_dim]`.
///
/// The buffers are allocated ahead and written in place. A layer with a sliding window keeps only the columns that a
/// later query can still see; how many it has forgotten is told with what is alive.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    /// Of keys and of values, or one of what is both; none before the first pass.
    buffers: Vec<Tensor<B, 4>>,
    /// First column of the buffers that is alive.
    start: usize,
    /// Columns that are alive.
    len: usize,
    dropped: usize,
    sliding_window: Option<usize>,
    /// Columns to make room for from the beginning.
    reserve: usize,
}

/// What the queries of a pass may see: a run of the buffers' columns.
///
/// The buffers come whole, since a part of them is a copy on some backends.
#[derive(Debug, Clone)]
pub struct Alive<B: Backend> {
    /// The queries, ready: `[batch, num_heads, seq, head_dim]`.
    pub q: Tensor<B, 4>,
    /// Keys `[batch, num_kv_heads, capacity, head_dim]`.
    pub k: Tensor<B, 4>,
    /// Values `[batch, num_kv_heads, capacity, head_dim]`.
    pub v: Tensor<B, 4>,
    /// The columns of the buffers that are alive.
    pub columns: Range<usize>,
    /// Columns that came before these and are gone.
    pub dropped: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache with room for `reserve` columns, allocated when the first ones arrive.
    pub fn new(sliding_window: Option<usize>, reserve: usize) -> Self {
        Self { buffers: Vec::new(), start: 0, len: 0, dropped: 0, sliding_window, reserve }
    }

    /// Columns of all passes so far, forgotten ones included.
    pub fn total(&self) -> usize {
        self.dropped + self.len
    }

    /// Columns for which memory is allocated.
    pub fn capacity(&self) -> usize {
        self.buffers.first().map_or(0, |k| k.dims()[2])
    }

    /// Columns that a cache holds between passes when `columns` have been appended and `reserve` were expected.
    pub fn capacity_for(columns: usize, reserve: usize, sliding_window: Option<usize>) -> usize {
        let grown = if columns <= reserve { reserve } else { columns.next_multiple_of(STEP) };
        sliding_window.map_or(grown, |window| grown.min(window - 1 + STEP))
    }

    /// Norms and rotates the heads of one pass as they ask for it, and appends their keys and values.
    ///
    /// All sequences get as many columns; padding may stand at the left of the first pass only, since a window counts
    /// columns.
    pub fn append(&mut self, heads: Heads<'_, B>) -> Alive<B> {
        let like = [heads.k.clone(), heads.v.clone()];
        let end = self.make_room(&like);
        let (values, keys) = (self.buffers.pop(), self.buffers.pop());
        let (keys, values) = keys.zip(values).expect("buffers exist once there is room");
        // In place: between passes nobody else holds the buffers.
        let [q, keys, values] = match heads.rope.is_plain(heads.k.dims()[3]) {
            true => B::append_heads(heads, keys, values, end),
            false => {
                let (q, k) = heads.rotated();
                [q, B::append(keys, k, end), B::append(values, heads.v, end)]
            }
        };
        self.buffers = vec![keys.clone(), values.clone()];
        self.alive(q, [keys, values], &like)
    }

    /// The same of heads that are normed and rotated already.
    pub fn append_ready(&mut self, q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Alive<B> {
        let like = [k.clone(), v.clone()];
        let end = self.make_room(&like);
        let (values, keys) = (self.buffers.pop(), self.buffers.pop());
        let (keys, values) = keys.zip(values).expect("buffers exist once there is room");
        let (keys, values) = (B::append(keys, k, end), B::append(values, v, end));
        self.buffers = vec![keys.clone(), values.clone()];
        self.alive(q, [keys, values], &like)
    }

    /// Appends columns that are keys and values at once, `[batch, 1, seq, width]`; the queries pass through.
    pub fn append_shared(&mut self, q: Tensor<B, 4>, columns: Tensor<B, 4>) -> Alive<B> {
        let like = [columns.clone()];
        let end = self.make_room(&like);
        let buffer = self.buffers.pop().expect("a buffer exists once there is room");
        let buffer = B::append(buffer, columns, end);
        self.buffers = vec![buffer.clone()];
        self.alive(q, [buffer.clone(), buffer], &like)
    }

    /// What queries `[batch, num_heads, seq, head_dim]` of a layer without keys see of the first `columns` of this one,
    /// which forgets nothing; on the device of the queries.
    pub fn read(&self, q: Tensor<B, 4>, columns: usize) -> Alive<B> {
        let device = q.device();
        let there = |buffer: &Tensor<B, 4>| match buffer.device() == device {
            true => buffer.clone(),
            // By way of the host, as hidden states go.
            false => Tensor::from_data(buffer.clone().narrow(2, 0, columns).to_data(), (&device, buffer.dtype())),
        };
        let [k, v] = [self.buffers.first(), self.buffers.last()]
            .map(|buffer| there(buffer.expect("the layer that is read from comes first")));
        Alive { q, k, v, columns: 0..columns, dropped: 0 }
    }

    /// Makes room for columns like these; gives the first of them.
    fn make_room(&mut self, like: &[Tensor<B, 4>]) -> usize {
        self.forget();
        let needed = self.len + like[0].dims()[2];
        if self.start + needed > self.capacity() {
            self.move_to_buffers(like, Self::capacity_for(needed, self.reserve, self.sliding_window).max(needed));
        }
        self.start + self.len
    }

    /// What the queries see now that columns like these have been appended.
    fn alive(&mut self, q: Tensor<B, 4>, [k, v]: [Tensor<B, 4>; 2], like: &[Tensor<B, 4>]) -> Alive<B> {
        self.len += like[0].dims()[2];
        let alive = Alive { q, k, v, columns: self.start..self.start + self.len, dropped: self.dropped };
        self.shrink(like);
        alive
    }

    /// Gives back what a long pass needed beyond the window.
    fn shrink(&mut self, like: &[Tensor<B, 4>]) {
        let enough = Self::capacity_for(self.total(), self.reserve, self.sliding_window);
        if self.sliding_window.is_some() && self.capacity() > enough {
            self.forget();
            self.move_to_buffers(like, enough);
        }
    }

    /// Drops the columns that no later query can see: all but the last `window - 1`.
    fn forget(&mut self) {
        let keep = self.sliding_window.map_or(self.len, |window| self.len.min(window - 1));
        let gone = self.len - keep;
        self.start += gone;
        self.dropped += gone;
        self.len = keep;
    }

    /// Copies what is alive to the front of new buffers of `capacity` columns.
    fn move_to_buffers(&mut self, like: &[Tensor<B, 4>], capacity: usize) {
        let empty = |like: &Tensor<B, 4>| {
            let [batch, heads, _, head_dim] = like.dims();
            B::unwritten([batch, heads, capacity, head_dim], &like.device(), like.dtype())
        };
        let (start, len) = (self.start, self.len);
        let old = std::mem::take(&mut self.buffers);
        self.buffers = match len {
            0 => like.iter().map(empty).collect(),
            _ => old.into_iter().map(|old| B::append(empty(&old), old.narrow(2, start, len), 0)).collect(),
        };
        self.start = 0;
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    use crate::layers::{Positions, Rope, RopeParameters};

    /// `seq` columns whose numbers are their positions.
    fn columns(from: usize, seq: usize) -> Tensor<Flex, 4> {
        let values: Vec<f32> = (from..from + seq).flat_map(|i| [i as f32; 2]).collect();
        Tensor::from_data(TensorData::new(values, [1, 1, seq, 2]), &Default::default())
    }

    /// Rotations that leave everything as it is.
    fn still(seq: usize) -> Rope<Flex> {
        let positions = Positions::new(1, vec![0; seq]);
        Rope::new(&RopeParameters::default(), 2, &positions, 1, &Default::default())
    }

    /// After every pass the cache gives exactly the columns that a query can see, in order, and keeps no more memory
    /// than it says.
    #[test]
    fn any_passes_give_the_same_columns() {
        for window in [None, Some(1), Some(3), Some(300)] {
            for reserve in [0, 40, 2000] {
                let mut cache = KvCache::<Flex>::new(window, reserve);
                let mut total = 0;
                for seq in [5, 1, 1, 700, 1, 2, 290, 1, 260, 1] {
                    let (x, rope) = (columns(total, seq), still(seq));
                    let (q, k, v) = (x.clone(), x.clone(), x);
                    let alive = cache.append(Heads { q, k, v, q_norm: None, k_norm: None, rope: &rope });
                    let seen_before = window.map_or(total, |window| total.min(window - 1));
                    assert_eq!(alive.dropped, total - seen_before);
                    let want = columns(total - seen_before, seen_before + seq).into_data();
                    let seen = |x: Tensor<Flex, 4>| x.narrow(2, alive.columns.start, alive.columns.len()).into_data();
                    assert_eq!(seen(alive.k), want, "{window:?} {reserve} {total}");
                    assert_eq!(seen(alive.v), want);
                    total += seq;
                    assert_eq!(cache.total(), total);
                    assert!(cache.capacity() <= KvCache::<Flex>::capacity_for(total, reserve, window));
                    assert!(window.is_none_or(|window| cache.capacity() < window + 2 * STEP), "{window:?} {total}");
                }
            }
        }
    }
}
