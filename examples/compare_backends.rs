// cargo run --release --features ndarray --example compare_backends -- models/demo
//! The same model on two backends: how far their logits lie apart, and how fast each is.

use std::time::Instant;

use burn::backend::{Flex, NdArray};
use leveret::{Backend, GenerateOptions, Model, RunDtype};

/// Logits `[tokens][vocab_size]` of a text, and seconds a token of a reply to it.
fn run<B: Backend>(dir: &str, tokens: &[u32]) -> leveret::Result<(Vec<Vec<f32>>, f64)> {
    let mut model = Model::<B>::builder(dir).dtype(RunDtype::Float32).load()?;
    let logits = model.logits(tokens, &[])?;
    let options = GenerateOptions {
        temperature: Some(0.0),
        max_tokens: Some(32),
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    let started = Instant::now();
    let (completion, _) = model.generate(tokens.to_vec(), &options)?;
    Ok((logits, started.elapsed().as_secs_f64() / completion.tokens.len() as f64))
}

fn main() -> leveret::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "models/demo".into());
    let tokens: Vec<u32> = (0..64).map(|i| 100 + i * 13 % 900).collect();
    let (flex, flex_time) = run::<Flex>(&dir, &tokens)?;
    let (ndarray, ndarray_time) = run::<NdArray>(&dir, &tokens)?;

    let differences = flex.iter().flatten().zip(ndarray.iter().flatten()).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f32::max);
    println!("flex {:.2} ms a token, ndarray {:.2} ms", 1e3 * flex_time, 1e3 * ndarray_time);
    println!("largest difference of two logits: {largest:.1e}");
    assert!(largest < 1e-3, "backends compute the same");
    Ok(())
}
