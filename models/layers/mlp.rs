use burn::module::Module;
use burn::prelude::Tensor;

use super::{Input, Linear};
use crate::Backend;
use crate::config::{Activation, DecoderConfig};

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

    /// Hidden states `[batch, seq, hidden_size]` → what is to be added to `residual`, added, of the same shape.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>) -> Tensor<B, 3> {
        let x = B::gated_linears(self.hidden_act, input, &self.gate_proj, &self.up_proj);
        B::linear_add(x, &self.down_proj, residual)
    }
    /// Hidden states `[batch, seq, hidden_size]` → what is made of them, of the same shape.
    pub fn output(&self, input: Input<'_, B>) -> Tensor<B, 3> {
        let x = B::gated_linears(self.hidden_act, input, &self.gate_proj, &self.up_proj);
        self.down_proj.forward(x)
    }
}
