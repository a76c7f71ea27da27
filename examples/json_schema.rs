// cargo run --release --example json_schema -- models/demo
//! A reply that is JSON of a schema, whatever the model would rather say.

use burn::backend::Flex;
use leveret::{GenerateOptions, JsonSchema, Model};
use serde_json::{Value, json};

fn main() -> leveret::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "models/demo".into());
    let options = GenerateOptions { temperature: Some(0.0), max_tokens: Some(60), ..Default::default() };
    let schema = json!({
        "type": "object",
        "properties": { "town": { "enum": ["London", "Bombay", "Hong Kong"] }, "days": { "enum": [7, 80] } },
        "required": ["town", "days"],
        "additionalProperties": false
    });

    let mut model = Model::<Flex>::from_pretrained(dir)?;
    let constraint = JsonSchema::new(&model.grammars()?, &schema)?;
    let prompt = model.encoder().encode("Phileas Fogg travels:")?;
    let mut batch = model.batch(1, 256)?;
    batch.join_several(prompt, &options, vec![Some(Box::new(constraint))])?;
    let mut reply = String::new();
    while !batch.is_empty() {
        batch.step()?.0.iter().for_each(|token| reply.push_str(&token.text));
    }
    let value: Value = serde_json::from_str(&reply).expect("the reply is JSON");
    println!("town {}, days {}", value["town"], value["days"]);
    Ok(())
}
