use burn::module::{Module, Param};
use burn::prelude::Tensor;
use burn::tensor::DType;
use burn::tensor::activation::{sigmoid, silu};

use super::recurrence::{self, Recurrence};
use super::{Input, Linear, RmsNorm, ShortConv, StateShape, Step, parameter};
use crate::config::Activation;
use crate::{Backend, portable};

/// What distinguishes one family's gated delta net from another's.
#[derive(Debug, Clone)]
pub struct DeltaNetConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Heads of queries and keys.
    pub num_key_heads: usize,
    /// Heads of values; as many for each of those.
    pub num_value_heads: usize,
    /// Width of a query or key.
    pub key_head_dim: usize,
    /// Width of a value.
    pub value_head_dim: usize,
    /// Columns that the convolution sees, the last itself included.
    pub kernel: usize,
    /// What follows the convolution.
    pub hidden_act: Activation,
    /// Epsilon of the norm of answers.
    pub norm_eps: f64,
    /// Whether one matrix makes queries, keys, values and gates, key head by key head.
    pub grouped: bool,
}

impl DeltaNetConfig {
    /// What a layer keeps.
    pub fn state(&self) -> StateShape {
        let recurrent = [self.num_value_heads, self.key_head_dim, self.value_head_dim];
        let channels = self.channels();
        StateShape {
            conv: [self.kernel - 1, channels],
            recurrent,
            scratch: 4 * channels + recurrence::scratch(recurrent),
            once: 0,
        }
    }

    fn key_dim(&self) -> usize {
        self.num_key_heads * self.key_head_dim
    }

    fn value_dim(&self) -> usize {
        self.num_value_heads * self.value_head_dim
    }

    /// Numbers of queries, keys and values, which go through the convolution.
    fn channels(&self) -> usize {
        2 * self.key_dim() + self.value_dim()
    }
}

/// Linear attention by the gated delta rule, behind a short convolution (Yang et al. 2024, arXiv 2412.06464).
#[derive(Module, Debug)]
pub struct DeltaNet<B: Backend> {
    /// Queries, keys, values and gates.
    in_proj_qkvz: Option<Linear<B>>,
    in_proj_ba: Option<Linear<B>>,
    in_proj_qkv: Option<Linear<B>>,
    in_proj_z: Option<Linear<B>>,
    in_proj_b: Option<Linear<B>>,
    in_proj_a: Option<Linear<B>>,
    conv1d: ShortConv<B>,
    dt_bias: Param<Tensor<B, 1>>,
    a_log: Param<Tensor<B, 1>>,
    norm: RmsNorm<B>,
    out_proj: Linear<B>,
    #[module(skip)]
    config: DeltaNetConfig,
}

/// What the matrices make of hidden states.
struct Projected<B: Backend> {
    /// Queries, keys and values, `[batch, seq, channels]`.
    qkv: Tensor<B, 3>,
    /// What gates the answers, `[batch, seq, value_dim]`.
    z: Tensor<B, 3>,
    /// `[batch, seq, num_value_heads]`.
    b: Tensor<B, 3>,
    /// `[batch, seq, num_value_heads]`.
    a: Tensor<B, 3>,
}

impl<B: Backend> DeltaNet<B> {
    /// A layer whose parameters are not yet loaded.
    pub fn new(config: &DeltaNetConfig, device: &B::Device) -> Self {
        let (heads, value_dim, channels) = (config.num_value_heads, config.value_dim(), config.channels());
        let linear = |outputs| Linear::new(config.hidden_size, outputs, false, device);
        let grouped = |outputs| config.grouped.then(|| linear(outputs));
        let apart = |outputs| (!config.grouped).then(|| linear(outputs));
        Self {
            in_proj_qkvz: grouped(channels + value_dim),
            in_proj_ba: grouped(2 * heads),
            in_proj_qkv: apart(channels),
            in_proj_z: apart(value_dim),
            in_proj_b: apart(heads),
            in_proj_a: apart(heads),
            conv1d: ShortConv::new(channels, config.kernel, false, device),
            dt_bias: parameter([heads], device),
            a_log: parameter([heads], device),
            norm: RmsNorm::new(config.value_head_dim, config.norm_eps, device),
            out_proj: Linear::new(value_dim, config.hidden_size, false, device),
            config: config.clone(),
        }
    }

