use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;
use burn::tensor::activation::silu;

use super::{Input, Linear, RmsNorm, ShortConv, StateShape, Step, parameter};
use crate::config::Activation;
use crate::{Backend, portable};

/// Columns whose part of the state is made at once.
const BLOCK: usize = 16;

/// What distinguishes one family's Mamba mixer from another's.
#[derive(Debug, Clone)]
pub struct MambaConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Channels.
    pub inner: usize,
    /// How often each channel is kept.
    pub state_size: usize,
    /// Width in between where it is decided how much a column counts.
    pub time_step_rank: usize,
    /// Columns that the convolution sees, the last itself included.
    pub kernel: usize,
    /// Bias of the outer matrices.
    pub bias: bool,
    /// Bias of the convolution.
    pub conv_bias: bool,
    /// What follows the convolution.
    pub hidden_act: Activation,
    /// Epsilon of the norms.
    pub norm_eps: f64,
}

impl MambaConfig {
    /// What a layer keeps.
    pub fn state(&self) -> StateShape {
        StateShape {
            conv: [self.kernel - 1, self.inner],
            recurrent: [1, self.inner, self.state_size],
            scratch: 10 * self.inner,
            once: 4 * BLOCK * self.inner * self.state_size,
        }
    }
}

/// A state space in which each channel forgets at rates of its own, behind a short convolution (Gu & Dao 2023, arXiv
/// 2312.00752). Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct Mamba<B: Backend> {
    in_proj: Linear<B>,
    conv1d: ShortConv<B>,
    x_proj: Linear<B>,
    dt_proj: Linear<B>,
    dt_layernorm: RmsNorm<B>,
    b_layernorm: RmsNorm<B>,
    c_layernorm: RmsNorm<B>,
    a_log: Param<Tensor<B, 2>>,
    d: Param<Tensor<B, 1>>,
    out_proj: Linear<B>,
    #[module(skip)]
    config: MambaConfig,
}

/// What the columns of a pass bring to a state, in f32.
struct Scan<B: Backend> {
    /// `[batch, seq, inner]`.
    x: Tensor<B, 3>,
    /// How much each column counts, `[batch, seq, inner]`.
    time: Tensor<B, 3>,
    /// `[batch, seq, state_size]`.
    b: Tensor<B, 3>,
    /// `[batch, seq, state_size]`.
    c: Tensor<B, 3>,
    /// The rates at which channels forget, `[1, 1, inner, state_size]`.
    rates: Tensor<B, 4>,
}

impl<B: Backend> Mamba<B> {
    /// A mixer whose parameters are not yet loaded.
    pub fn new(config: &MambaConfig, device: &B::Device) -> Self {
        let MambaConfig { hidden_size, inner, state_size, time_step_rank: rank, bias, norm_eps, .. } = *config;
        let norm = |size| RmsNorm::new(size, norm_eps, device);
        Self {
            in_proj: Linear::new(hidden_size, 2 * inner, bias, device),
            conv1d: ShortConv::new(inner, config.kernel, config.conv_bias, device),
            x_proj: Linear::new(inner, rank + 2 * state_size, false, device),
            dt_proj: Linear::new(rank, inner, true, device),
            dt_layernorm: norm(rank),
            b_layernorm: norm(state_size),
            c_layernorm: norm(state_size),
            a_log: parameter([inner, state_size], device),
            d: parameter([inner], device),
            out_proj: Linear::new(inner, hidden_size, bias, device),
            config: config.clone(),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual`; the state takes them in.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let MambaConfig { inner, state_size, time_step_rank: rank, .. } = self.config;
        let (dtype, [batch, seq, _]) = (input.x.dtype(), input.x.dims());
        let (queries, state) = (step.queries, step.cache.state());
        let both = self.in_proj.forward(input);
        let [x, gate] = [0, inner].map(|first| both.clone().narrow(2, first, inner));
        // Before the convolution and behind it: biases make something of padding.
        let x = self.conv1d.forward(queries.without_padding(x), state);
        let x = queries.without_padding(portable::activated(self.config.hidden_act, x));

        let all = self.x_proj.forward(x.clone().cast(dtype));
        let part = |first, width| all.clone().narrow(2, first, width);
        let time = self.dt_proj.forward(self.dt_layernorm.forward(part(0, rank)));
        let scan = Scan {
            x: x.clone(),
            time: portable::softplus(time.cast(DType::F32)),
            b: self.b_layernorm.forward(part(rank, state_size)).cast(DType::F32),
            c: self.c_layernorm.forward(part(rank + state_size, state_size)).cast(DType::F32),
            rates: self.a_log.val().cast(DType::F32).exp().neg().unsqueeze(),
        };
        let answers = state.recur([batch, seq], &x.device(), |state| scan.run(state));
        let answers = answers + x * self.d.val().cast(DType::F32).unsqueeze();
        let out = answers * silu(gate.cast(DType::F32));
        self.out_proj.onto(out.cast(dtype), Some(residual))
    }
}

impl<B: Backend> Scan<B> {
    /// The state `[batch, 1, inner, state_size]` after these columns, and the answers `[batch, seq, inner]`.
    fn run(self, mut state: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 3>) {
        let [batch, seq, inner] = self.x.dims();
        let mut answers = Vec::with_capacity(seq.div_ceil(BLOCK));
        for first in (0..seq).step_by(BLOCK) {
            let columns = BLOCK.min(seq - first);
            let of = |x: &Tensor<B, 3>| x.clone().narrow(1, first, columns);
            let time = of(&self.time);
            // [batch, columns, inner, state_size]
            let kept = (time.clone().unsqueeze_dim::<4>(3) * self.rates.clone()).exp();
            let news = (time * of(&self.x)).unsqueeze_dim::<4>(3) * of(&self.b).unsqueeze_dim::<4>(2);
            let mut states = Vec::with_capacity(columns);
            for column in 0..columns {
                let of = |x: &Tensor<B, 4>| x.clone().narrow(1, column, 1);
                state = state * of(&kept) + of(&news);
                states.push(state.clone());
            }
            let answer = B::matmul(Tensor::cat(states, 1), of(&self.c).unsqueeze_dim::<4>(3));
            answers.push(answer.reshape([batch, columns, inner]));
        }
        (state, Tensor::cat(answers, 1))
    }
}
