use burn::module::Module;
use burn::prelude::Tensor;
use burn::tensor::DType;
use burn::tensor::activation::relu;

use crate::config::{Activation, DecoderConfig};
use crate::layers::{Input, Linear};
use crate::{Backend, portable};

/// A gated MLP of whose gate only the largest numbers count, where it is sparse.
#[derive(Module, Debug)]
pub(super) struct SparseMlp<B: Backend> {
    gate_proj: Linear<B>,
    up_proj: Linear<B>,
    down_proj: Linear<B>,
    /// How many deviations above their mean numbers of the gate begin to count.
    cutoff: Option<f64>,
    #[module(skip)]
    hidden_act: Activation,
}

impl<B: Backend> SparseMlp<B> {
    /// An MLP of this width inside, of whose gate a part, `sparsity`, does not count; its parameters are not yet loaded.
    pub(super) fn new(config: &DecoderConfig, inner: usize, sparsity: f64, device: &B::Device) -> Self {
        let hidden = config.hidden_size;
        Self {
            gate_proj: Linear::new(hidden, inner, false, device),
            up_proj: Linear::new(hidden, inner, false, device),
            down_proj: Linear::new(inner, hidden, false, device),
            cutoff: (sparsity > 0.0).then(|| normal_quantile(sparsity)),
            hidden_act: config.hidden_act,
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same.
    pub(super) fn forward(&self, input: Input<'_, B>) -> Tensor<B, 3> {
        let x = match self.cutoff {
            Some(cutoff) => {
                let [gate, up] = B::linears(input, [&self.gate_proj, &self.up_proj]);
                portable::gated(self.hidden_act, above(gate, cutoff), up)
            }
            None => B::gated_linears(self.hidden_act, input, &self.gate_proj, &self.up_proj),
        };
        self.down_proj.forward(x)
    }
}

/// By how much numbers `[batch, seq, width]` are more than `cutoff` deviations above their mean, or 0.
fn above<B: Backend>(x: Tensor<B, 3>, cutoff: f64) -> Tensor<B, 3> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean = x.clone().mean_dim(2);
    let deviation = (x.clone() - mean.clone()).square().mean_dim(2).sqrt();
    relu(x - (mean + deviation * cutoff)).cast(dtype)
}

/// How many deviations above its mean a normal distribution has the part `p` below, for `p` between 0 and 1.
fn normal_quantile(p: f64) -> f64 {
    let below = |x: f64| 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if below(middle) < p { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::normal_quantile;

    #[test]
    fn quantiles_are_those_of_tables() {
        for (p, x) in [(0.5, 0.0), (0.95, 1.644_853_626_951), (0.01, -2.326_347_874_041)] {
            assert!((normal_quantile(p) - x).abs() < 1e-10, "{p}");
        }
        assert!(normal_quantile(1e-300).is_finite() && normal_quantile(1.0 - f64::EPSILON).is_finite());
    }
}
