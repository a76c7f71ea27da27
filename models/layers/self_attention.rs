use burn::module::{Module, Param};
use burn::prelude::Tensor;

use super::cache::Alive;
use super::{AttentionInput, Heads, Input, Linear, Mask, RmsNorm, Step, parameter};
use crate::Backend;
use crate::config::DecoderConfig;

/// What distinguishes one family's self-attention from another's.
#[derive(Debug, Clone)]
pub struct SelfAttentionConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Bias on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output.
    pub o_bias: bool,
    /// Epsilon of an RMSNorm on every q and k head, if there is one.
    pub qk_norm_eps: Option<f64>,
    /// Epsilon of an RMSNorm over all q heads and one over all k heads, if there are such.
    pub whole_qk_norm_eps: Option<f64>,
    /// Positions that a query sees, itself included, if not all.
    pub sliding_window: Option<usize>,
    /// What scores are multiplied by.
    pub scale: f64,
    /// Whether each head has a score that counts in the softmax and has no value.
    pub sinks: bool,
}

impl SelfAttentionConfig {
    /// Attention as `config.json` describes it: biases by `attention_bias`, no norms, no window.
    pub fn new(config: &DecoderConfig) -> Self {
        Self {
            hidden_size: config.hidden_size,
            num_heads: config.num_attention_heads,
            num_kv_heads: config.num_kv_heads(),
            head_dim: config.head_dim(),
            qkv_bias: config.attention_bias,
            o_bias: config.attention_bias,
            qk_norm_eps: None,
            whole_qk_norm_eps: None,
            sliding_window: None,
            scale: (config.head_dim() as f64).powf(-0.5),
            sinks: false,
        }
    }
}

/// Causal grouped-query self-attention with rotary positions.
#[derive(Module, Debug)]
pub struct SelfAttention<B: Backend> {
    q_proj: Linear<B>,
    k_proj: Linear<B>,
    v_proj: Linear<B>,
    o_proj: Linear<B>,
    q_norm: Option<RmsNorm<B>>,
    k_norm: Option<RmsNorm<B>>,
    sinks: Option<Param<Tensor<B, 1>>>,
    /// Whether these norm all heads of a token together.
    norms_whole: bool,
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
    sliding_window: Option<usize>,
    scale: f64,
}

impl<B: Backend> SelfAttention<B> {
    /// Self-attention whose parameters are not yet loaded.
    pub fn new(config: &SelfAttentionConfig, device: &B::Device) -> Self {
        let (queries, keys) = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
        let norms_whole = config.whole_qk_norm_eps.is_some();
        let norm = |width: usize| {
            let width = if norms_whole { width } else { config.head_dim };
            config.whole_qk_norm_eps.or(config.qk_norm_eps).map(|eps| RmsNorm::new(width, eps, device))
        };
        Self {
            q_proj: Linear::new(config.hidden_size, queries, config.qkv_bias, device),
            k_proj: Linear::new(config.hidden_size, keys, config.qkv_bias, device),
            v_proj: Linear::new(config.hidden_size, keys, config.qkv_bias, device),
            o_proj: Linear::new(queries, config.hidden_size, config.o_bias, device),
            q_norm: norm(queries),
            k_norm: norm(keys),
            norms_whole,
            sinks: config.sinks.then(|| parameter([config.num_heads], device)),
            num_heads: config.num_heads,
            num_kv_heads: config.num_kv_heads,
            head_dim: config.head_dim,
            sliding_window: config.sliding_window,
            scale: config.scale,
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → what is to be added to `residual`, added, of the same shape; this
    /// pass's keys and values go into the KV cache.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let [batch, seq, _] = input.x.dims();
        // [batch, seq, n · head_dim] → [batch, n, seq, head_dim]
        let heads = |x: Tensor<B, 3>, n| x.reshape([batch, seq, n, self.head_dim]).swap_dims(1, 2);
        let [q, k, v] = B::linears(input, [&self.q_proj, &self.k_proj, &self.v_proj]);
        let (mut q, mut k) = (q, k);
        let (mut q_norm, mut k_norm) = (self.q_norm.as_ref(), self.k_norm.as_ref());
        if self.norms_whole
            && let Some((q_whole, k_whole)) = q_norm.take().zip(k_norm.take())
        {
            (q, k) = (q_whole.forward(q), k_whole.forward(k));
        }
        let (q, k, v) = (heads(q, self.num_heads), heads(k, self.num_kv_heads), heads(v, self.num_kv_heads));
        let heads = Heads { q, k, v, q_norm, k_norm, rope: step.rope };

        let Alive { q, k, v, columns, dropped } = step.cache.append(heads);
        let mask = Mask::new(step.queries, step.keys, dropped, self.sliding_window);
        let scale = self.scale;
        let sinks = self.sinks.as_ref().map(Param::val);
        let out = step.attention.forward(AttentionInput { q, k, v, columns, mask: &mask, scale, sinks });

        let out = out.swap_dims(1, 2).reshape([batch, seq, self.num_heads * self.head_dim]);
        B::linear_add(out, &self.o_proj, residual)
    }
}
