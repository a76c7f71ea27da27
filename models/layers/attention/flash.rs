use burn::prelude::Tensor;

use super::{Attention, AttentionInput, AttentionShape, Sdpa};
use crate::Backend;

/// The backend's own fused kernel, which keeps scores in registers and masks on the device; [`Sdpa`] where it has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flash;

impl<B: Backend> Attention<B> for Flash {
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4> {
        B::attend(input)
    }

    fn scratch_len(&self, shape: &AttentionShape) -> usize {
        match B::fuses_attention(shape.head_dim) && !shape.shapes_scores {
            // Positions of queries and keys; there are at least as many heads as sequences.
            true => shape.kv_heads.saturating_mul(shape.q.saturating_add(shape.k)),
            false => Attention::<B>::scratch_len(&Sdpa::default(), shape),
        }
    }
}
