use burn::prelude::Shape;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensor::{array, empty, has_planes, readable};
use super::{attention_planes, attention_tiles};
use crate::layers::PAD;

/// What the kernels read of [`AttentionInput`](crate::layers::AttentionInput).
pub struct Input<R: CubeRuntime> {
    /// `[batch, num_heads, q, head_dim]`.
    pub q: CubeTensor<R>,
    /// `[batch, num_kv_heads, capacity, head_dim]`.
    pub k: CubeTensor<R>,
    /// `[batch, num_kv_heads, capacity, head_dim]`.
    pub v: CubeTensor<R>,
    /// `[batch · q]` in i32.
    pub query_positions: CubeTensor<R>,
    /// `[batch · (dropped + keys)]` in i32.
    pub key_positions: CubeTensor<R>,
    /// The first column of `k` and `v` that counts.
    pub start: usize,
    /// Columns that count.
    pub keys: usize,
    /// Key positions before that of the first column that counts.
    pub dropped: usize,
    /// Positions that a query sees.
    pub window: Option<usize>,
    /// What scores are multiplied by.
    pub scale: f64,
    /// What scaled scores are held below in size, smoothly.
    pub softcap: Option<f64>,
    /// A score of each head that counts in the softmax and has no value, `[num_heads]` in f32.
    pub sinks: Option<CubeTensor<R>>,
}

/// Lengths of one attention.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Sizes {
    /// Queries of a sequence.
    pub queries: usize,
    /// First column of keys and values.
    pub start: usize,
    /// Columns that count.
    pub keys: usize,
    /// Key positions before that of the first column.
    pub dropped: usize,
    /// Query heads that share a key head.
    pub group: usize,
}

/// Later than any position, and one more is still a number.
pub const LATEST: i32 = i32::MAX - 1;

/// Whether a query sees a key: see [`Mask`](crate::layers::Mask).
#[cube]
pub fn sees(query: i32, key: i32, window: i32) -> bool {
    key != PAD && key <= query && query - key < window
}

/// A scaled score, held below `softcap` in size where that is asked for.
#[cube]
pub fn capped(score: f32, softcap: f32, #[comptime] caps: bool) -> f32 {
    let mut result = score;
    if caps {
        result = softcap * f32::tanh(score / softcap);
    }
    result
}

/// Whether heads of this width are served.
pub fn suits(head_dim: usize) -> bool {
    attention_planes::width(head_dim).is_some()
}

/// Attention in one launch; the result lies token by token, `[batch, q, num_heads, head_dim]` in memory.
pub fn attention<R: CubeRuntime>(input: &Input<R>) -> Option<CubeTensor<R>> {
    let Input { q, k, v, .. } = input;
    let [batch, heads, queries, head_dim] = q.meta.shape().dims();
    let same = q.dtype == k.dtype && k.dtype == v.dtype && input.query_positions.dtype == DType::I32;
    let sinks = input.sinks.as_ref().is_none_or(|sinks| sinks.dtype == DType::F32 && readable(&[sinks]));
    if q.meta.num_elements() == 0
        || input.keys == 0
        || !same
        || !sinks
        || !readable(&[q, k, v])
        || !has_planes(&q.client)
    {
        return None;
    }
    let mut out = empty(q, Shape::from([batch, queries, heads, head_dim]));
    attention_tiles::launch(input, &out).or_else(|| attention_planes::launch(input, &out))?;
    out.meta.swap(1, 2);
    Some(out)
}

impl<R: CubeRuntime> Input<R> {
    /// Its lengths, for a kernel.
    pub fn sizes(&self) -> SizesLaunch<R> {
        let group = self.q.meta.shape()[1] / self.k.meta.shape()[1];
        SizesLaunch::new(self.q.meta.shape()[2], self.start, self.keys, self.dropped, group)
    }

    /// What its scores are held below, for a kernel; to be left alone where there is nothing.
    pub fn softcap(&self) -> f32 {
        self.softcap.map_or(1.0, |softcap| softcap as f32)
    }

    /// Its sinks, for a kernel; where there are none, something that is not to be read.
    pub fn sinks(&self) -> ArrayArg<R> {
        array(self.sinks.as_ref().unwrap_or(&self.query_positions))
    }

    /// Its window, for a kernel.
    pub fn window(&self) -> i32 {
        self.window.and_then(|window| window.try_into().ok()).unwrap_or(i32::MAX)
    }
}
