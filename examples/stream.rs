// cargo run --release --example stream -- models/demo "Phileas Fogg, having shut the door of his house"
//! Tokens as they come, and the numbers at the end.

use std::io::Write;

use burn::backend::Flex;
use leveret::{GenerateOptions, Model};

fn main() -> leveret::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "models/demo".into());
    let prompt = args.next().unwrap_or_else(|| "Phileas Fogg, having shut the door of his house".into());

    let mut model = Model::<Flex>::from_pretrained(dir)?;
    let options = GenerateOptions { temperature: Some(0.0), max_tokens: Some(60), ..Default::default() };
    print!("{prompt}");
    let mut generation = model.stream(prompt.as_str(), &options)?;
    for token in &mut generation {
        print!("{}", token?.text);
        std::io::stdout().flush().ok();
    }
    println!();
    let stats = generation.stats();
    let pace = stats.seconds_per_token().unwrap_or_default();
    println!("first token after {:.4} s, then {pace:.4} s a token", stats.ttft);
    Ok(())
}
