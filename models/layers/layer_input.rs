use burn::module::Module;
use burn::prelude::Tensor;

use super::{Linear, RmsNorm};
use crate::config::{Activation, DecoderConfig};
use crate::{Backend, portable};

/// What makes the inputs that layers have beside hidden states, from both embeddings; a part of the first layer.
#[derive(Module, Debug)]
pub struct LayerInputs<B: Backend> {
    per_layer_model_projection: Linear<B>,
    per_layer_projection_norm: RmsNorm<B>,
    projection_scale: f64,
}

/// What a layer makes of its own input.
#[derive(Module, Debug)]
pub struct LayerInput<B: Backend> {
    per_layer_input_gate: Linear<B>,
    per_layer_projection: Linear<B>,
    post_per_layer_input_norm: RmsNorm<B>,
    index: usize,
    #[module(skip)]
    hidden_act: Activation,
}

/// How wide the inputs of layers are, and of how many.
#[derive(Debug, Clone, Copy)]
pub struct LayerInputSize {
    /// Layers.
    pub layers: usize,
    /// Numbers of each.
    pub width: usize,
}

impl<B: Backend> LayerInputs<B> {
    /// Their maker, whose parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, size: LayerInputSize, device: &B::Device) -> Self {
        let LayerInputSize { layers, width } = size;
        Self {
            per_layer_model_projection: Linear::new(config.hidden_size, layers * width, false, device),
            per_layer_projection_norm: RmsNorm::new(width, config.rms_norm_eps(), device),
            projection_scale: (config.hidden_size as f64).powf(-0.5),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` before the first layer and rows `[batch, seq, layers · width]` of the
    /// second embedding → the inputs of all layers, of the shape of the rows.
    pub fn forward(&self, x: Tensor<B, 3>, rows: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, seq, all] = rows.dims();
        let width = self.per_layer_projection_norm.weight().dims()[0];
        let projected = self.per_layer_model_projection.forward(x) * self.projection_scale;
        let projected = self.per_layer_projection_norm.forward(projected.reshape([batch, seq, all / width, width]));
        let scaled = rows * (width as f64).sqrt();
        (projected.reshape([batch, seq, all]) + scaled) * std::f64::consts::FRAC_1_SQRT_2
    }
}

impl<B: Backend> LayerInput<B> {
    /// That of layer `index`, its parameters not yet loaded.
    pub fn new(config: &DecoderConfig, width: usize, index: usize, device: &B::Device) -> Self {
        Self {
            per_layer_input_gate: Linear::new(config.hidden_size, width, false, device),
            per_layer_projection: Linear::new(width, config.hidden_size, false, device),
            post_per_layer_input_norm: RmsNorm::new(config.hidden_size, config.rms_norm_eps(), device),
            index,
            hidden_act: config.hidden_act,
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` and the inputs of all layers `[batch, seq, layers · width]` → what is to
    /// be added, `[batch, seq, hidden_size]`.
    pub fn forward(&self, x: Tensor<B, 3>, inputs: &Tensor<B, 3>) -> Tensor<B, 3> {
        let gate = portable::activated(self.hidden_act, self.per_layer_input_gate.forward(x)); // [batch, seq, width]
        let width = gate.dims()[2];
        let input = inputs.clone().narrow(2, self.index * width, width);
        self.post_per_layer_input_norm.forward(self.per_layer_projection.forward(gate * input))
    }
}
