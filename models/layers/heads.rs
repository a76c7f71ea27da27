use burn::prelude::Tensor;

use super::{RmsNorm, Rope};
use crate::Backend;

/// Queries, keys and values of a pass, head by head, on their way to the KV cache.
#[derive(Debug, Clone)]
pub struct Heads<'a, B: Backend> {
    /// Queries `[batch, num_heads, seq, head_dim]`.
    pub q: Tensor<B, 4>,
    /// Keys `[batch, num_kv_heads, seq, head_dim]`.
    pub k: Tensor<B, 4>,
    /// Values `[batch, num_kv_heads, seq, head_dim]`.
    pub v: Tensor<B, 4>,
    /// What queries are normed with before they are rotated.
    pub q_norm: Option<&'a RmsNorm<B>>,
    /// What keys are normed with before they are rotated.
    pub k_norm: Option<&'a RmsNorm<B>>,
    /// Rotations of the pass's positions.
    pub rope: &'a Rope<B>,
}

impl<B: Backend> Heads<'_, B> {
    /// Queries and keys, normed and rotated.
    pub fn rotated(&self) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let turned = |x: &Tensor<B, 4>, norm: Option<&RmsNorm<B>>| {
            let x = norm.map_or(x.clone(), |norm| norm.forward(x.clone()));
            self.rope.rotate(x)
        };
        (turned(&self.q, self.q_norm), turned(&self.k, self.k_norm))
    }
}
