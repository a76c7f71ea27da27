use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::{DType, TensorData};

use super::cache::Alive;
use super::norm::rms;
use super::{
    Alibi, AttentionInput, HeadNorm, Heads, Input, Linear, Mask, NormKind, Positions, QkNorm, Qkv, QueryGrowth,
    SelfAttentionConfig, Step, parameter,
};
use crate::Backend;

/// Causal grouped-query self-attention.
#[derive(Module, Debug)]
pub struct SelfAttention<B: Backend> {
    q_proj: Option<Linear<B>>,
    k_proj: Option<Linear<B>>,
    v_proj: Option<Linear<B>>,
    /// The three in one, in `groups` groups of heads.
    qkv_proj: Option<Linear<B>>,
    o_proj: Linear<B>,
    q_norm: Option<HeadNorm<B>>,
    k_norm: Option<HeadNorm<B>>,
    sinks: Option<Param<Tensor<B, 1>>>,
    gated: bool,
    norms_rotated: bool,
    shares_keys: bool,
    v_norm_eps: Option<f64>,
    groups: usize,
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
    clip_qkv: Option<f64>,
    sliding_window: Option<usize>,
    scale: f64,
    #[module(skip)]
    query_growth: Option<QueryGrowth>,
    softcap: Option<f64>,
    #[module(skip)]
    alibi: Option<Alibi>,
}

