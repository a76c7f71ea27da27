use serde_json::{Value, json};

use super::running::Server;

#[test]
fn completions_take_texts_and_tokens() {
    let server = Server::start(&[]);
    let complete = |more: Value| {
        let mut body = json!({ "prompt": "The mansion in Saville Row", "temperature": 0, "max_tokens": 8 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/completions", &body)
    };
    let (status, one) = complete(json!({ "logprobs": 1 }));
    assert_eq!((status, &one["object"]), (200, &json!("text_completion")));
    let text = one["choices"][0]["text"].as_str().unwrap();
    assert!(text.starts_with(", though not sumptuous"), "{text}");
    assert_eq!(one["choices"][0]["finish_reason"], "length");
    assert_eq!(one["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 8);
    let prompts = json!(["Phileas Fogg", "The mansion in Saville Row"]);
    let (_, several) = complete(json!({ "prompt": prompts, "n": 2 }));
    let texts: Vec<_> = several["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!((texts.len(), texts[2], texts[3]), (4, &one["choices"][0]["text"], &one["choices"][0]["text"]));
    let (_, stopped) = complete(json!({ "stop": "not" }));
    assert_eq!(
        (&stopped["choices"][0]["text"], &stopped["choices"][0]["finish_reason"]),
        (&json!(", though "), &json!("stop"))
    );
    let (_, tokens) = complete(json!({ "prompt": [5, 6, 7], "max_completion_tokens": 2 }));
    assert_eq!(tokens["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 }));
    let sampled = |seed: u64| complete(json!({ "temperature": 1.5, "seed": seed })).1["choices"][0]["text"].clone();
    assert_eq!(sampled(1), sampled(1));
    assert_ne!(sampled(1), sampled(2));
}
