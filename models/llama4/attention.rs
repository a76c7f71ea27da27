use burn::module::Module;
use burn::prelude::Tensor;
use burn::tensor::{DType, TensorData};

use crate::Backend;
use crate::layers::{Alive, AttentionInput, Input, Linear, Mask, Positions, SelfAttentionConfig, Step};

/// Llama 4's attention: heads are turned and then normed without a weight, or know no positions and sharpen their scores
/// with them.
#[derive(Module, Debug)]
pub struct Llama4Attention<B: Backend> {
    q_proj: Linear<B>,
    k_proj: Linear<B>,
    v_proj: Linear<B>,
    o_proj: Linear<B>,
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
    scale: f64,
    turns: bool,
    chunk: Option<usize>,
    qk_norm_eps: Option<f64>,
    #[module(skip)]
    temperature: Option<Temperature>,
}

/// How scores sharpen with the position of the query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Temperature {
    pub(super) floor_scale: f64,
    pub(super) attn_scale: f64,
}

impl<B: Backend> Llama4Attention<B> {
    pub(super) fn new(
        config: &SelfAttentionConfig,
        (turns, chunk): (bool, Option<usize>),
        qk_norm_eps: Option<f64>,
        temperature: Option<Temperature>,
        device: &B::Device,
    ) -> Self {
        let (queries, keys) = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
        let linear = |inputs, outputs, bias| Linear::new(inputs, outputs, bias, device);
        Self {
            q_proj: linear(config.hidden_size, queries, config.qkv_bias),
            k_proj: linear(config.hidden_size, keys, config.qkv_bias),
            v_proj: linear(config.hidden_size, keys, config.qkv_bias),
            o_proj: linear(queries, config.hidden_size, config.o_bias),
            num_heads: config.num_heads,
            num_kv_heads: config.num_kv_heads,
            head_dim: config.head_dim,
            scale: config.scale,
            turns,
            chunk,
            qk_norm_eps,
            temperature,
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → what is to be added to `residual`, added, of the same shape; this
    /// pass's keys and values go into the KV cache.
    pub(super) fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let [batch, seq, _] = input.x.dims();
        // [batch, seq, n · head_dim] → [batch, n, seq, head_dim]
        let heads = |x: Tensor<B, 3>, n| x.reshape([batch, seq, n, self.head_dim]).swap_dims(1, 2);
        let [q, k, v] = B::linears(input, [&self.q_proj, &self.k_proj, &self.v_proj]);
        let (q, k, v) = (heads(q, self.num_heads), heads(k, self.num_kv_heads), heads(v, self.num_kv_heads));
        let ready = |x: Tensor<B, 4>| {
            let x = if self.turns { step.rope.rotate(x) } else { x };
            self.qk_norm_eps.map_or(x.clone(), |eps| normed(x, eps))
        };
        let (q, k) = (ready(q), ready(k));
        let q = match &self.temperature {
            Some(temperature) => {
                (q.clone().cast(DType::F32) * temperature.scales(step.queries, &q.device())).cast(q.dtype())
            }
            None => q,
        };

        let Alive { q, k, v, columns, dropped } = step.cache.columns().append_ready(q, k, v);
        let mask = Mask::new(step.queries, step.keys, dropped, None).in_chunks(self.chunk);
        let scale = self.scale;
        let out = step.attention.forward(AttentionInput {
            q,
            k,
            v,
            columns,
            mask: &mask,
            scale,
            sinks: None,
            softcap: None,
            alibi: None,
        });

        let out = out.swap_dims(1, 2).reshape([batch, seq, self.num_heads * self.head_dim]);
        B::linear_add(out, &self.o_proj, residual)
    }
}

/// `x / sqrt(mean(x²) + eps)` over the last dimension.
fn normed<B: Backend>(x: Tensor<B, 4>, eps: f64) -> Tensor<B, 4> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = x.clone().square().mean_dim(3);
    (x / (mean_square + eps).sqrt()).cast(dtype)
}

impl Temperature {
    /// What queries at these positions are multiplied by, `[batch, 1, seq, 1]` in f32.
    fn scales<B: Backend>(&self, queries: &Positions, device: &B::Device) -> Tensor<B, 4> {
        let scale = |position: &i32| {
            let steps = ((f64::from((*position).max(0)) + 1.0) / self.floor_scale).floor();
            (steps.ln_1p() * self.attn_scale + 1.0) as f32
        };
        let scales: Vec<f32> = queries.as_slice().iter().map(scale).collect();
        let shape = [queries.batch(), 1, queries.columns(), 1];
        Tensor::from_data(TensorData::new(scales, shape), (device, DType::F32))
    }
}
