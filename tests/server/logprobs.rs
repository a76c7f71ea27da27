use serde_json::{Value, json};

use super::running::Server;
use crate::support::demo;

/// The id of a word of the demo's vocabulary.
fn id(word: &str) -> String {
    let text = std::fs::read_to_string(demo().join("tokenizer.json")).unwrap();
    let tokenizer: Value = serde_json::from_str(&text).unwrap();
    tokenizer["model"]["vocab"][word].to_string()
}

/// Bytes put together are the text, whatever the tokens cut in two.
#[test]
fn parts_of_characters_are_told_by_their_bytes() {
    let server = Server::start(&[]);
    // The first byte of `é`, as byte-level vocabularies write it; nothing else can come.
    let bias = json!({ id("Ã"): 100 });
    let more = json!({ "logprobs": true, "top_logprobs": 2, "logit_bias": bias, "max_tokens": 2 });
    let (status, body) = server.chat(more);
    assert_eq!(status, 200, "{body}");
    for token in body["choices"][0]["logprobs"]["content"].as_array().unwrap() {
        assert_eq!((&token["token"], &token["bytes"]), (&json!("bytes:\\xc3"), &json!([0xc3])), "{body}");
        assert!(token["top_logprobs"][0]["bytes"].as_array().is_some_and(|bytes| !bytes.is_empty()), "{body}");
    }
    let more = json!({ "prompt": "Good day", "logprobs": 1, "logit_bias": bias, "max_tokens": 1, "temperature": 0 });
    let (_, body) = server.post("/v1/completions", &more);
    let logprobs = &body["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["bytes:\\xc3"]));
    // The likeliest, and the one that came.
    let top = logprobs["top_logprobs"][0].as_object().unwrap();
    assert!(top.len() == 2 && top["bytes:\\xc3"] == logprobs["token_logprobs"][0], "{body}");
}

#[test]
fn the_end_of_a_sequence_has_its_name() {
    let server = Server::start(&[]);
    let more = json!({ "logprobs": true, "logit_bias": { "0": 100 } });
    let (_, body) = server.chat(more);
    let choice = &body["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!(""), &json!("stop")), "{body}");
    let end = &choice["logprobs"]["content"][0];
    assert_eq!((&end["token"], &end["bytes"]), (&json!("<|endoftext|>"), &json!("<|endoftext|>".as_bytes())), "{body}");
}

/// Words begin with the space that stands before them.
#[test]
fn tokens_put_together_are_the_text() {
    let server = Server::start(&[]);
    let (_, body) = server.chat(json!({ "logprobs": true, "max_tokens": 30, "ignore_eos": true }));
    let choice = &body["choices"][0];
    let bytes = choice["logprobs"]["content"].as_array().unwrap().iter().flat_map(|token| {
        token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect::<Vec<_>>()
    });
    assert_eq!(String::from_utf8(bytes.collect()).unwrap(), choice["message"]["content"].as_str().unwrap());
}
