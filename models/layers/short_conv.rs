use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;

use super::{State, parameter};
use crate::Backend;

/// A convolution over the last few columns, each channel for itself. Field names are those of `Conv1d`.
#[derive(Module, Debug)]
pub struct ShortConv<B: Backend> {
    /// `[channels, 1, columns]`.
    weight: Param<Tensor<B, 3>>,
    bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> ShortConv<B> {
    /// A convolution over `columns` columns, the last itself included, whose parameters are not yet loaded.
    pub fn new(channels: usize, columns: usize, bias: bool, device: &B::Device) -> Self {
        let bias = bias.then(|| parameter([channels], device));
        Self { weight: parameter([channels, 1, columns], device), bias }
    }

    /// `[batch, seq, channels]` → the same in f32; the columns before are the state's.
    pub fn forward(&self, x: Tensor<B, 3>, state: &mut State<B>) -> Tensor<B, 3> {
        let seq = x.dims()[1];
        self.over(state.preceded(x), seq)
    }

    /// The same of the last `seq` columns, with those before them in front: `[batch, columns - 1 + seq, channels]`.
    pub(super) fn over(&self, around: Tensor<B, 3>, seq: usize) -> Tensor<B, 3> {
        let (channels, around) = (around.dims()[2], around.cast(DType::F32));
        let weight = self.weight.val().cast(DType::F32);
        let columns = weight.dims()[2];
        let tap = |column: usize| {
            let weight = weight.clone().narrow(2, column, 1).reshape([1, 1, channels]);
            around.clone().narrow(1, column, seq) * weight
        };
        let sum = (1..columns).map(tap).fold(tap(0), |sum, tap| sum + tap);
        match &self.bias {
            Some(bias) => sum + bias.val().cast(DType::F32).unsqueeze(),
            None => sum,
        }
    }
}