impl<B: Backend> SelfAttention<B> {
    /// Self-attention whose parameters are not yet loaded.
    pub fn new(config: &SelfAttentionConfig, device: &B::Device) -> Self {
        let inputs = config.hidden_size;
        let linear = |rows| Linear::stored(config.transposed, inputs, rows, config.qkv_bias, device);
        let rows = config.rows();
        let queries = if config.gated { 2 * rows[0] } else { rows[0] };
        let (apart, groups) = match config.qkv {
            Qkv::Apart => (true, 1),
            Qkv::Groups(groups) => (false, groups),
        };
        let qk_norm = config.qk_norm_eps.map(|eps| (QkNorm::Each(NormKind::Rms), eps)).or(config.qk_norm);
        let norm = |heads| qk_norm.map(|(norm, eps)| HeadNorm::new(norm, [heads, config.head_dim], eps, device));
        let [q_proj, k_proj, v_proj] = [queries, rows[1], rows[2]].map(|rows| apart.then(|| linear(rows)));
        let own = !config.shares_keys;
        Self {
            q_proj,
            k_proj: k_proj.filter(|_| own),
            v_proj: v_proj.filter(|_| own && !config.values_are_keys),
            v_norm_eps: config.v_norm_eps,
            qkv_proj: (!apart).then(|| linear(rows.iter().sum())),
            o_proj: Linear::stored(config.transposed, rows[0], inputs, config.o_bias, device),
            q_norm: norm(config.num_heads),
            k_norm: norm(config.num_kv_heads).filter(|_| own),
            sinks: config.sinks.then(|| parameter([config.num_heads], device)),
            shares_keys: config.shares_keys,
            gated: config.gated,
            norms_rotated: matches!(qk_norm, Some((QkNorm::EachRotated(_), _))),
            groups,
            num_heads: config.num_heads,
            num_kv_heads: config.num_kv_heads,
            head_dim: config.head_dim,
            clip_qkv: config.clip_qkv,
            sliding_window: config.sliding_window,
            scale: config.scale,
            query_growth: config.query_growth,
            softcap: config.softcap,
            alibi: config.alibi.clone(),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual` if there is one; this pass's keys and
    /// values go into the KV cache.
    pub fn forward(
        &self,
        input: Input<'_, B>,
        residual: impl Into<Option<Tensor<B, 3>>>,
        step: &mut Step<'_, B>,
    ) -> Tensor<B, 3> {
        let [batch, seq, _] = input.x.dims();
        let (alive, gate) = match self.shares_keys {
            true => (self.read(input, step), None),
            false => self.append(input, step),
        };
        let Alive { q, k, v, columns, dropped } = alive;
        let mask = &Mask::new(step.queries, step.keys, dropped, self.sliding_window);
        let (scale, softcap, alibi) = (self.scale, self.softcap, self.alibi.as_ref());
        let sinks = self.sinks.as_ref().map(Param::val);
        let out = step.attention.forward(AttentionInput { q, k, v, columns, mask, scale, sinks, softcap, alibi });
        let out = match gate {
            Some(gate) => out * sigmoid(gate),
            None => out,
        };

        let out = out.swap_dims(1, 2).reshape([batch, seq, self.num_heads * self.head_dim]);
        self.o_proj.onto(out, residual.into())
    }

    /// Queries, and what they see once this pass's keys and values are in the KV cache; and the queries' gates.
    fn append(&self, input: Input<'_, B>, step: &mut Step<'_, B>) -> (Alive<B>, Option<Tensor<B, 4>>) {
        let [q, k, v] = self.heads(input);
        let (q, gate) = self.queries(q);
        let q = self.grown(q, step.queries);
        let v = match self.v_norm_eps {
            Some(eps) => rms(v, eps),
            None => v,
        };
        let rope = step.rope;
        let alive = match (&self.q_norm, &self.k_norm) {
            (Some(q_norm), Some(k_norm)) if self.norms_rotated => {
                let (q, k) = (q_norm.forward(rope.rotate(q)), k_norm.forward(rope.rotate(k)));
                step.cache.columns().append(Heads { q, k, v, q_norm: None, k_norm: None, rope: &rope.still() })
            }
            (Some(q_norm), Some(k_norm)) => match (q_norm.fusible(), k_norm.fusible()) {
                (q_norm @ Some(_), k_norm @ Some(_)) => {
                    step.cache.columns().append(Heads { q, k, v, q_norm, k_norm, rope })
                }
                _ => {
                    let (q, k) = (q_norm.forward(q), k_norm.forward(k));
                    step.cache.columns().append(Heads { q, k, v, q_norm: None, k_norm: None, rope })
                }
            },
            _ => step.cache.columns().append(Heads { q, k, v, q_norm: None, k_norm: None, rope }),
        };
        (alive, gate)
    }

    /// Queries, and what they see of the keys and values of another layer.
    fn read(&self, input: Input<'_, B>, step: &mut Step<'_, B>) -> Alive<B> {
        let [batch, seq, _] = input.x.dims();
        let q =
            self.q_proj.as_ref().expect("queries are projected apart where keys are another layer's").forward(input);
        let q = q.reshape([batch, seq, self.num_heads, self.head_dim]).swap_dims(1, 2);
        let q = self.q_norm.as_ref().map_or(q.clone(), |norm| norm.forward(q));
        step.cache.columns().read(step.rope.rotate(q), step.keys.columns())
    }

    /// Queries and their gates, each `[batch, num_heads, seq, head_dim]`.
    fn queries(&self, both: Tensor<B, 4>) -> (Tensor<B, 4>, Option<Tensor<B, 4>>) {
        match self.gated {
            true => {
                let [q, gate] = [0, self.head_dim].map(|first| both.clone().narrow(3, first, self.head_dim));
                (q, Some(gate))
            }
            false => (both, None),
        }
    }

    /// Queries `[batch, num_heads, seq, head_dim]`, larger the further they stand.
    fn grown(&self, q: Tensor<B, 4>, positions: &Positions) -> Tensor<B, 4> {
        let grows = |growth: &QueryGrowth| positions.longest() > growth.beyond();
        let Some(growth) = self.query_growth.filter(grows) else { return q };
        let growth = TensorData::new(
            positions.as_slice().iter().map(|position| growth.at(*position)).collect(),
            [positions.batch(), 1, positions.columns(), 1],
        );
        let dtype = q.dtype();
        let growth = Tensor::<B, 4>::from_data(growth, (&q.device(), DType::F32)).cast(dtype);
        q * growth
    }

    /// Queries, keys and values `[batch, heads, seq, head_dim]`; queries twice as wide with gates behind them.
    fn heads(&self, input: Input<'_, B>) -> [Tensor<B, 4>; 3] {
        let [batch, seq, _] = input.x.dims();
        let (num_heads, num_kv_heads, head_dim) = (self.num_heads, self.num_kv_heads, self.head_dim);
        let clip = |x: Tensor<B, 3>| match self.clip_qkv {
            Some(most) => x.clamp(-most, most),
            None => x,
        };
        // [batch, seq, n · head_dim] → [batch, n, seq, head_dim]
        let heads = |x: Tensor<B, 3>, n| {
            let width = x.dims()[2] / n;
            clip(x).reshape([batch, seq, n, width]).swap_dims(1, 2)
        };
        match (&self.q_proj, &self.k_proj, &self.v_proj, &self.qkv_proj) {
            (Some(q), Some(k), Some(v), _) => {
                let [q, k, v] = B::linears(input, [q, k, v]);
                [heads(q, num_heads), heads(k, num_kv_heads), heads(v, num_kv_heads)]
            }
            (Some(q), Some(k), None, None) => {
                let [q, k] = B::linears(input, [q, k]);
                let k = heads(k, num_kv_heads);
                [heads(q, num_heads), k.clone(), k]
            }
            (.., Some(qkv)) => {
                let of_group = [num_heads, num_kv_heads, num_kv_heads].map(|heads| heads / self.groups);
                let all = clip(qkv.forward(input));
                let all = all.reshape([batch, seq, self.groups, of_group.iter().sum(), head_dim]);
                let mut first = 0;
                of_group.map(|count| {
                    let part = all.clone().narrow(3, first, count);
                    first += count;
                    part.reshape([batch, seq, self.groups * count, head_dim]).swap_dims(1, 2)
                })
            }
            _ => unreachable!("queries, keys and values are projected apart or in one"),
        }
    }
}
