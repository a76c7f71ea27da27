use burn::prelude::Tensor;

use super::recurrence::{Masks, Recurrence};
use crate::Backend;

/// Columns that are computed at once: few, since each pair of them has what is left in every row.
pub(super) const BLOCK: usize = 16;

impl<B: Backend> Recurrence<B> {
    /// What many columns do to a state `[batch, heads, rows, columns]` each of whose rows is forgotten at a rate of its
    /// own, and their answers `[batch, heads, seq, columns]` (Kimi Team 2025, arXiv 2510.26692).
    pub(super) fn rows_apart(self, mut state: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let seq = self.q.dims()[2];
        let mut answers = Vec::with_capacity(seq.div_ceil(BLOCK));
        for first in (0..seq).step_by(BLOCK) {
            let of = |x: &Tensor<B, 4>| x.clone().narrow(2, first, BLOCK.min(seq - first));
            let beta = self.beta.as_ref().map(of);
            let block = Self { q: of(&self.q), k: of(&self.k), v: of(&self.v), decay: of(&self.decay), beta };
            let (after, answer) = block.block_of_rows(state);
            state = after;
            answers.push(answer);
        }
        (state, Tensor::cat(answers, 2))
    }

    fn block_of_rows(self, state: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let Self { q, k, v, decay, beta } = self;
        let block = q.dims()[2];
        let masks = Masks::new(block, &q.device());
        let decay = decay.cumsum(2);
        // What is left in each row for column i of column j, `[batch, heads, i, j, rows]`: nothing where j is later.
        let later = masks.later.clone().swap_dims(2, 3).swap_dims(3, 4);
        let left = decay.clone().unsqueeze_dim::<5>(3) - decay.clone().unsqueeze_dim::<5>(2) + later;
        let left = left.exp() * k.clone().unsqueeze_dim::<5>(2);
        // [batch, heads, i, rows] → [batch, heads, i, j]
        let seen = |x: Tensor<B, 4>| (x.unsqueeze_dim::<5>(3) * left.clone()).sum_dim(4).squeeze_dim::<4>(4);
        let news = match beta {
            Some(beta) => {
                let learned = k.clone() * beta.clone();
                let inverse = masks.inverse(seen(learned.clone()).unsqueeze_dim::<5>(2)).squeeze_dim::<4>(2);
                let known = B::matmul(inverse.clone(), learned * decay.clone().exp());
                B::matmul(inverse, v * beta) - B::matmul(known, state.clone())
            }
            None => v,
        };
        let within = B::matmul(seen(q.clone()), news.clone());
        let answers = B::matmul(q * decay.clone().exp(), state.clone()) + within;
        let end = decay.clone().narrow(2, block - 1, 1);
        let k = (k * (end.clone() - decay).exp()).swap_dims(2, 3);
        (state * end.exp().swap_dims(2, 3) + B::matmul(k, news), answers)
    }
}
