use burn::module::Module;
use burn::prelude::Tensor;

use super::{Input, Linear, Xielu};
use crate::config::{Activation, DecoderConfig};
use crate::{Backend, portable};

/// The feed-forward part of a layer.
#[derive(Module, Debug)]
pub enum Mlp<B: Backend> {
    /// With a gate.
    Gated(GatedMlp<B>),
    /// Without.
    Plain(PlainMlp<B>),
}

impl<B: Backend> Mlp<B> {
    /// An MLP of the kind that the family has, its parameters not yet loaded.
    pub fn new(config: &DecoderConfig, device: &B::Device) -> Self {
        match config.style.gated {
            true => Self::Gated(GatedMlp::new(config, device)),
            false => Self::Plain(PlainMlp::new(config, device)),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual` if there is one.
    pub fn forward(&self, input: Input<'_, B>, residual: Option<Tensor<B, 3>>) -> Tensor<B, 3> {
        match self {
            Self::Gated(mlp) => mlp.forward(input, residual),
            Self::Plain(mlp) => mlp.forward(input, residual),
        }
    }
}

/// Gated feed-forward: `down(act(gate(x)) · up(x))` (Shazeer 2020, arXiv 2002.05202).
#[derive(Module, Debug)]
pub struct GatedMlp<B: Backend> {
    gate_proj: Linear<B>,
    up_proj: Linear<B>,
    down_proj: Linear<B>,
    #[module(skip)]
    hidden_act: Activation,
}

impl<B: Backend> GatedMlp<B> {
    /// An MLP whose parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, device: &B::Device) -> Self {
        Self::with_width(config, config.intermediate_size, device)
    }

    /// The same of another width than `intermediate_size`.
    pub fn with_width(config: &DecoderConfig, inner: usize, device: &B::Device) -> Self {
        Self::of_sizes([config.hidden_size, inner], config.mlp_bias, config.hidden_act, device)
    }

    /// The same of these widths outside and inside.
    pub fn of_sizes([hidden, inner]: [usize; 2], bias: bool, hidden_act: Activation, device: &B::Device) -> Self {
        Self {
            gate_proj: Linear::new(hidden, inner, bias, device),
            up_proj: Linear::new(hidden, inner, bias, device),
            down_proj: Linear::new(inner, hidden, bias, device),
            hidden_act,
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual` if there is one.
    pub fn forward(&self, input: Input<'_, B>, residual: impl Into<Option<Tensor<B, 3>>>) -> Tensor<B, 3> {
        let x = B::gated_linears(self.hidden_act, input, &self.gate_proj, &self.up_proj);
        self.down_proj.onto(x, residual.into())
    }
}

/// Feed-forward without a gate: `down(act(up(x)))`.
#[derive(Module, Debug)]
pub struct PlainMlp<B: Backend> {
    up_proj: Linear<B>,
    down_proj: Linear<B>,
    act_fn: Option<Xielu<B>>,
    #[module(skip)]
    hidden_act: Activation,
}

impl<B: Backend> PlainMlp<B> {
    /// An MLP whose parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, device: &B::Device) -> Self {
        let (hidden, inner, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        let transposed = config.style.transposed;
        Self {
            up_proj: Linear::stored(transposed, hidden, inner, bias, device),
            down_proj: Linear::stored(transposed, inner, hidden, bias, device),
            act_fn: config.style.xielu.then(|| Xielu::new(device)),
            hidden_act: config.hidden_act,
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual` if there is one.
    pub fn forward(&self, input: Input<'_, B>, residual: Option<Tensor<B, 3>>) -> Tensor<B, 3> {
        let x = self.up_proj.forward(input);
        let x = match &self.act_fn {
            Some(act_fn) => act_fn.forward(x),
            None => portable::activated(self.hidden_act, x),
        };
        self.down_proj.onto(x, residual)
    }
}
