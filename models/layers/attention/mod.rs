//! Attention implementations, exchangeable behind one trait.

mod eager;
mod sdpa;

use std::fmt::Debug;

use burn::prelude::Tensor;

pub use eager::Eager;
pub use sdpa::Sdpa;

use super::Mask;
use crate::Backend;

/// An attention implementation: `softmax(scale · q·kᵀ + mask) · v`.
///
/// Implement it to try a variant; the engine takes any `Box<dyn Attention<B>>`.
pub trait Attention<B: Backend>: Debug + Send + Sync {
    /// Mixes the values for every query; the result is `[batch, num_heads, q, head_dim]` in the dtype of `q`.
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4>;

    /// How many f32 numbers [`forward`](Self::forward) holds beside its inputs and its result, for `heads` query heads
    /// of all sequences, `q` queries and `k` keys each; the planner makes room for them. By default three times all
    /// scores.
    fn scratch_len(&self, heads: usize, q: usize, k: usize) -> usize {
        heads.saturating_mul(q).saturating_mul(k).saturating_mul(3)
    }
}

/// What attention is computed of.
///
/// Query head `h` reads key and value head `h / (num_heads / num_kv_heads)`.
#[derive(Debug)]
#[non_exhaustive]
pub struct AttentionInput<'a, B: Backend> {
    /// Queries `[batch, num_heads, q, head_dim]`.
    pub q: Tensor<B, 4>,
    /// Keys `[batch, num_kv_heads, k, head_dim]`, the KV cache's included.
    pub k: Tensor<B, 4>,
    /// Values `[batch, num_kv_heads, k, head_dim]`.
    pub v: Tensor<B, 4>,
    /// Which keys each query sees.
    pub mask: &'a Mask<'a>,
    /// What scores are multiplied by.
    pub scale: f64,
}

impl<B: Backend> AttentionInput<'_, B> {
    /// The queries with those that share a key head side by side: `[batch, num_kv_heads, group · q, head_dim]`.
    pub fn grouped_queries(&self) -> Tensor<B, 4> {
        let [batch, heads, q, head_dim] = self.q.dims();
        let kv_heads = self.k.dims()[1];
        self.q.clone().reshape([batch, kv_heads, heads / kv_heads * q, head_dim])
    }
}

/// The names of the built-in implementations; `auto` is the one that suits most.
pub const NAMES: [&str; 3] = ["auto", "eager", "sdpa"];

/// A built-in implementation by its name, one of [`NAMES`].
pub fn by_name<B: Backend>(name: &str) -> Option<Box<dyn Attention<B>>> {
    match name {
        "eager" => Some(Box::new(Eager)),
        "auto" | "sdpa" => Some(Box::new(Sdpa::default())),
        _ => None,
    }
}
