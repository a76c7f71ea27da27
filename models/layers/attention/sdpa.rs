use std::ops::Range;

use burn::prelude::Tensor;
use burn::tensor::DType;

use super::{Attention, AttentionInput, AttentionShape, product};
use crate::Backend;
use crate::layers::Visibility;

/// Fused attention: works off blocks of queries and keys with a running softmax in f32, so that never more than one
/// block of scores exists; blocks that no query sees are skipped.
///
/// Online softmax: Milakov & Gimelshein 2018 (arXiv 1805.02867); blocks: Dao et al. 2022 (arXiv 2205.14135).
#[derive(Debug, Clone, Copy)]
pub struct Sdpa {
    /// Queries of a block.
    pub query_block: usize,
    /// Keys of a block.
    pub key_block: usize,
}

impl Default for Sdpa {
    fn default() -> Self {
        Self { query_block: 128, key_block: 256 }
    }
}

impl<B: Backend> Attention<B> for Sdpa {
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4> {
        let dtype = input.q.dtype();
        let blocks = blocks(input.q.dims()[2], self.query_block).map(|rows| self.rows(&input, rows));
        Tensor::cat(blocks.collect(), 2).cast(dtype)
    }

    fn scratch_len(&self, shape: &AttentionShape) -> usize {
        let (q, k) = (shape.q.min(self.query_block), shape.k.min(self.key_block));
        // Scores, their weights and what one becomes the other by; the mixture and its parts; a block widened.
        let mixed =
            shape.heads.saturating_mul(shape.head_dim).saturating_mul(shape.q.saturating_mul(2).saturating_add(3 * q));
        shape.scores(q, k).saturating_mul(3).saturating_add(mixed).saturating_add(shape.keys_and_values(k))
    }
}

impl Sdpa {
    /// The result for the queries `rows`, in f32: `[batch, num_heads, rows, head_dim]`.
    fn rows<B: Backend>(&self, input: &AttentionInput<'_, B>, rows: Range<usize>) -> Tensor<B, 4> {
        let [batch, heads, _, head_dim] = input.q.dims();
        let (kv_heads, keys) = (input.k.dims()[1], input.columns.len());
        let (device, n) = (input.q.device(), rows.len());
        let grouped = heads / kv_heads * n;
        let q = input.q.clone().narrow(2, rows.start, n).cast(DType::F32) * input.scale;
        let q = q.reshape([batch, kv_heads, grouped, head_dim]);

        let column = [batch, kv_heads, grouped, 1];
        // A sink is a score that has been seen already.
        let (mut max, mut sum) = match &input.sinks {
            Some(sinks) => {
                let sinks = sinks.clone().cast(DType::F32).reshape([1, heads, 1, 1]).expand([batch, heads, n, 1]);
                (sinks.reshape(column), Tensor::<B, 4>::ones(column, (&device, DType::F32)))
            }
            None => {
                let none = Tensor::<B, 4>::zeros(column, (&device, DType::F32));
                (Tensor::<B, 4>::full(column, f32::MIN, (&device, DType::F32)), none)
            }
        };
        let mut out = Tensor::<B, 4>::zeros([batch, kv_heads, grouped, head_dim], (&device, DType::F32));
        for block in blocks(keys, self.key_block) {
            let visibility = input.mask.visibility(rows.clone(), block.clone());
            if visibility == Visibility::None {
                continue;
            }
            let first = input.columns.start + block.start;
            let part = |x: &Tensor<B, 4>| x.clone().narrow(2, first, block.len()).cast(DType::F32);
            let mut scores = product(input.q.dtype(), q.clone(), part(&input.k).transpose()); // [batch, kv_heads, grouped, block]
            if input.softcap.is_some() || input.alibi.is_some() {
                let shaped = input.shaped(scores.reshape([batch, heads, n, block.len()]), block.clone());
                scores = shaped.reshape([batch, kv_heads, grouped, block.len()]);
            }
            if visibility == Visibility::Some {
                let mask = input.mask.additive::<B>(rows.clone(), block.clone(), f32::MIN, &device);
                let masked = scores.reshape([batch, heads, n, block.len()]) + mask;
                scores = masked.reshape([batch, kv_heads, grouped, block.len()]);
            }
            let new_max = max.clone().max_pair(scores.clone().max_dim(3));
            let rescale = (max - new_max.clone()).exp();
            let weights = (scores - new_max.clone()).exp();
            sum = sum * rescale.clone() + weights.clone().sum_dim(3);
            out = out * rescale + product(input.q.dtype(), weights, part(&input.v));
            max = new_max;
        }
        // A query of padding may have seen no block at all.
        (out / sum.clamp_min(f32::MIN_POSITIVE)).reshape([batch, heads, n, head_dim])
    }
}

fn blocks(len: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(block).map(move |start| start..(start + block).min(len))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::layers::{Alibi, Eager, Mask, PAD, Positions};

    /// Small blocks, so that the running softmax is rescaled and whole blocks are skipped: the same as all scores at
    /// once, for any lengths, padding on either side, windows and grouped heads.
    #[test]
    fn blocks_equal_the_definition() {
        let device = Default::default();
        let alibi = Alibi::new(6);
        let random = |shape| Tensor::<Flex, 4>::random(shape, Distribution::Normal(0.0, 2.0), &device);
        for queries in [1, 2, 7, 64, 129] {
            for past in [0, 1, 13] {
                for (left, right) in [(0, 0), (3, 0), (0, 2)] {
                    for (window, shape) in [(None, false), (Some(1), false), (Some(5), false), (None, true)] {
                        let sinks = shape.then(|| Tensor::random([6], Distribution::Normal(0.0, 2.0), &device));
                        let columns = past + queries;
                        let padded = |i: usize| i < left.min(columns - 1) || i + right.min(columns - 1) >= columns;
                        let row = (0..columns).map(|i| if padded(i) { PAD } else { i as i32 });
                        let plain = (0..columns).map(|i| i as i32);
                        let keys = Positions::new(2, row.chain(plain).collect());
                        let last = (0..2).flat_map(|row| keys.row(row)[past..].to_vec()).collect();
                        let last = Positions::new(2, last);
                        let mask = Mask::new(&last, &keys, 0, window);
                        let (q, k, v) =
                            (random([2, 6, queries, 8]), random([2, 2, columns, 8]), random([2, 2, columns, 8]));
                        let input = || AttentionInput {
                            q: q.clone(),
                            k: k.clone(),
                            v: v.clone(),
                            columns: 0..columns,
                            mask: &mask,
                            scale: 0.35,
                            sinks: sinks.clone(),
                            softcap: shape.then_some(1.5),
                            alibi: shape.then_some(&alibi),
                        };
                        let seen = |row, i| last.row(row)[i] != PAD;
                        let (want, got) =
                            (Eager.forward(input()), Sdpa { query_block: 4, key_block: 8 }.forward(input()));
                        // What padding attends to is nobody's business, as long as it is a number.
                        assert!(got.clone().into_data().iter::<f32>().all(f32::is_finite));
                        for row in 0..2 {
                            for i in (0..queries).filter(|i| seen(row, *i)) {
                                let at = |x: &Tensor<Flex, 4>| x.clone().narrow(0, row, 1).narrow(2, i, 1).into_data();
                                // Scores reach 20, where f32 ends at 2e-6; values are up to 10.
                                at(&got).assert_approx_eq::<f32>(&at(&want), Tolerance::absolute(1e-4));
                            }
                        }
                    }
                }
            }
        }
    }
}
