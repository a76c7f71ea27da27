use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;

use crate::Backend;
use crate::layers::{Positions, RmsNorm, Routed, Router, Routing, parameter};

/// Gemma 4's router: it norms what it reads by itself, and weighs each expert by a factor of its own.
#[derive(Module, Debug)]
pub(super) struct Gemma4Router<B: Backend> {
    /// The weight of a norm.
    scale: Param<Tensor<B, 1>>,
    proj: Router<B>,
    per_expert_scale: Param<Tensor<B, 1>>,
    eps: f64,
    #[module(skip)]
    routing: Routing,
}

impl<B: Backend> Gemma4Router<B> {
    /// A router whose parameters are not yet loaded.
    pub(super) fn new(
        proj: Router<B>,
        routing: Routing,
        [experts, hidden]: [usize; 2],
        eps: f64,
        device: &B::Device,
    ) -> Self {
        Self { scale: parameter([hidden], device), proj, per_expert_scale: parameter([experts], device), eps, routing }
    }

    /// Who works on which of `given`, by what `x` says; both `[batch, seq, hidden_size]`.
    pub(super) fn route(&self, x: Tensor<B, 3>, given: Tensor<B, 3>, queries: &Positions) -> Routed<B> {
        let [batch, seq, hidden] = x.dims();
        let root = (hidden as f64).powf(-0.5);
        let normed = RmsNorm::of(self.scale.clone(), self.eps).forward(x.cast(DType::F32)) * root;
        let mut choices = self.proj.choices(normed.reshape([batch * seq, hidden]), &self.routing, queries);
        let scales: Vec<f32> = self.per_expert_scale.val().cast(DType::F32).into_data().iter().collect();
        choices.iter_mut().for_each(|choice| choice.weight *= scales[choice.expert]);
        Routed { x: given.reshape([batch * seq, hidden]), choices, weighs_input: false }
    }
}
