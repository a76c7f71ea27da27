//! Sequences that come and go, and columns that are taken back.

use burn::prelude::{Int, Tensor};
use burn::tensor::TensorData;

use super::KvCache;
use crate::Backend;

impl<B: Backend> KvCache<B> {
    /// Some sequences of several caches in one, with room for `reserve` columns; the longest has `total` of them.
    ///
    /// All end together: before the columns of those that have fewer stand zeros, which nobody may see.
    pub fn joined(parts: &[(&Self, &[usize])], total: usize, reserve: usize) -> Self {
        let sliding_window = parts.first().and_then(|(part, _)| part.sliding_window);
        let buffers = parts.iter().map(|(part, _)| part.buffers.len()).min().unwrap_or(0);
        if parts.iter().all(|(part, _)| part.total() == 0) {
            return Self::new(sliding_window, reserve);
        }
        let len = parts.iter().map(|(part, _)| part.seen(part.len).min(total)).max().unwrap_or(0);
        let mut this = Self { len, dropped: total - len, ..Self::new(sliding_window, reserve) };
        if buffers == 0 || len == 0 {
            return this;
        }
        let columns = |buffer: usize| {
            let of_parts = parts.iter().map(|(part, rows)| part.last_columns(buffer, rows, len));
            Tensor::cat(of_parts.collect(), 0)
        };
        this.buffers = (0..buffers).map(columns).collect();
        this.move_to_buffers(&[], Self::capacity_for(total, reserve, sliding_window).max(len));
        this
    }

    /// Whether the first `total` columns are enough to go on from: no window has forgotten what the next query sees.
    pub fn can_truncate(&self, total: usize) -> bool {
        // Layers that read another's columns have none.
        total == 0 || self.total() == 0 || (total <= self.total() && self.dropped + self.seen(total) <= total)
    }

    /// Goes back to the first `total` columns, where that [can be](Self::can_truncate).
    pub fn truncate(&mut self, total: usize) {
        if self.total() == 0 {
            return;
        }
        if total == 0 {
            (self.start, self.dropped) = (0, 0);
        }
        self.len = total - self.dropped;
    }

    /// The columns that are alive, buffer by buffer: `[batch, num_kv_heads, columns, head_dim]`.
    pub fn columns(&self) -> Vec<Tensor<B, 4>> {
        if self.len == 0 {
            return Vec::new();
        }
        self.buffers.iter().map(|buffer| buffer.clone().narrow(2, self.start, self.len)).collect()
    }

    /// An empty cache with such columns put into it, the last of `total`.
    pub fn with_columns(mut self, columns: Vec<Tensor<B, 4>>, total: usize) -> Self {
        let Some(first) = columns.first() else { return self };
        self.len = first.dims()[2];
        self.dropped = total - self.len;
        self.buffers = columns;
        if self.len > 0 {
            let capacity = Self::capacity_for(total, self.reserve, self.sliding_window).max(self.len);
            self.move_to_buffers(&[], capacity);
        }
        self
    }

    /// How many of the last `columns` a later query sees.
    fn seen(&self, columns: usize) -> usize {
        self.sliding_window.map_or(columns, |window| columns.min(window - 1))
    }

    /// The last `count` columns of some sequences, with zeros before them where there are not so many.
    fn last_columns(&self, buffer: usize, rows: &[usize], count: usize) -> Tensor<B, 4> {
        let len = self.len.min(count);
        let buffer = &self.buffers[buffer];
        let [batch, heads, _, head_dim] = buffer.dims();
        let mut columns = buffer.clone().narrow(2, self.start + self.len - len, len);
        if !rows.iter().copied().eq(0..batch) {
            let indices: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
            let indices = Tensor::<B, 1, Int>::from_data(TensorData::new(indices, [rows.len()]), &columns.device());
            columns = columns.select(0, indices);
        }
        if len == count {
            return columns;
        }
        let zeros = Tensor::zeros([rows.len(), heads, count - len, head_dim], (&columns.device(), columns.dtype()));
        Tensor::cat(vec![zeros, columns], 2)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::Flex;

    /// A cache that `seq` columns went through, whose numbers are `name` and their positions.
    fn cache(window: Option<usize>, name: f32, seq: usize) -> KvCache<Flex> {
        let mut cache = KvCache::new(window, 0);
        for column in 0..seq {
            let x = Tensor::from_data(TensorData::new(vec![name, column as f32], [1, 1, 1, 2]), &Default::default());
            cache.append_ready(x.clone(), x.clone(), x);
        }
        cache
    }

    fn numbers(cache: &KvCache<Flex>) -> Vec<f32> {
        cache.columns()[0].clone().into_data().into_vec().unwrap()
    }

    #[test]
    fn sequences_are_joined_at_their_ends() {
        let (long, short) = (cache(None, 1.0, 3), cache(None, 2.0, 1));
        let both = KvCache::joined(&[(&long, &[0]), (&short, &[0, 0])], 3, 10);
        assert_eq!((both.total(), both.capacity()), (3, 10));
        let short_row = [0.0, 0.0, 0.0, 0.0, 2.0, 0.0];
        assert_eq!(numbers(&both), [[1.0, 0.0, 1.0, 1.0, 1.0, 2.0], short_row, short_row].concat());
        let left = KvCache::joined(&[(&both, &[2])], 1, 10);
        assert_eq!((numbers(&left), left.total()), (vec![2.0, 0.0], 1));
    }

    #[test]
    fn a_window_joins_what_it_sees() {
        let (long, short) = (cache(Some(3), 1.0, 9), cache(Some(3), 2.0, 1));
        let both = KvCache::joined(&[(&long, &[0]), (&short, &[0])], 9, 20);
        assert_eq!((both.total(), numbers(&both)), (9, vec![1.0, 7.0, 1.0, 8.0, 0.0, 0.0, 2.0, 0.0]));
    }

    #[test]
    fn columns_are_taken_back_while_they_are_there() {
        let mut all = cache(None, 1.0, 5);
        assert!(all.can_truncate(2) && !all.can_truncate(6));
        all.truncate(2);
        assert_eq!((numbers(&all), all.total()), (vec![1.0, 0.0, 1.0, 1.0], 2));
        let mut window = cache(Some(3), 1.0, 9);
        assert!(window.can_truncate(9) && !window.can_truncate(7) && window.can_truncate(0));
        window.truncate(0);
        assert!(window.total() == 0 && window.columns().is_empty());
    }
}
