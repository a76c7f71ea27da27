use burn::module::Module;
use burn::prelude::Tensor;

use super::{Linear, Norm};
use crate::Backend;
use crate::config::DecoderConfig;

/// What stands between the last layer and a head that is not as wide as hidden states, as a part of that layer.
#[derive(Module, Debug)]
pub struct Closing<B: Backend> {
    norm: Option<Norm<B>>,
    project_out: Linear<B>,
}

impl<B: Backend> Closing<B> {
    /// The final norm, if there is one, and a matrix to the `width` of the head; their parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, norm: bool, width: usize, device: &B::Device) -> Self {
        let hidden = config.hidden_size;
        Self {
            norm: norm.then(|| Norm::new(config.style.norm, hidden, config.norm_eps(), device)),
            project_out: Linear::new(hidden, width, false, device),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → `[batch, seq, embedding_size]`.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        self.project_out.forward(x)
    }
}
