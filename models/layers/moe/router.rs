use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;

use super::super::parameter;
use crate::Backend;

/// Scores every expert for every token; small, and never packed.
#[derive(Module, Debug)]
pub struct Router<B: Backend> {
    weight: Param<Tensor<B, 2>>,
    bias: Option<Param<Tensor<B, 1>>>,
    e_score_correction_bias: Option<Param<Tensor<B, 1>>>,
}

/// What a router says, on the host.
pub(super) struct Scores {
    /// Token by token, a number for each expert.
    pub(super) logits: Vec<f32>,
    /// What the scores are corrected by where experts are chosen, if by anything.
    pub(super) correction: Option<Vec<f32>>,
}

impl<B: Backend> Router<B> {
    /// A router whose parameters are not yet loaded; `correction` says whether it corrects scores for the choice.
    pub fn new(hidden_size: usize, experts: usize, bias: bool, correction: bool, device: &B::Device) -> Self {
        Self {
            weight: parameter([experts, hidden_size], device),
            bias: bias.then(|| parameter([experts], device)),
            e_score_correction_bias: correction.then(|| parameter([experts], device)),
        }
    }

    /// The scores of all experts for `x: [tokens, hidden_size]`, computed in f32 and read back at once.
    pub(super) fn scores(&self, x: Tensor<B, 2>) -> Scores {
        let f32 = |x: &Param<Tensor<B, 1>>| x.val().cast(DType::F32).unsqueeze::<2>();
        let experts = self.weight.dims()[0];
        let mut logits = x.cast(DType::F32).matmul(self.weight.val().cast(DType::F32).transpose()); // [tokens, experts]
        if let Some(bias) = &self.bias {
            logits = logits + f32(bias);
        }
        if let Some(correction) = &self.e_score_correction_bias {
            logits = Tensor::cat(vec![logits, f32(correction)], 0);
        }
        let mut logits: Vec<f32> = logits.into_data().into_vec().expect("a cast tensor is f32");
        let tokens = logits.len() - if self.e_score_correction_bias.is_some() { experts } else { 0 };
        let correction = logits.split_off(tokens);
        Scores { logits, correction: Some(correction).filter(|correction| !correction.is_empty()) }
    }
}
