use burn::prelude::Tensor;
use burn::tensor::DType;
use burn::tensor::activation::softmax;

use super::{Attention, AttentionInput, product};
use crate::Backend;

/// Attention by the definition: all scores are held at once, and the mask is added to them.
///
/// Memory grows with `q · k`. Everything is computed in f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct Eager;

impl<B: Backend> Attention<B> for Eager {
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4> {
        let [batch, heads, q, head_dim] = input.q.dims();
        let (kv_heads, k) = (input.k.dims()[1], input.columns.len());
        let grouped = [batch, kv_heads, heads / kv_heads * q, k];
        let dtype = input.q.dtype();
        let device = input.q.device();
        let lowest = lowest(dtype);
        let mask = input.mask.additive::<B>(0..q, 0..k, lowest, &device); // [batch, 1, q, k]

        let (queries, keys) = (input.grouped_queries().cast(DType::F32), input.keys().cast(DType::F32));
        let scores = product(dtype, queries, keys.transpose());
        let scores = input.shaped((scores * input.scale).reshape([batch, heads, q, k]), 0..k) + mask;
        let weights = match &input.sinks {
            Some(sinks) => {
                let sinks = sinks.clone().cast(DType::F32).reshape([1, heads, 1, 1]).expand([batch, heads, q, 1]);
                softmax(Tensor::cat(vec![scores, sinks], 3), 3).narrow(3, 0, k)
            }
            None => softmax(scores, 3),
        };
        let weights = weights.reshape(grouped);
        product(dtype, weights, input.values().cast(DType::F32)).reshape([batch, heads, q, head_dim]).cast(dtype)
    }
}

/// The lowest finite value of a float dtype.
fn lowest(dtype: DType) -> f32 {
    match dtype {
        DType::F16 => half::f16::MIN.to_f32(),
        DType::BF16 => half::bf16::MIN.to_f32(),
        _ => f32::MIN,
    }
}
