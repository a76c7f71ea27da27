use burn::module::Module;
use burn::prelude::Tensor;
use burn::tensor::DType;

use super::cache::Alive;
use super::{AttentionInput, Input, Linear, Mask, RmsNorm, Rope, Step};
use crate::Backend;

/// What distinguishes one multi-head latent attention from another.
#[derive(Debug, Clone)]
pub struct LatentConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Width of compressed queries, if they are compressed.
    pub q_lora_rank: Option<usize>,
    /// Width of compressed keys and values.
    pub kv_lora_rank: usize,
    /// Width of the part of a head that positions turn.
    pub qk_rope_head_dim: usize,
    /// Width of the other part.
    pub qk_nope_head_dim: usize,
    /// Width of a value.
    pub v_head_dim: usize,
    /// Bias on what compresses, and on the output.
    pub bias: bool,
    /// What scores are multiplied by.
    pub scale: f64,
}

impl LatentConfig {
    /// Numbers that the KV cache holds of one position.
    pub fn cached(&self) -> usize {
        self.kv_lora_rank.saturating_add(self.qk_rope_head_dim)
    }
}

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values are kept compressed, and what would
/// expand them is applied to queries and to the mixture instead.
///
/// To the attention implementation it looks like many query heads that share one key head, whose keys are their values
/// too.
#[derive(Module, Debug)]
pub struct LatentAttention<B: Backend> {
    q_proj: Option<Linear<B>>,
    q_a_proj: Option<Linear<B>>,
    q_a_layernorm: Option<RmsNorm<B>>,
    q_b_proj: Option<Linear<B>>,
    kv_a_proj_with_mqa: Linear<B>,
    kv_a_layernorm: RmsNorm<B>,
    kv_b_proj: Linear<B>,
    o_proj: Linear<B>,
    #[module(skip)]
    config: LatentConfig,
}

/// The norms of what is compressed have this epsilon, whatever the config says.
const EPS: f64 = 1e-6;

impl<B: Backend> LatentAttention<B> {
    /// Attention whose parameters are not yet loaded.
    pub fn new(config: &LatentConfig, device: &B::Device) -> Self {
        let (hidden, rank, bias) = (config.hidden_size, config.kv_lora_rank, config.bias);
        let queries = config.num_heads * (config.qk_nope_head_dim + config.qk_rope_head_dim);
        let expanded = config.num_heads * (config.qk_nope_head_dim + config.v_head_dim);
        let linear = |inputs, outputs, bias| Linear::new(inputs, outputs, bias, device);
        let q_rank = config.q_lora_rank;
        Self {
            q_proj: q_rank.is_none().then(|| linear(hidden, queries, false)),
            q_a_proj: q_rank.map(|q_rank| linear(hidden, q_rank, bias)),
            q_a_layernorm: q_rank.map(|q_rank| RmsNorm::new(q_rank, EPS, device)),
            q_b_proj: q_rank.map(|q_rank| linear(q_rank, queries, false)),
            kv_a_proj_with_mqa: linear(hidden, config.cached(), bias),
            kv_a_layernorm: RmsNorm::new(rank, EPS, device),
            kv_b_proj: linear(rank, expanded, false),
            o_proj: linear(config.num_heads * config.v_head_dim, hidden, bias),
            config: config.clone(),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual` if there is one; what this pass's keys and
    /// values are made of goes into the KV cache.
    pub fn forward(
        &self,
        input: Input<'_, B>,
        residual: impl Into<Option<Tensor<B, 3>>>,
        step: &mut Step<'_, B>,
    ) -> Tensor<B, 3> {
        let LatentConfig { num_heads, kv_lora_rank: rank, v_head_dim, scale, .. } = self.config;
        let [batch, seq, _] = input.x.dims();
        let x = input.normed();
        let [to_keys, to_values] = self.expansion(x.dtype());
        let q = self.queries(x.clone(), to_keys, step.rope); // [batch, heads, seq, rank + rope]
        let compressed = self.compressed(x, step.rope); // [batch, 1, seq, rank + rope]

        let Alive { q, k, v, columns, dropped } = step.cache.columns().append_shared(q, compressed);
        let mask = Mask::new(step.queries, step.keys, dropped, None);
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

        // [batch, heads, seq, rank] · [1, heads, rank, v_head_dim]
        let out = B::matmul(out.narrow(3, 0, rank), to_values.swap_dims(2, 3));
        let out = out.swap_dims(1, 2).reshape([batch, seq, num_heads * v_head_dim]);
        self.o_proj.onto(out, residual.into())
    }

    /// What would make keys and values of what is compressed, head by head: `[1, heads, qk_nope_head_dim, rank]` and
    /// `[1, heads, v_head_dim, rank]`.
    fn expansion(&self, dtype: DType) -> [Tensor<B, 4>; 2] {
        let LatentConfig { num_heads, kv_lora_rank: rank, qk_nope_head_dim: nope, v_head_dim, .. } = self.config;
        let both = self.kv_b_proj.weight().dense().cast(dtype).reshape([1, num_heads, nope + v_head_dim, rank]);
        [both.clone().narrow(2, 0, nope), both.narrow(2, nope, v_head_dim)]
    }

    /// Queries as what is compressed sees them, and turned: `[batch, heads, seq, rank + rope]`.
    fn queries(&self, x: Tensor<B, 3>, to_keys: Tensor<B, 4>, rope: &Rope<B>) -> Tensor<B, 4> {
        let LatentConfig { num_heads, qk_nope_head_dim: nope, qk_rope_head_dim, .. } = self.config;
        let [batch, seq, _] = x.dims();
        let q = match (&self.q_proj, &self.q_a_proj, &self.q_a_layernorm, &self.q_b_proj) {
            (_, Some(a), Some(norm), Some(b)) => b.forward(norm.before(a.forward(x))),
            (Some(q), ..) => q.forward(x),
            _ => unreachable!("queries are made in one step or in two"),
        };
        let q = q.reshape([batch, seq, num_heads, nope + qk_rope_head_dim]).swap_dims(1, 2);
        let turned = rope.rotate(q.clone().narrow(3, nope, qk_rope_head_dim));
        Tensor::cat(vec![B::matmul(q.narrow(3, 0, nope), to_keys), turned], 3)
    }

    /// What the KV cache keeps: compressed, normed, and beside it the part that positions turn.
    fn compressed(&self, x: Tensor<B, 3>, rope: &Rope<B>) -> Tensor<B, 4> {
        let LatentConfig { kv_lora_rank: rank, qk_rope_head_dim, .. } = self.config;
        let [batch, seq, _] = x.dims();
        let both = self.kv_a_proj_with_mqa.forward(x);
        let latent = self.kv_a_layernorm.forward(both.clone().narrow(2, 0, rank));
        let turned = rope.rotate(both.narrow(2, rank, qk_rope_head_dim).reshape([batch, 1, seq, qk_rope_head_dim]));
        Tensor::cat(vec![latent.reshape([batch, 1, seq, rank]), turned], 3)
    }
}
