use burn::module::Module;
use burn::prelude::Tensor;

use super::{Input, Linear, ShortConv, StateShape, Step};
use crate::Backend;

/// A short convolution between two gates. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct GatedConv<B: Backend> {
    in_proj: Linear<B>,
    conv: ShortConv<B>,
    out_proj: Linear<B>,
}

/// What a layer keeps whose convolution sees `columns` columns, the last itself included.
pub fn conv_state(hidden_size: usize, columns: usize) -> StateShape {
    StateShape { conv: [columns - 1, hidden_size], scratch: 8 * hidden_size, ..StateShape::default() }
}

impl<B: Backend> GatedConv<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(hidden_size: usize, columns: usize, bias: bool, device: &B::Device) -> Self {
        Self {
            in_proj: Linear::new(hidden_size, 3 * hidden_size, bias, device),
            conv: ShortConv::new(hidden_size, columns, bias, device),
            out_proj: Linear::new(hidden_size, hidden_size, bias, device),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual`; the state takes them in.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let (dtype, hidden) = (input.x.dtype(), input.x.dims()[2]);
        let all = self.in_proj.forward(input);
        let [before, behind, x] = [0, 1, 2].map(|part| all.clone().narrow(2, part * hidden, hidden));
        // Here and not before: a bias makes something of padding.
        let x = step.queries.without_padding(before * x);
        let x = self.conv.forward(x, step.cache.state()).cast(dtype);
        self.out_proj.onto(behind * x, Some(residual))
    }
}
