// cargo run --release --example generate -- models/demo "The mansion in Saville Row"
//! Three lines from a directory to a reply.

use burn::backend::Flex;
use leveret::{GenerateOptions, Model};

fn main() -> leveret::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "models/demo".into());
    let prompt = args.next().unwrap_or_else(|| "The mansion in Saville Row".into());

    let mut model = Model::<Flex>::from_pretrained(dir)?;
    let (completion, _) = model.generate(prompt.as_str(), &GenerateOptions::default())?;
    println!("{prompt}{}", completion.text);
    Ok(())
}
