// cargo run --release --example budget -- models/demo
//! The same reply in less and less memory.

use burn::backend::Flex;
use leveret::{Budget, GenerateOptions, Model};

fn main() -> leveret::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "models/demo".into());
    let prompt = "The mansion in Saville Row";
    let options = GenerateOptions { temperature: Some(0.0), max_tokens: Some(20), ..Default::default() };

    let mut replies = Vec::new();
    for ram in [Budget::Free, Budget::Bytes(12 << 20), Budget::Min] {
        let mut model = Model::<Flex>::builder(&dir).ram(ram).load()?;
        let (completion, stats) = model.generate(prompt, &options)?;
        println!(
            "{ram:?}: {} of {} units resident, {:.1} MiB planned, {:.1} MiB read a token",
            stats.resident_units,
            stats.units,
            stats.planned_bytes as f64 / f64::from(1 << 20),
            stats.decode[0].read_bytes as f64 / f64::from(1 << 20),
        );
        replies.push(completion.text);
    }
    assert!(replies.iter().all(|reply| *reply == replies[0]), "memory changes nothing but time");
    println!("{prompt}{}", replies[0]);
    Ok(())
}
