use std::ops::Range;

use burn::prelude::Tensor;
use burn::tensor::DType;

use super::{Attention, AttentionInput};
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

    fn scratch_len(&self, heads: usize, q: usize, k: usize) -> usize {
        3 * heads * q.min(self.query_block) * k.min(self.key_block)
    }
}

impl Sdpa {
    /// The result for the queries `rows`, in f32: `[batch, num_heads, rows, head_dim]`.
    fn rows<B: Backend>(&self, input: &AttentionInput<'_, B>, rows: Range<usize>) -> Tensor<B, 4> {
        let [batch, heads, _, head_dim] = input.q.dims();
        let [_, kv_heads, keys, _] = input.k.dims();
        let (device, n) = (input.q.device(), rows.len());
        let grouped = heads / kv_heads * n;
        let q = input.q.clone().narrow(2, rows.start, n).cast(DType::F32) * input.scale;
        let q = q.reshape([batch, kv_heads, grouped, head_dim]);

        let column = [batch, kv_heads, grouped, 1];
        let mut max = Tensor::<B, 4>::full(column, f32::MIN, (&device, DType::F32));
        let mut sum = Tensor::<B, 4>::zeros(column, (&device, DType::F32));
        let mut out = Tensor::<B, 4>::zeros([batch, kv_heads, grouped, head_dim], (&device, DType::F32));
        for block in blocks(keys, self.key_block) {
            let visibility = input.mask.visibility(rows.clone(), block.clone());
            if visibility == Visibility::None {
                continue;
            }
            let part = |x: &Tensor<B, 4>| x.clone().narrow(2, block.start, block.len()).cast(DType::F32);
            let mut scores = q.clone().matmul(part(&input.k).transpose()); // [batch, kv_heads, grouped, block]
            if visibility == Visibility::Some {
                let mask = input.mask.additive::<B>(rows.clone(), block.clone(), f32::MIN, &device);
                let masked = scores.reshape([batch, heads, n, block.len()]) + mask;
                scores = masked.reshape([batch, kv_heads, grouped, block.len()]);
            }
            let new_max = max.clone().max_pair(scores.clone().max_dim(3));
            let rescale = (max - new_max.clone()).exp();
            let weights = (scores - new_max.clone()).exp();
            sum = sum * rescale.clone() + weights.clone().sum_dim(3);
            out = out * rescale + weights.matmul(part(&input.v));
            max = new_max;
        }
        // A query of padding may have seen no block at all.
        (out / sum.clamp_min(f32::MIN_POSITIVE)).reshape([batch, heads, n, head_dim])
    }
}

fn blocks(len: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(block).map(move |start| start..(start + block).min(len))
}
