// cargo run --release --example custom_attention -- models/demo
//! An attention variant of one's own, compared with the built-in ones: each query sees the first tokens (the
//! "attention sinks" of Xiao et al. 2023, arXiv 2309.17453) and the latest ones, and nothing between.

use burn::backend::Flex;
use burn::prelude::Tensor;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, TensorData};
use leveret::models::layers::{Attention, AttentionInput};
use leveret::{Backend, Model, RunDtype};

/// Sees `sinks` first keys and the `window` latest.
#[derive(Debug)]
struct SinkAttention {
    sinks: i32,
    window: i32,
}

impl<B: Backend> Attention<B> for SinkAttention {
    fn forward(&self, input: AttentionInput<'_, B>) -> Tensor<B, 4> {
        let [batch, heads, queries, head_dim] = input.q.dims();
        let [_, kv_heads, keys, _] = input.k.dims();
        let dtype = input.q.dtype();
        let mut mask = Vec::with_capacity(batch * queries * keys);
        for row in 0..batch {
            for q in 0..queries {
                // By positions and not by places, so that padding and a cache that forgets change nothing.
                let near = |(query, key): (i32, i32)| key < self.sinks || query - key < self.window;
                let seen = |k| input.mask.sees(row, q, k) && near(input.mask.positions(row, q, k));
                mask.extend((0..keys).map(|k| if seen(k) { 0.0 } else { f32::MIN }));
            }
        }
        let mask = TensorData::new(mask, [batch, 1, queries, keys]);
        let mask = Tensor::<B, 4>::from_data(mask, (&input.q.device(), DType::F32));

        let q = input.grouped_queries().cast(DType::F32); // [batch, kv_heads, group · queries, head_dim]
        let scores = q.matmul(input.k.cast(DType::F32).transpose()) * input.scale;
        let weights = softmax(scores.reshape([batch, heads, queries, keys]) + mask, 3);
        let weights = weights.reshape([batch, kv_heads, heads / kv_heads * queries, keys]);
        weights.matmul(input.v.cast(DType::F32)).reshape([batch, heads, queries, head_dim]).cast(dtype)
    }
}

fn main() -> leveret::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "models/demo".into());
    let builder = || Model::<Flex>::builder(&dir).dtype(RunDtype::Float32);
    let mut eager = builder().attention("eager").load()?;
    let mut sdpa = builder().attention("sdpa").load()?;
    let mut narrow = builder().custom_attention(SinkAttention { sinks: 4, window: 8 }).load()?;
    let mut wide = builder().custom_attention(SinkAttention { sinks: 4, window: 1000 }).load()?;

    let tokens: Vec<u32> = (0..64).map(|i| 100 + i * 13 % 900).collect();
    let want = eager.logits(&tokens, &[])?;
    let distance = |logits: Vec<Vec<f32>>| {
        let differences = logits.iter().flatten().zip(want.iter().flatten()).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max)
    };
    let (sdpa, wide, narrow) = (
        distance(sdpa.logits(&tokens, &[])?),
        distance(wide.logits(&tokens, &[])?),
        distance(narrow.logits(&tokens, &[])?),
    );
    println!("largest difference from eager: sdpa {sdpa:.1e}, sinks + 1000 {wide:.1e}, sinks + 8 {narrow:.1e}");
    assert!(sdpa < 1e-3 && wide < 1e-3, "with a window wider than the text the variant is plain attention");
    assert!(narrow > 1e-2, "a narrow one is not");
    Ok(())
}
