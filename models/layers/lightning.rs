use burn::module::Module;
use burn::prelude::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::{DType, TensorData};

use super::recurrence::{self, Recurrence};
use super::{Input, Linear, RmsNorm, StateShape, Step};
use crate::config::Activation;
use crate::{Backend, portable};

/// Epsilon of the norm of what heads give, whatever the config says.
const EPS: f64 = 1e-6;

/// What distinguishes one layer's lightning attention from another's.
#[derive(Debug, Clone)]
pub struct LightningConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Heads.
    pub num_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// What follows queries, keys and values.
    pub hidden_act: Activation,
    /// How much the first head forgets with each column, on a logarithmic scale; each further one less.
    pub slope: f64,
}

impl LightningConfig {
    /// What a layer keeps.
    pub fn state(&self) -> StateShape {
        let recurrent = [self.num_heads, self.head_dim, self.head_dim];
        let scratch = 8 * self.num_heads * self.head_dim + recurrence::scratch(recurrent);
        StateShape { recurrent, scratch, ..StateShape::default() }
    }
}

/// Linear attention that forgets at a steady rate (Qin et al. 2024, arXiv 2401.04658). Field names are the checkpoint's.
#[derive(Module, Debug)]
pub struct Lightning<B: Backend> {
    qkv_proj: Linear<B>,
    output_gate: Linear<B>,
    norm: RmsNorm<B>,
    out_proj: Linear<B>,
    #[module(skip)]
    config: LightningConfig,
}

impl<B: Backend> Lightning<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(config: &LightningConfig, device: &B::Device) -> Self {
        let (hidden, inner) = (config.hidden_size, config.num_heads * config.head_dim);
        Self {
            qkv_proj: Linear::new(hidden, 3 * inner, false, device),
            output_gate: Linear::new(hidden, inner, false, device),
            norm: RmsNorm::new(inner, EPS, device),
            out_proj: Linear::new(inner, hidden, false, device),
            config: config.clone(),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same; the state takes them in.
    pub fn forward(&self, input: Input<'_, B>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let LightningConfig { num_heads, head_dim, hidden_act, .. } = self.config;
        let (dtype, [batch, seq, _], device) = (input.x.dtype(), input.x.dims(), input.x.device());
        let [qkv, gate] = B::linears(input, [&self.qkv_proj, &self.output_gate]);
        let qkv = step.queries.without_padding(portable::activated(hidden_act, qkv)).cast(DType::F32);
        let qkv = qkv.reshape([batch, seq, num_heads, 3 * head_dim]).swap_dims(1, 2);
        let [q, k, v] = [0, 1, 2].map(|part| qkv.clone().narrow(3, part * head_dim, head_dim));
        let decay = self.decay(&device).expand([batch, num_heads, seq, 1]);
        let all = Recurrence { q, k, v, decay, beta: None };
        let out = step.cache.state().recur([batch, seq], &device, |state| all.apply(state));
        let out = out.swap_dims(1, 2).reshape([batch, seq, num_heads * head_dim]).cast(dtype);
        self.out_proj.forward(self.norm.forward(out) * sigmoid(gate))
    }

    /// The logarithm of what each head keeps from column to column, `[1, num_heads, 1, 1]`.
    fn decay(&self, device: &B::Device) -> Tensor<B, 4> {
        let heads = self.config.num_heads;
        let rate = |head: usize| (-8.0 * (head + 1) as f64 / heads as f64).exp2() * self.config.slope;
        let decay: Vec<_> = (0..heads).map(|head| -rate(head) as f32).collect();
        Tensor::from_data(TensorData::new(decay, [1, heads, 1, 1]), (device, DType::F32))
    }
}
