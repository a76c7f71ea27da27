use serde_json::{Value, json};

use super::running::Server;

/// The JSON is of the schema whatever the model would rather say; keys cost no pass.
#[test]
fn a_schema_is_kept() {
    let server = Server::start(&[]);
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["a_rather_long_name_of_a_field", "yes"],
        "properties": { "a_rather_long_name_of_a_field": { "enum": ["red", "green"] }, "yes": { "type": "boolean" } },
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "it", "strict": true, "schema": schema } });
    let more = json!({ "response_format": format, "max_tokens": 200, "temperature": 1.0, "seed": 5 });
    let (status, body) = server.chat(more);
    assert_eq!((status, &body["choices"][0]["finish_reason"]), (200, &json!("stop")), "{body}");
    let reply: Value = serde_json::from_str(body["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert!(
        reply["yes"].is_boolean() && matches!(reply["a_rather_long_name_of_a_field"].as_str(), Some("red" | "green"))
    );
    let object = json!({ "type": "json_object" });
    let (status, body) = server.chat(json!({ "response_format": object, "max_tokens": 4 }));
    assert_eq!(status, 200);
    assert!(body["choices"][0]["message"]["content"].as_str().unwrap().starts_with('{'), "{body}");
}

#[test]
fn forced_tokens_cost_no_pass() {
    let server = Server::start(&[]);
    let schema = json!({ "const": { "a_rather_long_name_of_a_field": "and a value that can only be this one" } });
    let format = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let (_, body) = server.chat(json!({ "response_format": format, "max_tokens": 200 }));
    let tokens = body["usage"]["completion_tokens"].as_f64().unwrap();
    assert!(server.metric("passes_total") < tokens / 2.0, "{tokens} {}", server.metric("passes_total"));
}

/// A grammar is compiled once for all replies of a request; each goes through it on its own.
#[test]
fn several_replies_keep_a_schema() {
    let server = Server::start(&[]);
    let schema =
        json!({ "type": "array", "items": { "enum": ["red", "green", "blue"] }, "minItems": 2, "maxItems": 4 });
    let format = json!({ "type": "json_object", "schema": schema });
    let body = json!({
        "prompt": ["Colours:", "More of them:"], "n": 4, "response_format": format, "max_tokens": 60,
        "temperature": 3.0, "top_k": 0, "seed": 1,
    });
    let (status, body) = server.post("/v1/completions", &body);
    assert_eq!(status, 200, "{body}");
    let texts: Vec<_> =
        body["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert!(texts.len() == 8 && texts.iter().any(|text| *text != texts[0]), "{texts:?}");
    for text in texts {
        let colours: Vec<String> = serde_json::from_str(text).unwrap();
        assert!(colours.iter().all(|colour| ["red", "green", "blue"].contains(&colour.as_str())), "{text}");
    }
}
