use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::activation::sigmoid;

use super::super::parameter;
use super::{Expert, ExpertKind, Experts};
use crate::{Backend, portable};

/// An expert whose matrices are stored `[in, out]`, gate and up in one.
#[derive(Module, Debug)]
pub struct TransposedExpert<B: Backend> {
    gate_up_proj: Param<Tensor<B, 2>>,
    gate_up_proj_bias: Option<Param<Tensor<B, 1>>>,
    down_proj: Param<Tensor<B, 2>>,
    down_proj_bias: Option<Param<Tensor<B, 1>>>,
    #[module(skip)]
    kind: ExpertKind,
}

impl<B: Backend> TransposedExpert<B> {
    /// One of these experts, its parameters not yet loaded.
    pub fn new(experts: &Experts, device: &B::Device) -> Self {
        let (hidden, inner) = (experts.hidden_size, experts.intermediate_size);
        let has_bias = matches!(experts.kind, ExpertKind::Clamped { .. });
        Self {
            gate_up_proj: parameter([hidden, 2 * inner], device),
            gate_up_proj_bias: has_bias.then(|| parameter([2 * inner], device)),
            down_proj: parameter([inner, hidden], device),
            down_proj_bias: has_bias.then(|| parameter([hidden], device)),
            kind: experts.kind,
        }
    }

    /// `[1, tokens, 2 · intermediate_size]` → `[1, tokens, intermediate_size]`.
    fn gated(&self, both: Tensor<B, 3>) -> Tensor<B, 3> {
        let [_, tokens, width] = both.dims();
        let inner = width / 2;
        match self.kind {
            ExpertKind::Gated(activation) | ExpertKind::Transposed(activation) => {
                portable::gated(activation, both.clone().narrow(2, 0, inner), both.narrow(2, inner, inner))
            }
            ExpertKind::Clamped { alpha, limit } => {
                let pairs = both.reshape([tokens, inner, 2]);
                let [gate, up] = [0, 1].map(|which| pairs.clone().narrow(2, which, 1).reshape([1, tokens, inner]));
                let (gate, up) = (gate.clamp_max(limit), up.clamp(-limit, limit));
                (up + 1.0) * gate.clone() * sigmoid(gate * alpha)
            }
        }
    }
}

impl<B: Backend> Expert<B> for TransposedExpert<B> {
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let y = self.gated(apply(x, &self.gate_up_proj, self.gate_up_proj_bias.as_ref()));
        apply(y, &self.down_proj, self.down_proj_bias.as_ref())
    }
}

/// `x · matrix + bias`.
fn apply<B: Backend>(
    x: Tensor<B, 3>,
    matrix: &Param<Tensor<B, 2>>,
    bias: Option<&Param<Tensor<B, 1>>>,
) -> Tensor<B, 3> {
    let dtype = x.dtype();
    let y = B::matmul(x, matrix.val().cast(dtype).unsqueeze());
    match bias {
        Some(bias) => y + bias.val().cast(dtype).unsqueeze(),
        None => y,
    }
}
