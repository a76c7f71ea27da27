use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;
use burn::tensor::activation::silu;

use super::norm::rms;
use super::recurrence::{self, Recurrence};
use super::{Input, Linear, ShortConv, StateShape, Step, parameter};
use crate::config::Activation;
use crate::{Backend, portable};

/// What distinguishes one family's Mamba-2 mixer from another's.
#[derive(Debug, Clone)]
pub struct Mamba2MixerConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Heads.
    pub num_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// How often a head keeps each of its numbers.
    pub state_size: usize,
    /// Groups of heads that write and read alike.
    pub groups: usize,
    /// Columns that the convolution sees, the last itself included.
    pub kernel: usize,
    /// Bias of the matrices.
    pub bias: bool,
    /// Bias of the convolution.
    pub conv_bias: bool,
    /// What follows the convolution.
    pub hidden_act: Activation,
    /// Epsilon of the norm of what heads give.
    pub norm_eps: f64,
    /// The least and the most that a column counts.
    pub time_step_limit: [f64; 2],
}

impl Mamba2MixerConfig {
    /// What a layer keeps.
    pub fn state(&self) -> StateShape {
        let recurrent = [self.num_heads, self.state_size, self.head_dim];
        let channels = self.channels();
        StateShape {
            conv: [self.kernel - 1, channels],
            recurrent,
            scratch: 6 * channels + recurrence::scratch(recurrent),
            once: 0,
        }
    }

    fn inner(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Numbers that go through the convolution.
    fn channels(&self) -> usize {
        self.inner() + 2 * self.groups * self.state_size
    }
}

/// A state space behind a short convolution (Dao & Gu 2024, arXiv 2405.21060). Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct Mamba2Mixer<B: Backend> {
    in_proj: Linear<B>,
    conv1d: ShortConv<B>,
    dt_bias: Param<Tensor<B, 1>>,
    a_log: Param<Tensor<B, 1>>,
    d: Param<Tensor<B, 1>>,
    norm: GroupNorm<B>,
    out_proj: Linear<B>,
    #[module(skip)]
    config: Mamba2MixerConfig,
}

/// The weight of a norm by groups.
#[derive(Module, Debug)]
struct GroupNorm<B: Backend> {
    weight: Param<Tensor<B, 1>>,
}

impl<B: Backend> Mamba2Mixer<B> {
    /// A mixer whose parameters are not yet loaded.
    pub fn new(config: &Mamba2MixerConfig, device: &B::Device) -> Self {
        let (hidden, heads, inner, channels) =
            (config.hidden_size, config.num_heads, config.inner(), config.channels());
        Self {
            in_proj: Linear::new(hidden, inner + channels + heads, config.bias, device),
            conv1d: ShortConv::new(channels, config.kernel, config.conv_bias, device),
            dt_bias: parameter([heads], device),
            a_log: parameter([heads], device),
            d: parameter([heads], device),
            norm: GroupNorm { weight: parameter([inner], device) },
            out_proj: Linear::new(inner, hidden, config.bias, device),
            config: config.clone(),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual` if there is one; the state takes them
    /// in.
    pub fn forward(
        &self,
        input: Input<'_, B>,
        residual: impl Into<Option<Tensor<B, 3>>>,
        step: &mut Step<'_, B>,
    ) -> Tensor<B, 3> {
        let Mamba2MixerConfig { num_heads, head_dim, state_size, groups, norm_eps, .. } = self.config;
        let (inner, channels) = (self.config.inner(), self.config.channels());
        let (dtype, [batch, seq, _]) = (input.x.dtype(), input.x.dims());
        let (queries, state) = (step.queries, step.cache.state());

        let all = self.in_proj.forward(input);
        let (gate, time) = (all.clone().narrow(2, 0, inner), all.clone().narrow(2, inner + channels, num_heads));
        // Before the convolution and behind it: biases make something of padding.
        let x = queries.without_padding(all.narrow(2, inner, channels));
        let x = portable::activated(self.config.hidden_act, self.conv1d.forward(x, state));
        let x = queries.without_padding(x);
        // [batch, seq, n · width] → [batch, num_heads, seq, width]
        let heads = |first, count: usize, width| {
            let x = x.clone().narrow(2, first, count * width).reshape([batch, seq, count, 1, width]);
            let x = x.expand([batch, seq, count, num_heads / count, width]);
            x.reshape([batch, seq, num_heads, width]).swap_dims(1, 2)
        };
        let v = heads(0, num_heads, head_dim);
        let (k, q) = (heads(inner, groups, state_size), heads(inner + groups * state_size, groups, state_size));

        let time = portable::softplus(time.cast(DType::F32) + self.dt_bias.val().cast(DType::F32).unsqueeze());
        let [least, most] = self.config.time_step_limit;
        let time = portable::split(time.clamp(least, most).swap_dims(1, 2), [batch, num_heads, seq, 1]);
        let of_heads = |x: &Param<Tensor<B, 1>>| x.val().cast(DType::F32).reshape([1, num_heads, 1, 1]);
        let decay = time.clone() * of_heads(&self.a_log).exp().neg();
        let passed = v.clone() * of_heads(&self.d);
        let all = Recurrence { q, k, v: v * time, decay, beta: None };
        let answers = state.recur([batch, seq], &all.q.device(), |state| all.apply(state)) + passed;

        // [batch, num_heads, seq, head_dim] → [batch, seq, inner]
        let answers = answers.swap_dims(1, 2).reshape([batch, seq, inner]) * silu(gate.cast(DType::F32));
        let normed = rms(answers.reshape([batch, seq, groups, inner / groups]), norm_eps).reshape([batch, seq, inner]);
        let out = normed * self.norm.weight.val().cast(DType::F32).unsqueeze();
        self.out_proj.onto(out.cast(dtype), residual.into())
    }
}
