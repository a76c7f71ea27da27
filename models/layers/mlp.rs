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
        let (hidden, inner, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        Self {
            gate_proj: Linear::new(hidden, inner, bias, device),
            up_proj: Linear::new(hidden, inner, bias, device),
            down_proj: Linear::new(inner, hidden, bias, device),
            hidden_act: config.hidden_act,
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → what is to be added to `residual`, added, of the same shape.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>) -> Tensor<B, 3> {
        let x = B::gated_linears(self.hidden_act, input, &self.gate_proj, &self.up_proj);
        B::linear_add(x, &self.down_proj, residual)
    }
}
