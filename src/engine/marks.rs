use burn::prelude::Tensor;
use burn::tensor::DType;
use leveret_models::Backend;

use crate::unit::Unit;

/// Marks along a pass, from which it can be told afterwards where numbers first went wrong.
///
/// They are looked at only when it has come to that, since looking waits for the device.
pub(super) struct Marks<B: Backend> {
    /// After the embedding and after every layer: the hidden states if they are few, else their sums.
    hidden: Vec<Vec<Tensor<B, 3>>>,
}

/// Positions up to which hidden states are kept as they are.
pub(super) const FEW: usize = 64;

impl<B: Backend> Marks<B> {
    pub(super) fn new() -> Self {
        Self { hidden: Vec::new() }
    }

    /// Marks the hidden states of a pass, chunk by chunk `[batch, columns, hidden_size]`.
    pub(super) fn put(&mut self, hidden: &[Tensor<B, 3>]) {
        let positions: usize = hidden.iter().map(|x| x.dims()[0] * x.dims()[1]).sum();
        let mark = |x: &Tensor<B, 3>| match positions <= FEW {
            true => x.clone(),
            false => x.clone().cast(DType::F32).sum().reshape([1, 1, 1]),
        };
        self.hidden.push(hidden.iter().map(mark).collect());
    }

    /// The place where NaN or infinity first was.
    pub(super) fn first_not_finite(self, units: &[Unit]) -> String {
        let finite = |x: Tensor<B, 3>| x.cast(DType::F32).into_data().iter::<f32>().all(f32::is_finite);
        match self.hidden.into_iter().position(|hidden| !hidden.into_iter().all(finite)) {
            Some(0) => "the embedding".to_owned(),
            Some(unit) => units[unit - 1].kind.to_string(),
            None => "the head".to_owned(),
        }
    }
}
