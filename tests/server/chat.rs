use serde_json::{Value, json};

use super::running::{Server, chat, events};

#[test]
fn a_chat_completion_has_the_form_of_openai() {
    let server = Server::start(&[]);
    let (status, whole) = server.chat(json!({ "model": "demo", "logprobs": true, "top_logprobs": 2 }));
    assert_eq!(status, 200, "{whole}");
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("demo")));
    let choice = &whole["choices"][0];
    assert_eq!((&choice["message"]["role"], &choice["index"]), (&json!("assistant"), &json!(0)));
    assert_eq!(whole["usage"]["completion_tokens"], choice["logprobs"]["content"].as_array().unwrap().len());
    let first = &choice["logprobs"]["content"][0];
    assert_eq!(first["top_logprobs"][0]["token"], first["token"], "the likeliest is taken");
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);
    assert!(first["logprob"].as_f64().unwrap() <= 0.0);
    let (prompt, all) = (whole["usage"]["prompt_tokens"].as_u64(), whole["usage"]["total_tokens"].as_u64());
    assert_eq!(all.unwrap(), prompt.unwrap() + whole["usage"]["completion_tokens"].as_u64().unwrap());

    let body = chat(json!({ "stream": true, "stream_options": { "include_usage": true } })).to_string();
    let (status, body) = server.ask("POST", "/v1/chat/completions", "", &body);
    assert_eq!(status, 200);
    let events = events(&body);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());
    let [.., last, usage] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(last["choices"][0]["finish_reason"], choice["finish_reason"]);
    assert_eq!((&usage["usage"], &usage["choices"]), (&whole["usage"], &json!([])));
    let rest = &events[..events.len() - 1];
    assert!(rest.iter().all(|event| event.get("usage") == Some(&Value::Null)), "{rest:?}");
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"]));
}