    /// Hidden states `[batch, seq, hidden_size]` → the same, added to `residual`; the state takes them in.
    pub fn forward(&self, input: Input<'_, B>, residual: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let DeltaNetConfig { num_key_heads, num_value_heads, key_head_dim, value_head_dim, .. } = self.config;
        let (dtype, [batch, seq, _]) = (input.x.dtype(), input.x.dims());
        let (queries, state) = (step.queries, step.cache.state());
        let Projected { qkv, z, b, a } = self.projected(queries.without_padding(input.normed()));

        let qkv = portable::activated(self.config.hidden_act, self.conv1d.forward(qkv, state));
        let key_dim = self.config.key_dim();
        // [batch, seq, heads · width] → [batch, num_value_heads, seq, width]
        let heads = |first, heads: usize, width| {
            let x = qkv.clone().narrow(2, first, heads * width).reshape([batch, seq, heads, 1, width]);
            let x = x.expand([batch, seq, heads, num_value_heads / heads, width]);
            x.reshape([batch, seq, num_value_heads, width]).swap_dims(1, 2)
        };
        let q = portable::of_length_one(heads(0, num_key_heads, key_head_dim)) * (key_head_dim as f64).powf(-0.5);
        let k = portable::of_length_one(heads(key_dim, num_key_heads, key_head_dim));
        let v = heads(2 * key_dim, num_value_heads, value_head_dim);

        // [batch, seq, heads] → [batch, heads, seq, 1]
        let column = |x: Tensor<B, 3>| portable::split(x.swap_dims(1, 2), [batch, num_value_heads, seq, 1]);
        let rate = self.a_log.val().cast(DType::F32).exp().unsqueeze::<3>();
        let time = portable::softplus(a.cast(DType::F32) + self.dt_bias.val().cast(DType::F32).unsqueeze());
        let (decay, beta) = (column(time * rate.neg()), Some(column(sigmoid(b.cast(DType::F32)))));
        let all = Recurrence { q, k, v, decay, beta };
        let answers = state.recur([batch, seq], &all.q.device(), |state| all.apply(state));

        let answers = answers.swap_dims(1, 2); // [batch, seq, num_value_heads, value_head_dim]
        let gates = silu(z.cast(DType::F32)).reshape([batch, seq, num_value_heads, value_head_dim]);
        let out = (self.norm.forward(answers) * gates).reshape([batch, seq, num_value_heads * value_head_dim]);
        self.out_proj.onto(out.cast(dtype), Some(residual))
    }

    fn projected(&self, x: Tensor<B, 3>) -> Projected<B> {
        let matrices = (&self.in_proj_qkvz, &self.in_proj_ba);
        if let (Some(qkvz), Some(ba)) = matrices {
            let [qkvz, ba] = B::linears(x.into(), [qkvz, ba]);
            return self.ungrouped(qkvz, ba);
        }
        let apart = (&self.in_proj_qkv, &self.in_proj_z, &self.in_proj_b, &self.in_proj_a);
        let (Some(qkv), Some(z), Some(b), Some(a)) = apart else {
            unreachable!("a layer has either two matrices or four")
        };
        let [qkv, z, b, a] = B::linears(x.into(), [qkv, z, b, a]);
        Projected { qkv, z, b, a }
    }

    /// Takes apart what two matrices make, in which the parts of each key head lie together.
    fn ungrouped(&self, qkvz: Tensor<B, 3>, ba: Tensor<B, 3>) -> Projected<B> {
        let [batch, seq, _] = qkvz.dims();
        let groups = self.config.num_key_heads;
        let values = self.config.num_value_heads / groups;
        let (key, value) = (self.config.key_head_dim, values * self.config.value_head_dim);
        let part = |x: &Tensor<B, 3>, first: usize, width: usize| {
            let group = x.dims()[2] / groups;
            let x = x.clone().reshape([batch, seq, groups, group]).narrow(3, first, width);
            x.reshape([batch, seq, groups * width])
        };
        let qkv = [(0, key), (key, key), (2 * key, value)].map(|(first, width)| part(&qkvz, first, width));
        Projected {
            qkv: Tensor::cat(qkv.into(), 2),
            z: part(&qkvz, 2 * key + value, value),
            b: part(&ba, 0, values),
            a: part(&ba, values, values),
        }
    }
}
