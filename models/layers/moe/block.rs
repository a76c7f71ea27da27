use burn::module::Module;
use burn::prelude::Tensor;
use burn::tensor::activation::sigmoid;

use super::super::{GatedMlp, Input, Linear, Step};
use super::{Routed, Router, Routing};
use crate::Backend;

/// The part of a mixture of experts that every token needs: the router, and an expert that all share.
#[derive(Module, Debug)]
pub struct Moe<B: Backend> {
    gate: Router<B>,
    shared_experts: Option<GatedMlp<B>>,
    shared_expert_gate: Option<Linear<B>>,
    #[module(skip)]
    routing: Routing,
}

impl<B: Backend> Moe<B> {
    /// A mixture that chooses by `routing` among experts that `gate` scores.
    pub fn new(gate: Router<B>, routing: Routing) -> Self {
        Self { gate, shared_experts: None, shared_expert_gate: None, routing }
    }

    /// The same with an expert that works on every token, weighed by a gate of its own if it has one.
    pub fn with_shared(self, experts: GatedMlp<B>, gate: Option<Linear<B>>) -> Self {
        Self { shared_experts: Some(experts), shared_expert_gate: gate, ..self }
    }

    /// Hidden states `[batch, seq, hidden_size]` → `residual` with what the shared expert makes of them; who else shall
    /// work on them is left in the step.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = input.normed();
        let [batch, seq, hidden] = x.dims();
        let tokens = x.clone().reshape([batch * seq, hidden]);
        let choices = self.gate.choices(tokens.clone(), &self.routing, step.queries);
        step.routed = Some(Routed { x: tokens, choices, weighs_input: self.routing.weighs_input });
        match (&self.shared_experts, &self.shared_expert_gate) {
            (None, _) => residual,
            (Some(shared), None) => shared.forward(x.into(), residual),
            (Some(shared), Some(gate)) => residual + sigmoid(gate.forward(x.clone())) * shared.forward(x.into(), None),
        }
    }
}

/// What follows attention in a layer: an MLP, or a mixture of experts in its place.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one in a layer, and it stays where it was made")]
pub enum FeedForward<B: Backend> {
    /// One MLP for every token.
    Dense(GatedMlp<B>),
    /// Experts that tokens choose.
    Moe(Moe<B>),
}

impl<B: Backend> FeedForward<B> {
    /// Hidden states `[batch, seq, hidden_size]` → what is to be added to `residual`, added, but for experts that tokens
    /// choose: these are left in the step.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        match self {
            Self::Dense(mlp) => mlp.forward(input, residual),
            Self::Moe(moe) => moe.forward(input, residual, step),
        }
    }
}
