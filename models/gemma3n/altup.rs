use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;

use crate::Backend;
use crate::layers::{Linear, RmsNorm, parameter};

/// Alternating updates (Baykal et al. 2023, arXiv 2301.13310): of several streams of hidden states a layer computes one,
/// and the others are predicted before and corrected behind.
#[derive(Module, Debug)]
pub(super) struct AltUp<B: Backend> {
    correct_output_scale: Param<Tensor<B, 1>>,
    correction_coefs: Coefs<B>,
    prediction_coefs: Coefs<B>,
    modality_router: Coefs<B>,
    router_norm: RmsNorm<B>,
    active: usize,
    /// Whether what is computed is scaled before it is read on.
    scales: bool,
}

/// A matrix that is small and counts in all of its bits: never packed, multiplied in f32.
#[derive(Module, Debug)]
struct Coefs<B: Backend> {
    weight: Param<Tensor<B, 2>>,
}

impl<B: Backend> Coefs<B> {
    fn new(shape: [usize; 2], device: &B::Device) -> Self {
        Self { weight: parameter(shape, device) }
    }

    /// `[batch, seq, in]` → `[batch, seq, out]`, both in f32.
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        B::matmul(x, self.weight.val().cast(DType::F32).transpose().unsqueeze())
    }
}

impl<B: Backend> AltUp<B> {
    /// Updates of `streams`, of which the layer computes `active`, their parameters not yet loaded.
    pub(super) fn new(
        (streams, active): (usize, usize),
        (hidden_size, eps): (usize, f64),
        scales: bool,
        device: &B::Device,
    ) -> Self {
        Self {
            correct_output_scale: parameter([hidden_size], device),
            correction_coefs: Coefs::new([streams, streams], device),
            prediction_coefs: Coefs::new([streams * streams, streams], device),
            modality_router: Coefs::new([streams, hidden_size], device),
            router_norm: RmsNorm::new(hidden_size, eps, device),
            active,
            scales,
        }
    }

    /// Streams `[batch, seq, streams, hidden_size]` → what they are foreseen to be, of the same shape.
    pub(super) fn predict(&self, streams: Tensor<B, 4>) -> Tensor<B, 4> {
        let ([batch, seq, count, _], dtype) = (streams.dims(), streams.dtype());
        let coefs = self.prediction_coefs.forward(self.modalities(self.active(&streams)));
        let coefs = coefs.reshape([batch, seq, count, count]);
        streams.clone() + B::matmul(coefs, streams.cast(DType::F32)).cast(dtype)
    }

    /// The stream that the layer computes, `[batch, seq, hidden_size]`.
    pub(super) fn active(&self, streams: &Tensor<B, 4>) -> Tensor<B, 3> {
        streams.clone().narrow(2, self.active, 1).squeeze_dim(2)
    }

    /// What was foreseen, `[batch, seq, streams, hidden_size]`, corrected by what has come of the one that was computed,
    /// `[batch, seq, hidden_size]`.
    pub(super) fn correct(&self, predicted: Tensor<B, 4>, computed: Tensor<B, 3>) -> Tensor<B, 4> {
        let dtype = computed.dtype();
        let coefs = self.correction_coefs.forward(self.modalities(computed.clone())) + 1.0; // [batch, seq, streams]
        let new = computed - self.active(&predicted);
        predicted + new.unsqueeze_dim::<4>(2) * coefs.cast(dtype).unsqueeze_dim(3)
    }

    /// What is read on of corrected streams `[batch, seq, streams, hidden_size]`: `[batch, seq, hidden_size]`.
    pub(super) fn output(&self, corrected: &Tensor<B, 4>) -> Tensor<B, 3> {
        let active = self.active(corrected);
        let dtype = active.dtype();
        if self.scales { active * self.correct_output_scale.val().cast(dtype).unsqueeze() } else { active }
    }

    /// How much of each kind `x: [batch, seq, hidden_size]` is: `[batch, seq, streams]` in f32.
    fn modalities(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let hidden = x.dims()[2] as f64;
        self.modality_router.forward(self.router_norm.forward(x).cast(DType::F32) / hidden).tanh()
    }
}

/// What makes several streams of one, or one of several: a matrix for each but the first.
#[derive(Module, Debug)]
pub(super) struct Projections<B: Backend> {
    list: Vec<Linear<B>>,
}

impl<B: Backend> Projections<B> {
    /// Matrices for `streams` streams, not yet loaded.
    pub(super) fn new(streams: usize, hidden_size: usize, device: &B::Device) -> Self {
        let linear = |_| Linear::new(hidden_size, hidden_size, false, device);
        Self { list: (1..streams).map(linear).collect() }
    }

    /// Hidden states `[batch, seq, hidden_size]` → streams `[batch, seq, streams · hidden_size]`, each as large as they.
    pub(super) fn spread(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let others = self.list.iter().map(|matrix| as_large_as(&x, matrix.forward(x.clone())));
        Tensor::cat(std::iter::once(x.clone()).chain(others).collect(), 2)
    }

    /// Streams `[batch, seq, streams · hidden_size]` → their mean `[batch, seq, hidden_size]`, each as large as the first.
    pub(super) fn gather(&self, streams: Tensor<B, 3>) -> Tensor<B, 3> {
        let count = self.list.len() + 1;
        let width = streams.dims()[2] / count;
        let stream = |index: usize| streams.clone().narrow(2, index * width, width);
        let first = stream(0);
        let others = self.list.iter().zip(1..).map(|(matrix, i)| as_large_as(&first, matrix.forward(stream(i))));
        others.fold(first.clone(), |sum, other| sum + other) / count as f64
    }
}

/// `x`, made as large as `like` is; both `[batch, seq, hidden_size]`.
fn as_large_as<B: Backend>(like: &Tensor<B, 3>, x: Tensor<B, 3>) -> Tensor<B, 3> {
    let dtype = x.dtype();
    let mean_square = |x: &Tensor<B, 3>| x.clone().cast(DType::F32).square().mean_dim(2);
    let (wanted, found) = (mean_square(like).sqrt(), mean_square(&x).clamp_min(1e-5).sqrt());
    (x.cast(DType::F32) * wanted / found).cast(dtype)
}
