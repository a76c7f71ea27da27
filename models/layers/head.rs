use burn::module::Module;
use burn::prelude::Tensor;
use burn::tensor::DType;

use super::{Linear, Norm};
use crate::Backend;
use crate::config::DecoderConfig;
use crate::weight::Weight;

/// Final norm and language-model head, or some rows of the head.
///
/// A head may be wider than all layers together are deep: the engine cuts it into runs of rows, and only the first
/// carries the norm.
#[derive(Module, Debug)]
pub struct Head<B: Backend> {
    norm: Option<Norm<B>>,
    lm_head: Linear<B>,
    logit_scale: f64,
    softcap: Option<f64>,
    normed_head: bool,
}

impl<B: Backend> Head<B> {
    /// `rows` rows of a head, of which `norm` belongs to the first; its parameters are not yet loaded.
    pub fn new(config: &DecoderConfig, rows: usize, norm: bool, device: &B::Device) -> Self {
        let (hidden, style) = (config.hidden_size, &config.style);
        Self {
            norm: norm.then(|| Norm::new(style.norm, hidden, config.norm_eps(), device)),
            lm_head: Linear::new(hidden, rows, style.head_bias, device),
            logit_scale: style.logit_scale,
            softcap: config.final_logit_softcapping.filter(|_| style.softcaps),
            normed_head: style.normed_head,
        }
    }

    /// The final norm, where this part of the head has it: `[batch, seq, hidden_size]` → the same.
    pub fn norm(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// Normed hidden states `[batch, seq, hidden_size]` → logits of these rows `[batch, seq, rows]`.
    pub fn logits(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let logits = self.lm_head.forward(x);
        let logits = if self.normed_head { logits / self.lengths() } else { logits };
        let logits = if self.logit_scale == 1.0 { logits } else { logits * self.logit_scale };
        match self.softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// The length of each row, `[1, 1, rows]`.
    fn lengths(&self) -> Tensor<B, 3> {
        let rows = Weight::dense(self.lm_head.weight());
        let dtype = rows.dtype();
        let lengths = rows.cast(DType::F32).square().sum_dim(1).sqrt().clamp_min(1e-7);
        lengths.transpose().unsqueeze::<3>().cast(dtype)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;
    use burn::module::{Param, ParamId};

    use super::*;

    /// Each row of the head counts by its direction alone.
    #[test]
    fn rows_of_a_normed_head_have_length_one() {
        let device = Default::default();
        let weight = Tensor::<Flex, 2>::from_floats([[3.0, 4.0], [0.0, 0.5]], &device);
        let lm_head = Linear::of(Weight::Dense(Param::initialized(ParamId::new(), weight)), None);
        let head = Head { norm: None, lm_head, logit_scale: 1.0, softcap: None, normed_head: true };
        let logits = head.logits(Tensor::from_floats([[[1.0, 2.0]]], &device)).into_data().into_vec::<f32>().unwrap();
        assert!((logits[0] - 2.2).abs() < 1e-6 && (logits[1] - 2.0).abs() < 1e-6, "{logits:?}");
    }
}
