use burn::module::Module;
use burn::prelude::Tensor;

use super::altup::{AltUp, Projections};
use super::mlp::SparseMlp;
use crate::layers::{LayerInput, LayerInputs, Linear, Opening, RmsNorm, SelfAttention, Step};
use crate::{Backend, DecoderLayer};

/// One layer of a Gemma 3n. Field names are the checkpoint's, but for what stands before the first layer and behind the
/// last.
#[derive(Module, Debug)]
pub struct Gemma3nLayer<B: Backend> {
    pub(super) opening: Option<Opening<B>>,
    pub(super) layer_inputs: Option<LayerInputs<B>>,
    pub(super) altup_projections: Option<Projections<B>>,
    pub(super) altup: AltUp<B>,
    pub(super) input_layernorm: RmsNorm<B>,
    pub(super) laurel: Laurel<B>,
    pub(super) self_attn: SelfAttention<B>,
    pub(super) post_attention_layernorm: RmsNorm<B>,
    pub(super) pre_feedforward_layernorm: RmsNorm<B>,
    pub(super) mlp: SparseMlp<B>,
    pub(super) post_feedforward_layernorm: RmsNorm<B>,
    pub(super) layer_input: LayerInput<B>,
    pub(super) altup_unembed_projections: Option<Projections<B>>,
    /// Streams of hidden states.
    pub(super) streams: usize,
}

/// A learned augmented residual layer (Menghani et al. 2024, arXiv 2411.07501): a way beside attention, of low rank.
#[derive(Module, Debug)]
pub(super) struct Laurel<B: Backend> {
    pub(super) linear_left: Linear<B>,
    pub(super) linear_right: Linear<B>,
    pub(super) post_laurel_norm: RmsNorm<B>,
}

impl<B: Backend> Laurel<B> {
    /// `[batch, seq, hidden_size]` → the same.
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let way = self.linear_right.forward(self.linear_left.forward(x.clone()));
        x + self.post_laurel_norm.forward(way)
    }
}

impl<B: Backend> DecoderLayer<B> for Gemma3nLayer<B> {
    /// Hidden states are `streams · hidden_size` wide, but before the first layer and behind the last.
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = self.open(x, step);
        let ([batch, seq, width], count) = (x.dims(), self.streams);
        let predicted = self.altup.predict(x.reshape([batch, seq, count, width / count]));
        let active = self.altup.active(&predicted);
        let input = self.input_layernorm.forward(active.clone());
        let attended = self.self_attn.forward(input.clone().into(), None, step);
        let sum = active + self.post_attention_layernorm.forward(attended) + self.laurel.forward(input);
        let x = sum * std::f64::consts::FRAC_1_SQRT_2;
        let made = self.mlp.forward(self.pre_feedforward_layernorm.before(x.clone()));
        let x = x + self.post_feedforward_layernorm.forward(made);
        let corrected = self.altup.correct(predicted, x);
        let streams = self.with_input(corrected, step.layer_inputs.as_ref()).reshape([batch, seq, width]);
        match &self.altup_unembed_projections {
            Some(projections) => projections.gather(streams),
            None => streams,
        }
    }
}

impl<B: Backend> Gemma3nLayer<B> {
    /// What stands before the first layer: embeddings `[batch, seq, hidden_size]` → streams
    /// `[batch, seq, streams · hidden_size]`.
    fn open(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let x = match &self.opening {
            Some(opening) => opening.forward(x, step.queries),
            None => x,
        };
        if let Some(inputs) = &self.layer_inputs {
            *step.layer_inputs = step.layer_inputs.take().map(|rows| inputs.forward(x.clone(), rows));
        }
        match &self.altup_projections {
            Some(projections) => projections.spread(x),
            None => x,
        }
    }

    /// Streams `[batch, seq, streams, hidden_size]` with what the layer makes of its own input added to all but the first.
    fn with_input(&self, streams: Tensor<B, 4>, inputs: Option<&Tensor<B, 3>>) -> Tensor<B, 4> {
        let Some(inputs) = inputs.filter(|_| self.streams > 1) else { return streams };
        let more = self.layer_input.forward(self.altup.output(&streams), inputs);
        let others = streams.clone().narrow(2, 1, self.streams - 1) + more.unsqueeze_dim::<4>(2);
        Tensor::cat(vec![streams.narrow(2, 0, 1), others], 2)
    }
}
