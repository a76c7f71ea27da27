// cargo run --release --example batch -- models/demo
//! Several prompts of different lengths in one pass: weights are brought once for all of them.

use burn::backend::Flex;
use leveret::{GenerateOptions, Model};

fn main() -> leveret::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "models/demo".into());
    let prompts = ["The mansion in Saville Row", "Chapter", "Phileas Fogg, having shut the door of his house"];
    let options = GenerateOptions { temperature: Some(0.0), max_tokens: Some(20), ..Default::default() };

    let mut model = Model::<Flex>::from_pretrained(dir)?;
    let (completions, stats) = model.generate_batch(prompts, &options)?;
    for (prompt, completion) in prompts.iter().zip(&completions) {
        println!("{prompt}{}\n", completion.text);
    }
    println!("{} prompts, {} passes", prompts.len(), 1 + stats.decode.len());
    Ok(())
}
