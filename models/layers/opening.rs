use burn::module::{Module, Param};
use burn::prelude::Tensor;

use super::{Linear, Norm, Positions, parameter};
use crate::Backend;
use crate::config::DecoderConfig;

/// What stands between the embedding and the first layer, as a part of that layer.
#[derive(Module, Debug)]
pub struct Opening<B: Backend> {
    project_in: Option<Linear<B>>,
    scale: f64,
    /// `[positions, hidden_size]`.
    positions: Option<Param<Tensor<B, 2>>>,
    /// The row of position 0.
    first_row: usize,
    norm: Option<Norm<B>>,
}

impl<B: Backend> Opening<B> {
    /// Multiplies embeddings by `scale`.
    pub fn scaled(scale: f64) -> Self {
        Self { project_in: None, scale, positions: None, first_row: 0, norm: None }
    }

    /// Adds learned positions, of which the first lies in row `first_row`.
    pub fn positions(config: &DecoderConfig, first_row: usize, device: &B::Device) -> Self {
        let shape = [config.max_positions() + first_row, config.hidden_size];
        Self { positions: Some(parameter(shape, device)), first_row, ..Self::scaled(1.0) }
    }

    /// The same of embeddings that are `width` wide, brought to the width of hidden states first.
    pub fn projected(self, width: usize, config: &DecoderConfig, device: &B::Device) -> Self {
        Self { project_in: Some(Linear::new(width, config.hidden_size, false, device)), ..self }
    }

    /// Norms embeddings.
    pub fn normed(config: &DecoderConfig, device: &B::Device) -> Self {
        let norm = Norm::new(config.style.norm, config.hidden_size, config.norm_eps(), device);
        Self { norm: Some(norm), ..Self::scaled(1.0) }
    }

    /// Embeddings `[batch, seq, embedding_size]` of tokens at `queries` → hidden states `[batch, seq, hidden_size]`.
    pub fn forward(&self, x: Tensor<B, 3>, queries: &Positions) -> Tensor<B, 3> {
        let x = match &self.project_in {
            Some(project_in) => project_in.forward(x),
            None => x,
        };
        let x = if self.scale == 1.0 { x } else { x * self.scale };
        let x = match &self.positions {
            Some(positions) => {
                // Padding has no position: any will do.
                let rows = queries.on_device::<B>(&x.device()).clamp_min(0) + self.first_row as i32;
                let (shape, dtype) = (x.dims(), x.dtype());
                x + positions.val().select(0, rows).cast(dtype).reshape(shape)
            }
            None => x,
        };
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}
