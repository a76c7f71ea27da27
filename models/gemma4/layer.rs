use burn::module::{Module, Param};
use burn::prelude::Tensor;

use super::router::Gemma4Router;
use crate::layers::{GatedMlp, LayerInput, LayerInputs, Opening, RmsNorm, SelfAttention, Step};
use crate::{Backend, DecoderLayer};

/// One layer of a Gemma 4. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct Gemma4Layer<B: Backend> {
    pub(super) opening: Option<Opening<B>>,
    pub(super) layer_inputs: Option<LayerInputs<B>>,
    pub(super) input_layernorm: RmsNorm<B>,
    pub(super) self_attn: SelfAttention<B>,
    pub(super) post_attention_layernorm: RmsNorm<B>,
    pub(super) pre_feedforward_layernorm: RmsNorm<B>,
    pub(super) mlp: GatedMlp<B>,
    pub(super) post_feedforward_layernorm: RmsNorm<B>,
    pub(super) experts: Option<BesideMlp<B>>,
    pub(super) layer_input: Option<LayerInput<B>>,
    pub(super) layer_scalar: Param<Tensor<B, 1>>,
}

/// What a layer has for experts that work beside its MLP.
#[derive(Module, Debug)]
pub(super) struct BesideMlp<B: Backend> {
    pub(super) router: Gemma4Router<B>,
    /// Of what experts are given.
    pub(super) pre_feedforward_layernorm_2: RmsNorm<B>,
    /// Of what the MLP makes.
    pub(super) post_feedforward_layernorm_1: RmsNorm<B>,
    /// Of what experts make.
    pub(super) post_feedforward_layernorm_2: RmsNorm<B>,
}

impl<B: Backend> DecoderLayer<B> for Gemma4Layer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = match &self.opening {
            Some(opening) => opening.forward(x, step.queries),
            None => x,
        };
        if let Some(inputs) = &self.layer_inputs {
            *step.layer_inputs = step.layer_inputs.take().map(|rows| inputs.forward(x.clone(), rows));
        }
        let attended = self.self_attn.forward(self.input_layernorm.before(x.clone()), None, step);
        let x = x + self.post_attention_layernorm.forward(attended);
        match &self.experts {
            Some(experts) => {
                let given = experts.pre_feedforward_layernorm_2.forward(x.clone());
                step.routed = Some(experts.router.route(x.clone(), given, step.queries));
                x
            }
            None => self.end(x, None, step.layer_inputs.as_ref()),
        }
    }

    fn finish(&self, x: Tensor<B, 3>, mixture: Tensor<B, 3>, inputs: Option<&Tensor<B, 3>>) -> Tensor<B, 3> {
        self.end(x, Some(mixture), inputs)
    }
}

impl<B: Backend> Gemma4Layer<B> {
    /// What follows attention, of `x: [batch, seq, hidden_size]` and what experts have made of it, if there are some.
    fn end(&self, x: Tensor<B, 3>, mixture: Option<Tensor<B, 3>>, inputs: Option<&Tensor<B, 3>>) -> Tensor<B, 3> {
        let made = self.mlp.forward(self.pre_feedforward_layernorm.before(x.clone()), None);
        let made = match (&self.experts, mixture) {
            (Some(norms), Some(mixture)) => {
                norms.post_feedforward_layernorm_1.forward(made) + norms.post_feedforward_layernorm_2.forward(mixture)
            }
            _ => made,
        };
        let x = x + self.post_feedforward_layernorm.forward(made);
        let x = match (&self.layer_input, inputs) {
            (Some(input), Some(inputs)) => x.clone() + input.forward(x, inputs),
            _ => x,
        };
        let dtype = x.dtype();
        x * self.layer_scalar.val().cast(dtype).unsqueeze()
    }
}
