use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;
use burn::tensor::activation::softplus;

use super::parameter;
use crate::Backend;

/// An activation whose two slopes are learned (Huang & Schlag 2024, arXiv 2411.13010).
#[derive(Module, Debug)]
pub struct Xielu<B: Backend> {
    alpha_p: Param<Tensor<B, 1>>,
    alpha_n: Param<Tensor<B, 1>>,
}

/// Slope at zero.
const BETA: f64 = 0.5;

/// What the exponential's argument does not exceed.
const EPS: f64 = -1e-6;

impl<B: Backend> Xielu<B> {
    /// An activation whose slopes are not yet loaded.
    pub fn new(device: &B::Device) -> Self {
        Self { alpha_p: parameter([1], device), alpha_n: parameter([1], device) }
    }

    /// `[batch, seq, intermediate_size]` → the same.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let dtype = x.dtype();
        let slope = |alpha: &Param<Tensor<B, 1>>| softplus(alpha.val().cast(DType::F32), 1.0).unsqueeze::<3>();
        let x = x.cast(DType::F32);
        let above = x.clone().square() * slope(&self.alpha_p);
        let below = (x.clone().clamp_max(EPS).exp() - 1.0 - x.clone()) * (slope(&self.alpha_n) + BETA);
        let curved = below.mask_where(x.clone().greater_elem(0.0), above);
        (curved + x * BETA).cast(dtype)
    }
}
