use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;
use burn::tensor::activation::sigmoid;

use super::recurrence::{self, Recurrence};
use super::{Input, Linear, RmsNorm, ShortConv, StateShape, Step, parameter};
use crate::config::Activation;
use crate::{Backend, portable};

/// What distinguishes one Kimi delta attention from another.
#[derive(Debug, Clone)]
pub struct KimiDeltaConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Heads.
    pub num_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Columns that the convolutions see, the last itself included.
    pub kernel: usize,
    /// What follows the convolutions.
    pub hidden_act: Activation,
    /// Epsilon of the norm of answers.
    pub norm_eps: f64,
}

impl KimiDeltaConfig {
    /// What a layer keeps.
    pub fn state(&self) -> StateShape {
        let recurrent = [self.num_heads, self.head_dim, self.head_dim];
        StateShape {
            conv: [self.kernel - 1, 3 * self.inner()],
            recurrent,
            scratch: 16 * self.inner() + recurrence::scratch(recurrent),
            once: recurrence::scratch_of_rows(recurrent),
        }
    }

    fn inner(&self) -> usize {
        self.num_heads * self.head_dim
    }
}

/// Linear attention by the delta rule in which each number of a key is forgotten at a rate of its own (Kimi Team 2025,
/// arXiv 2510.26692). Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct KimiDelta<B: Backend> {
    q_proj: Linear<B>,
    k_proj: Linear<B>,
    v_proj: Linear<B>,
    q_conv1d: ShortConv<B>,
    k_conv1d: ShortConv<B>,
    v_conv1d: ShortConv<B>,
    f_a_proj: Linear<B>,
    f_b_proj: Linear<B>,
    b_proj: Linear<B>,
    g_a_proj: Linear<B>,
    g_b_proj: Linear<B>,
    dt_bias: Param<Tensor<B, 1>>,
    /// `[1, 1, num_heads, 1]`.
    a_log: Param<Tensor<B, 4>>,
    o_norm: RmsNorm<B>,
    o_proj: Linear<B>,
    #[module(skip)]
    config: KimiDeltaConfig,
}

impl<B: Backend> KimiDelta<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(config: &KimiDeltaConfig, device: &B::Device) -> Self {
        let (hidden, head_dim, inner) = (config.hidden_size, config.head_dim, config.inner());
        let linear = |inputs, outputs| Linear::new(inputs, outputs, false, device);
        let conv = || ShortConv::new(inner, config.kernel, false, device);
        Self {
            q_proj: linear(hidden, inner),
            k_proj: linear(hidden, inner),
            v_proj: linear(hidden, inner),
            q_conv1d: conv(),
            k_conv1d: conv(),
            v_conv1d: conv(),
            f_a_proj: linear(hidden, head_dim),
            f_b_proj: linear(head_dim, inner),
            b_proj: linear(hidden, config.num_heads),
            g_a_proj: linear(hidden, head_dim),
            g_b_proj: linear(head_dim, inner),
            dt_bias: parameter([inner], device),
            a_log: parameter([1, 1, config.num_heads, 1], device),
            o_norm: RmsNorm::new(head_dim, config.norm_eps, device),
            o_proj: linear(inner, hidden),
            config: config.clone(),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual`; the state takes them in.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let KimiDeltaConfig { num_heads, head_dim, hidden_act, .. } = self.config;
        let (dtype, [batch, seq, _], inner) = (input.x.dtype(), input.x.dims(), self.config.inner());
        let (x, state) = (step.queries.without_padding(input.normed()), step.cache.state());
        let matrices = [&self.q_proj, &self.k_proj, &self.v_proj, &self.f_a_proj, &self.g_a_proj, &self.b_proj];
        let [q, k, v, forget, gate, beta] = B::linears(x.into(), matrices);
        let around = state.preceded(Tensor::cat(vec![q, k, v], 2));
        // [batch, seq, inner] → [batch, num_heads, seq, head_dim]
        let heads = |x: Tensor<B, 3>| x.reshape([batch, seq, num_heads, head_dim]).swap_dims(1, 2);
        let convs = [(0, &self.q_conv1d), (1, &self.k_conv1d), (2, &self.v_conv1d)];
        let [q, k, v] = convs.map(|(part, conv)| {
            let x = conv.over(around.clone().narrow(2, part * inner, inner), seq);
            heads(portable::activated(hidden_act, x))
        });
        let time = self.f_b_proj.forward(forget).cast(DType::F32) + self.dt_bias.val().cast(DType::F32).unsqueeze();
        let rate = self.a_log.val().cast(DType::F32).exp().neg().swap_dims(1, 2); // [1, num_heads, 1, 1]
        let beta = portable::split(sigmoid(beta.cast(DType::F32)).swap_dims(1, 2), [batch, num_heads, seq, 1]);
        let all = Recurrence {
            q: portable::of_length_one(q) * (head_dim as f64).powf(-0.5),
            k: portable::of_length_one(k),
            v,
            decay: heads(portable::softplus(time)) * rate,
            beta: Some(beta),
        };
        let answers = state.recur([batch, seq], &all.q.device(), |state| all.apply(state));
        let gate = sigmoid(heads(self.g_b_proj.forward(gate)).cast(DType::F32));
        let out = (self.o_norm.forward(answers) * gate).swap_dims(1, 2).reshape([batch, seq, inner]);
        self.o_proj.onto(out.cast(dtype), Some(residual))
    }
}
