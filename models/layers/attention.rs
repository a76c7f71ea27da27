//! Attention implementations, exchangeable behind one trait.

mod alibi;
mod eager;
mod flash;
mod sdpa;

use std::fmt::Debug;
use std::ops::Range;

use burn::prelude::Tensor;
use burn::tensor::DType;

pub use alibi::Alibi;
pub use eager::Eager;
pub use flash::Flash;
pub use sdpa::Sdpa;

use super::Mask;
use crate::{Backend, Dims};

/// An attention implementation: `softmax(scale · q·kᵀ + mask) · v`.
///
/// Implement it to try a variant; the engine takes any `Box<dyn Attention<B>>`.
pub trait Attention<B: Backend>: Debug + Send + Sync {
    /// Mixes the values for every query; the result is `[batch, num_heads, q, head_dim]` in the dtype of `q`.
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4>;

    /// How many f32 numbers [`forward`](Self::forward) holds beside its inputs and its result; the planner makes room
    /// for them. By default three times all scores, and keys and values once more.
    fn scratch_len(&self, shape: &AttentionShape) -> usize {
        shape.scores(shape.q, shape.k).saturating_mul(3).saturating_add(shape.keys_and_values(shape.k))
    }
}

/// How much attention is asked for, over all sequences of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttentionShape {
    /// Query heads of all sequences.
    pub heads: usize,
    /// Key and value heads of all sequences.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Queries of each sequence.
    pub q: usize,
    /// Keys of each sequence.
    pub k: usize,
    /// Whether scores are more than scaled, capped, and masked by order and a window.
    pub shapes_scores: bool,
}

impl AttentionShape {
    /// The shape for `batch` sequences of a model of these sizes.
    pub fn new(dims: &Dims, batch: usize, q: usize, k: usize) -> Self {
        let heads = |n: usize| n.saturating_mul(batch);
        Self {
            heads: heads(dims.num_heads),
            kv_heads: heads(dims.num_kv_heads),
            head_dim: dims.head_dim,
            q,
            k,
            shapes_scores: dims.shapes_scores,
        }
    }

    /// Numbers in the scores of `q` queries and `k` keys.
    pub fn scores(&self, q: usize, k: usize) -> usize {
        self.heads.saturating_mul(q).saturating_mul(k)
    }

    /// Numbers in `k` keys and as many values.
    pub fn keys_and_values(&self, k: usize) -> usize {
        self.kv_heads.saturating_mul(2 * self.head_dim).saturating_mul(k)
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
    /// Keys as the KV cache holds them, `[batch, num_kv_heads, capacity, head_dim]`.
    pub k: Tensor<B, 4>,
    /// Values as the KV cache holds them, `[batch, num_kv_heads, capacity, head_dim]`.
    pub v: Tensor<B, 4>,
    /// The columns of `k` and `v` that count; what stands in the others is undefined.
    pub columns: Range<usize>,
    /// Which keys each query sees.
    pub mask: &'a Mask<'a>,
    /// What scores are multiplied by.
    pub scale: f64,
    /// A score of each head that counts in the softmax and has no value, `[num_heads]`.
    pub sinks: Option<Tensor<B, 1>>,
    /// What scaled scores are held below in size, smoothly.
    pub softcap: Option<f64>,
    /// How scores fall with the distance, if they do.
    pub alibi: Option<&'a Alibi>,
}

/// `a · b`, both in f32, in all of their bits if that is what they were.
fn product<B: Backend>(dtype: DType, a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 4> {
    if dtype == DType::F32 { B::matmul(a, b) } else { a.matmul(b) }
}

impl<B: Backend> AttentionInput<'_, B> {
    /// Whether scores are more than scaled, capped, and masked by order and a window, which not every kernel knows.
    pub fn shapes_scores(&self) -> bool {
        self.mask.has_chunks() || self.alibi.is_some()
    }

    /// Scaled scores `[batch, num_heads, q, k]` of the keys `k`, in f32, capped and lowered as is asked for.
    pub(super) fn shaped(&self, scores: Tensor<B, 4>, k: Range<usize>) -> Tensor<B, 4> {
        let scores = match self.softcap {
            Some(cap) => (scores / cap).tanh() * cap,
            None => scores,
        };
        match self.alibi {
            Some(alibi) => {
                let bias = alibi.bias::<B>(self.mask, k, &scores.device());
                scores + bias
            }
            None => scores,
        }
    }

    /// The keys that count, `[batch, num_kv_heads, k, head_dim]`.
    pub fn keys(&self) -> Tensor<B, 4> {
        self.k.clone().narrow(2, self.columns.start, self.columns.len())
    }

    /// The values that count, `[batch, num_kv_heads, k, head_dim]`.
    pub fn values(&self) -> Tensor<B, 4> {
        self.v.clone().narrow(2, self.columns.start, self.columns.len())
    }

    /// The queries with those that share a key head side by side: `[batch, num_kv_heads, group · q, head_dim]`.
    pub fn grouped_queries(&self) -> Tensor<B, 4> {
        let [batch, heads, q, head_dim] = self.q.dims();
        let kv_heads = self.k.dims()[1];
        self.q.clone().reshape([batch, kv_heads, heads / kv_heads * q, head_dim])
    }
}

/// The names of the built-in implementations; `auto` is the one that suits most.
pub const NAMES: [&str; 4] = ["auto", "eager", "sdpa", "flash"];

/// A built-in implementation by its name, one of [`NAMES`].
pub fn by_name<B: Backend>(name: &str) -> Option<Box<dyn Attention<B>>> {
    match name {
        "eager" => Some(Box::new(Eager)),
        "sdpa" => Some(Box::new(Sdpa::default())),
        "auto" | "flash" => Some(Box::new(Flash)),
        _ => None,
    }
}
