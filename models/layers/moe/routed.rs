use std::collections::BTreeSet;

use burn::prelude::{Int, Tensor};
use burn::tensor::{DType, IndexingUpdateOp, TensorData};

use super::Expert;
use crate::Backend;

/// What a layer leaves to experts: hidden states, and who shall work on which.
#[derive(Debug, Clone)]
pub struct Routed<B: Backend> {
    /// What experts are given, `[tokens, hidden_size]`.
    pub x: Tensor<B, 2>,
    /// Who works on what, token by token.
    pub choices: Vec<Choice>,
    /// Whether what experts are given is weighed, and not what they make of it.
    pub weighs_input: bool,
}

/// One expert's part in one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Which token.
    pub token: usize,
    /// Which expert of the layer.
    pub expert: usize,
    /// How much it counts.
    pub weight: f32,
}

/// What experts have made of hidden states so far.
#[derive(Debug, Clone)]
pub struct Mixture<B: Backend> {
    routed: Routed<B>,
    /// In f32, `[tokens, hidden_size]`.
    sum: Option<Tensor<B, 2>>,
}

impl<B: Backend> Routed<B> {
    /// The experts that any token chose.
    pub fn experts(&self) -> BTreeSet<usize> {
        self.choices.iter().map(|choice| choice.expert).collect()
    }
}

impl<B: Backend> Mixture<B> {
    /// Nothing so far.
    pub fn new(routed: Routed<B>) -> Self {
        Self { routed, sum: None }
    }

    /// Adds what expert `index` makes of the tokens that chose it.
    pub fn add(&mut self, index: usize, expert: &dyn Expert<B>) {
        let chose: Vec<_> = self.routed.choices.iter().filter(|choice| choice.expert == index).collect();
        if chose.is_empty() {
            return;
        }
        let (x, count) = (self.routed.x.clone(), chose.len());
        let [tokens, hidden] = x.dims();
        let device = x.device();
        let all = chose.iter().map(|choice| choice.token).eq(0..tokens);
        let rows = (!all).then(|| {
            let rows: Vec<i32> = chose.iter().map(|choice| choice.token as i32).collect();
            Tensor::<B, 1, Int>::from_data(TensorData::new(rows, [count]), &device)
        });
        let x = rows.clone().map_or(x.clone(), |rows| x.select(0, rows));
        let weights: Vec<f32> = chose.iter().map(|choice| choice.weight).collect();
        let weights = Tensor::<B, 2>::from_data(TensorData::new(weights, [count, 1]), (&device, DType::F32));
        let y = match self.routed.weighs_input {
            true => {
                let x = (x.clone().cast(DType::F32) * weights).cast(x.dtype());
                expert.forward(x.unsqueeze()).cast(DType::F32).reshape([count, hidden])
            }
            false => expert.forward(x.unsqueeze()).cast(DType::F32).reshape([count, hidden]) * weights,
        };
        self.sum = Some(match (self.sum.take(), rows) {
            (None, None) => y,
            (Some(sum), None) => sum + y,
            (sum, Some(rows)) => {
                let sum = sum.unwrap_or_else(|| Tensor::zeros([tokens, hidden], (&device, DType::F32)));
                sum.select_assign(0, rows, y, IndexingUpdateOp::Add)
            }
        });
    }

    /// All that experts have made, in the shape and dtype of `x: [batch, seq, hidden_size]`.
    pub fn like(self, x: &Tensor<B, 3>) -> Tensor<B, 3> {
        match self.sum {
            Some(sum) => sum.reshape(x.dims()).cast(x.dtype()),
            None => x.zeros_like(),
        }
    }
}
