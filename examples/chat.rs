// cargo run --release --example chat -- models/demo
//! A conversation of two turns: of the second, only what is new is computed.

use burn::backend::Flex;
use leveret::{Conversation, GenerateOptions, Message, Model};

fn main() -> leveret::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "models/demo".into());
    let options = GenerateOptions { temperature: Some(0.0), max_tokens: Some(30), ..Default::default() };

    let mut model = Model::<Flex>::from_pretrained(dir)?;
    let mut session = model.session(512)?;
    let mut messages = vec![Message::system("You are Phileas Fogg.")];
    for question in ["Where do you live?", "And who is Passepartout?"] {
        messages.push(Message::user(question));
        let conversation =
            Conversation { messages: messages.clone(), add_generation_prompt: true, ..Default::default() };
        let (mut completions, stats) = model.stream_in(&mut session, conversation, &options)?.finish()?;
        let reply = completions.remove(0).text;
        println!("> {question}\n{}\n({} new tokens read)\n", reply.trim(), stats.prefill.tokens);
        messages.push(Message::assistant(reply));
    }
    Ok(())
}
