use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;

use super::super::{PAD, Positions, parameter};
use super::{Choice, Routing};
use crate::Backend;

/// Scores every expert for every token; small, and never packed.
#[derive(Module, Debug)]
pub struct Router<B: Backend> {
    weight: Param<Tensor<B, 2>>,
    bias: Option<Param<Tensor<B, 1>>>,
    e_score_correction_bias: Option<Param<Tensor<B, 1>>>,
    moe_statics: Option<MoeStatics<B>>,
}

/// A correction as ERNIE's checkpoints have it.
#[derive(Module, Debug)]
struct MoeStatics<B: Backend> {
    e_score_correction_bias: Param<Tensor<B, 2>>,
}

/// What corrects the scores of a router where experts are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Correction {
    /// Nothing.
    #[default]
    None,
    /// A number for each expert, `[experts]`.
    Vector,
    /// The same, `[1, experts]`.
    Row,
}

/// What a router says, on the host.
struct Scores {
    /// Token by token, a number for each expert.
    logits: Vec<f32>,
    /// What the scores are corrected by where experts are chosen, if by anything.
    correction: Option<Vec<f32>>,
}

impl<B: Backend> Router<B> {
    /// A router whose parameters are not yet loaded.
    pub fn new([experts, hidden_size]: [usize; 2], bias: bool, correction: Correction, device: &B::Device) -> Self {
        let row = || MoeStatics { e_score_correction_bias: parameter([1, experts], device) };
        Self {
            weight: parameter([experts, hidden_size], device),
            bias: bias.then(|| parameter([experts], device)),
            e_score_correction_bias: (correction == Correction::Vector).then(|| parameter([experts], device)),
            moe_statics: (correction == Correction::Row).then(row),
        }
    }

    /// The experts that tokens `x: [tokens, hidden_size]` at these positions choose, token by token.
    pub fn choices(&self, x: Tensor<B, 2>, routing: &Routing, positions: &Positions) -> Vec<Choice> {
        let scores = self.scores(x);
        let experts = self.weight.dims()[0].max(1);
        let rows = scores.logits.chunks(experts).zip(positions.as_slice()).enumerate();
        // Nobody sees what becomes of padding.
        let rows = rows.filter(|(_, (_, position))| **position != PAD);
        let choices = rows.flat_map(|(token, (logits, _))| {
            let chosen = routing.choose(logits, scores.correction.as_deref());
            chosen.into_iter().map(move |(expert, weight)| Choice { token, expert, weight })
        });
        choices.collect()
    }

    /// The scores of all experts for `x: [tokens, hidden_size]`, computed in f32 and read back at once.
    fn scores(&self, x: Tensor<B, 2>) -> Scores {
        let f32 = |x: &Param<Tensor<B, 1>>| x.val().cast(DType::F32).unsqueeze::<2>();
        let experts = self.weight.dims()[0];
        let mut logits = B::matmul(x.cast(DType::F32), self.weight.val().cast(DType::F32).transpose()); // [tokens, experts]
        if let Some(bias) = &self.bias {
            logits = logits + f32(bias);
        }
        let row = |statics: &MoeStatics<B>| statics.e_score_correction_bias.val().cast(DType::F32);
        let correction = self.e_score_correction_bias.as_ref().map(f32).or_else(|| self.moe_statics.as_ref().map(row));
        let corrections = if correction.is_some() { experts } else { 0 };
        if let Some(correction) = correction {
            logits = Tensor::cat(vec![logits, correction], 0);
        }
        let mut logits: Vec<f32> = logits.into_data().into_vec().expect("a cast tensor is f32");
        let correction = logits.split_off(logits.len() - corrections);
        Scores { logits, correction: Some(correction).filter(|correction| !correction.is_empty()) }
    }
}
